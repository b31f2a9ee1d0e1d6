"""The tiny demos of all studies on emulated processors: every file of every out has the bytes of this processor's."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests.support.projects import ROOT, tiny_params, write_params

QEMU = shutil.which("qemu-x86_64")
# Haswell: Intel's first with AVX2, without AVX-512; EPYC-Rome: AMD's instructions and cache sizes.
PROCESSORS = ("Haswell", "EPYC-Rome")
STUDIES = ("bdd100k", "lanes", "offroad", "plates", "slopes")
# qemu 7 crashes in AVX2's gather instructions, which OpenCV's change of hue and saturation uses
WITHOUT_GATHER = {"hyperparameters": {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}}


def outs(folder, study, *emulator):
    """{file: sha256} after all stages of the tiny study have run in `folder`."""
    folder.mkdir()
    yolo = {"phase_defaults": {"ultralytics": WITHOUT_GATHER}} if study in ("plates", "slopes") else {}
    values = tiny_params(study, yolo)
    write_params(folder, values)
    places = [str(ROOT), sysconfig.get_path("purelib")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETRACE_")}
    environment |= {"PYTHONPATH": os.pathsep.join(places), "PYTHONHASHSEED": "0"}
    command = [*emulator, os.path.realpath(sys.executable), "-m", "tests.support.every_stage"]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = (line.split() for line in done.stdout.splitlines() if line.startswith("out "))
    return {file: sha256 for _, file, sha256 in rows}


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 not found (Debian's package qemu-user)")
@pytest.mark.skipif("RETRACE_EMULATE" not in os.environ, reason="emulation takes hours; RETRACE_EMULATE=1 runs it")
@pytest.mark.parametrize("study", STUDIES)
def test_emulated_processors_give_the_same_bytes(tmp_path, study):
    here = outs(tmp_path / "here", study)
    assert any(name.endswith(".safetensors") or name.endswith(".pt") for name in here)
    for processor in PROCESSORS:
        there = outs(tmp_path / processor, study, QEMU, "-cpu", processor)
        assert {name for name in here if here[name] != there.get(name)} == set(), processor
