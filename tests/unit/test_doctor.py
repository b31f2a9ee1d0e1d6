"""`retrace doctor`: each check on a machine that is fit and on one that is not, and what it says to do."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from retrace import nvidia, resources
from retrace.cli import doctor, gpu_memory, hardware
from retrace.cli.doctor import examine
from retrace.cli.findings import ERROR, OK, WARNING, Finding
from retrace.cli.use import render
from retrace.config import merge
from retrace.config.reading import yaml_mapping
from tests.support.projects import ROOT, run, tiny_params, write_params

GIB = 2**30
IDENTITY = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL")


@pytest.fixture(scope="module")
def values():
    """Parameters of a tiny study; made before any test changes the folder."""
    return tiny_params("lanes")


@pytest.fixture
def project(values, tmp_path, monkeypatch):
    """A fit machine: this environment, a Git repository with a commit and an identity, a tiny study, no GPU."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "requirements").mkdir()
    shutil.copy2(ROOT / "requirements" / "runtime.txt", tmp_path / "requirements")
    write_params(tmp_path, values)
    (tmp_path / values["data"]["root"]).mkdir(parents=True, exist_ok=True)
    for command in (["init", "-q"], ["config", "user.name", "a"], ["config", "user.email", "a@example.org"]):
        run(tmp_path, "git", *command, check=True)
    run(tmp_path, "git", "commit", "-q", "--allow-empty", "-m", "x", check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(nvidia, "ROOT", tmp_path)  # whatever this machine has
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(hardware, "check_codecs", list)  # writes a video: tried once below
    monkeypatch.setattr(doctor.environment, "differences", lambda: [])
    monkeypatch.setattr(hardware, "memory", lambda: (16.0, 8.0))
    for name in ("RETRACE_LOCK_SHA256", "RETRACE_ALLOW_UNPINNED", "CUDA_VISIBLE_DEVICES", "RETRACE_IMAGE", *IDENTITY):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def found(check):
    (finding,) = [finding for finding in examine() if finding.check == check]
    return finding


def put_on_path(folder, monkeypatch, name, text, code=0):
    """A program of this name, first on PATH, that prints the text and exits with the code."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_a_fit_machine_has_no_errors_and_every_check_speaks(project):
    findings = list(examine())
    assert [finding for finding in findings if finding.level == ERROR] == []
    named = {finding.check for finding in findings}
    assert {"python", "lock", "params", "torch", "gpu", "dvc", "git", "disk", "shared memory"} <= named
    assert {"folder", "memory", "processor"} <= named


@pytest.mark.parametrize("text", [None, "[project]\nrequires-python = '>=3.11,<3.15'\n"])
def test_an_unsupported_python_is_an_error(project, monkeypatch, text):
    if text:  # else what the installed package says
        (project / "pyproject.toml").write_text(text)
    monkeypatch.setattr(doctor, "PYPROJECT", project / "pyproject.toml")
    supported = doctor.supported_pythons()
    assert found("python").level == OK and ">=3.11" in supported
    monkeypatch.setattr(sys, "version_info", (3, 10, 1, "final", 0))
    finding = found("python")
    assert (finding.level, finding.found) == (ERROR, "Python 3.10.1") and supported in finding.remedy
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    assert text is None or found("python").level == OK


def test_the_projects_own_metadata_is_read():
    assert doctor.PYPROJECT.is_file() and ">=3.11" in doctor.supported_pythons()


@pytest.mark.parametrize(
    ("kind", "flags", "level", "said"),
    [
        ("x86_64", "flags\t\t: fpu sse4_2 fma avx avx2\n", OK, "AVX2 and FMA found"),
        ("x86_64", "flags\t\t: fpu sse4_2 avx\n", WARNING, "AVX2 and FMA not found"),
        ("x86_64", "flags\t\t: fpu sse4_2 fma avx\n", WARNING, "AVX2 not found"),
        ("aarch64", "Features\t: fp asimd\n", OK, "within a tolerance"),
        ("arm64", None, OK, "within a tolerance"),
        ("x86_64", None, OK, "not known"),
    ],
)
def test_what_the_processor_means_for_the_bits(project, monkeypatch, kind, flags, level, said):
    monkeypatch.setattr(hardware.platform, "machine", lambda: kind)
    monkeypatch.setattr(hardware, "CPU_INFO", project / "cpuinfo")
    if flags:
        (project / "cpuinfo").write_text(f"processor\t: 0\n{flags}")
    finding = found("processor")
    assert finding.level == level and said in finding.found


def test_packages_off_the_lock_are_named(project, monkeypatch):
    lines = [f"{name}: locked 1, installed 2" for name in "abcde"]
    monkeypatch.setattr(doctor.environment, "differences", lambda: lines)
    finding = found("lock")
    assert finding.level == ERROR and "a: locked 1" in finding.found and "(+2 more)" in finding.found


def test_an_image_of_another_lock_is_an_error(project, monkeypatch):
    monkeypatch.setenv("RETRACE_LOCK_SHA256", "0" * 64)
    finding = found("lock")
    assert finding.level == ERROR and "make image-cpu" in finding.remedy
    monkeypatch.setenv("RETRACE_ALLOW_UNPINNED", "1")
    finding = found("lock")
    assert finding.level == WARNING and "--allow-unpinned" in finding.found and "every result" in finding.remedy


def test_without_a_lock_file_the_remedy_is_its_folder_or_git(project, monkeypatch):
    (project / "requirements" / "runtime.txt").unlink()
    for image in ("", "0" * 64):
        monkeypatch.setenv("RETRACE_LOCK_SHA256", image)
        finding = found("lock")
        assert finding.level == ERROR and "no such file" in finding.found
        assert "in the project's folder" in finding.remedy and "git checkout -- requirements" in finding.remedy


def test_wrong_parameters_and_missing_data_are_errors(project, values):
    write_params(project, values | {"seed": "x"})
    assert found("params").level == ERROR and "seed" in found("params").found
    write_params(project, merge(values, {"data": {"root": "data/external/nowhere"}}))
    assert found("data").level == ERROR and "data/external/nowhere" in found("data").found


def test_more_threads_than_cores_is_a_warning(project, values):
    write_params(project, merge(values, {"runtime": {"threads": 4096}}))
    assert found("threads").level == WARNING and "4096" in found("threads").found


@pytest.mark.parametrize(
    ("driver", "built", "device", "level", "said"),
    [
        (None, "13.0", "auto", OK, ""),
        (None, "13.0", "cuda", ERROR, "--gpus all"),
        ("535.104.05", "13.0", "auto", ERROR, "make repro CUDA=12.6"),
        ("535.104.05", "13.0", "cuda", ERROR, "580 or newer"),
        ("535.104.05", "13.0", "cpu", WARNING, "580 or newer"),
        ("580.65.06", None, "auto", ERROR, "CUDA=13.0"),
    ],
)
def test_driver_without_a_usable_gpu(project, values, monkeypatch, driver, built, device, level, said):
    if driver:
        (project / "dev").mkdir()
        (project / "dev" / "nvidia0").touch()
        put_on_path(project, monkeypatch, "nvidia-smi", driver)
    monkeypatch.setattr(torch.version, "cuda", built)
    write_params(project, merge(values, {"machine": {"device": device}}))
    finding = found("gpu")
    assert finding.level == level and said in finding.remedy
    assert not driver or not built or driver in finding.found


def test_a_driver_that_does_not_answer_is_quoted_if_there_is_a_device(project, values, monkeypatch):
    write_params(project, merge(values, {"machine": {"device": "auto"}}))
    put_on_path(project, monkeypatch, "nvidia-smi", "NVIDIA-SMI has failed: no communication with the driver", 9)
    assert found("gpu").level == OK
    (project / "dev").mkdir()
    (project / "dev" / "nvidia0").touch()
    finding = found("gpu")
    assert finding.level == ERROR and "NVIDIA-SMI has failed" in finding.found and "exit 9" in finding.found


@pytest.mark.parametrize(("device", "level"), [("auto", WARNING), ("cpu", WARNING), ("cuda", ERROR)])
def test_a_device_that_is_hidden_on_purpose_is_no_error_unless_it_is_wanted(
    project, values, monkeypatch, device, level
):
    (project / "dev").mkdir()
    (project / "dev" / "nvidia0").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_params(project, merge(values, {"machine": {"device": device}}))
    assert found("gpu").level == level and "CUDA_VISIBLE_DEVICES" in found("gpu").found


def several(project, values, **machine):
    write_params(project, merge(values, {"machine": machine}))
    return [(finding.check, finding.level, finding.found) for finding in hardware.check_devices()]


def test_more_devices_or_machines_than_there_are(project, values, monkeypatch):
    monkeypatch.setattr(hardware, "cores", lambda: 4)
    assert several(project, values, device="cpu") == []
    assert [row[:2] for row in several(project, values, device="cpu", devices=2)] == [("devices", OK)]
    ((check, level, said),) = several(project, values, device="cpu", devices=64)
    assert (check, level) == ("devices", WARNING) and "machine.devices = 64 with 1 threads each, 4 cores here" in said
    ((check, level, said),) = several(project, values, device="cpu", nodes=2)
    assert (check, level) == ("nodes", WARNING) and "machine.nodes = 2: `dvc repro` refuses" in said
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [row[:2] for row in several(project, values, device="auto", devices=2)] == [("devices", OK)]
    ((check, level, said),) = several(project, values, device="auto", devices=3)
    assert (check, level) == ("devices", ERROR) and "GPUs here: 2" in said


@pytest.mark.parametrize(("devices", "level"), [(1, OK), (4, WARNING)])
def test_memory_for_every_training_process(project, values, monkeypatch, devices, level):
    monkeypatch.setattr(hardware, "memory", lambda: (16.0, 2.0))
    write_params(project, merge(values, {"machine": {"devices": devices}}))
    finding = found("memory")
    assert finding.level == level and "16.0 GiB, 2.0 GiB of it available" in finding.found
    assert (level == OK) or ("4 training process(es)" in finding.found and "machine.devices" in finding.remedy)


def test_memory_of_a_container_is_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    total, available = resources.memory()
    assert total and available and 0 < available <= total
    (tmp_path / "memory.max").write_text(f"{GIB // 2}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    assert resources.memory() == (0.5, 0.25)
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.memory()[0] == total


def test_a_folder_that_cannot_be_written_is_an_error(project, monkeypatch):
    assert found("folder").level == OK

    def refuse(**options):
        if options["dir"] == ".dvc":
            raise OSError(30, "Read-only file system", ".dvc")
        return (project / "probe").open("w")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = found("folder")
    assert (finding.level, finding.found) == (ERROR, "not writable: .dvc (Read-only file system)")
    assert "--user" in finding.remedy and ":ro" in finding.remedy


@pytest.mark.parametrize(
    ("capability", "free", "level", "said"),
    [((7, 5), 15, OK, ""), ((12, 0), 15, OK, ""), ((7, 0), 15, ERROR, "CUDA=12.6"), ((7, 5), 3, WARNING, "3.0")],
)
def test_each_gpu_with_its_memory_and_architecture(project, values, monkeypatch, capability, free, level, said):
    write_params(project, merge(values, {"machine": {"device": "auto"}}))
    card = SimpleNamespace(name="Card", total_memory=16 * GIB, major=capability[0], minor=capability[1])
    put_on_path(project, monkeypatch, "nvidia-smi", "580.65.06")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_120"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * GIB, 16 * GIB))
    for check in ("gpu 0", "gpu 1"):
        finding = found(check)
        assert finding.level == level and said in finding.found + finding.remedy
        assert f"Card, 16.0 GiB, sm_{capability[0]}{capability[1]}, driver 580.65.06" in finding.found


FULL = {  # GiB of a card -> findings about lanes at full size: pretrain takes 5.5 GiB, the phases 4.1
    24: [],
    5: ["pretrain"],
    4: ["pretrain", "baseline", "mae_ohem"],
}


@pytest.mark.parametrize(("gib", "named"), FULL.items())
def test_the_trainings_are_compared_with_the_memory_of_the_card(project, monkeypatch, gib, named):
    shutil.copytree(ROOT / "studies", project / "studies")
    (project / "params.yaml").write_text(render("lanes", demo=False))
    card = SimpleNamespace(name="Card", total_memory=gib * GIB, major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    findings = gpu_memory.check_gpu_memory()
    assert [finding.found.split()[0] for finding in findings if finding.level == WARNING] == named
    if not named:
        assert [finding.level for finding in findings] == [OK] and "pretrain" in findings[0].found
    for finding in findings[1:]:
        assert "batch_size: 8 and phases." in finding.remedy and "accumulate: 2" in finding.remedy
    # another network, of which nothing was computed, and a demo, which is smaller
    values = yaml_mapping(render("lanes", demo=False), "lanes")
    values["phases"]["baseline"]["input_size"] = [768, 1280]
    write_params(project, values)
    left = [finding.found for finding in gpu_memory.check_gpu_memory() if "baseline" in finding.found]
    (project / "params.yaml").write_text(render("lanes", demo=True))
    assert left == [] and gpu_memory.check_gpu_memory() == []


def test_git_without_identity_or_history(project, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    run(project, "git", "config", "--unset", "user.email", check=True)
    run(project, "git", "config", "user.useConfigOnly", "true", check=True)  # else a host's name may do for an address
    assert found("git").level == WARNING and "`git commit` fails" in found("git").found
    monkeypatch.setenv("GIT_AUTHOR_NAME", "a")
    assert found("git").level == WARNING  # a name alone is no identity
    for name in IDENTITY:
        monkeypatch.setenv(name, "a@example.org")
    assert found("git").level == OK
    shutil.rmtree(project / ".git")
    run(project, "git", "init", "-q", check=True)
    assert found("git").level == ERROR and found("git").remedy.startswith("git add -A && git commit")
    shutil.rmtree(project / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    assert found("git").level == ERROR and found("git").remedy.startswith("git init && git add -A && git commit")


def test_outside_a_dvc_project_and_without_dvc_on_path(project, monkeypatch):
    git = shutil.which("git")
    assert git
    (project / "bin").mkdir()
    (project / "bin" / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(project / "bin"))
    assert found("dvc").level == WARNING and "activate" in found("dvc").remedy
    (project / ".dvc").rmdir()
    assert found("dvc").level == ERROR


@pytest.mark.parametrize(("free", "level"), [(1, ERROR), (5, WARNING), (50, OK)])
def test_disk(project, monkeypatch, free, level):
    usage = SimpleNamespace(total=64 * GIB, used=0, free=free * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert found("disk").level == level


def test_small_shared_memory_matters_only_to_workers(project, values, monkeypatch):
    usage = SimpleNamespace(total=GIB // 16, used=0, free=64 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert found("shared memory").level == OK
    write_params(project, merge(values, {"machine": {"workers": 2}}))
    assert found("shared memory").level == WARNING and "--shm-size" in found("shared memory").remedy


def test_a_check_that_breaks_is_a_finding_and_hides_no_other(project, monkeypatch):
    monkeypatch.setattr(doctor, "metadata", SimpleNamespace(version=lambda name: 1 / 0))
    assert found("dvc").level == ERROR and "ZeroDivisionError" in found("dvc").found
    assert found("git").level == OK


def test_lines_wrap_under_their_column_and_only_problems_have_remedies():
    text = Finding("lock", ERROR, "word " * 40, "make image-cpu").lines(80)
    lines = text.splitlines()
    assert len(lines) > 3 and all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("error    lock           word") and lines[-1] == " " * 24 + "-> make image-cpu"
    assert all(line.startswith(" " * 24) for line in lines[1:])
    assert "->" not in Finding("lock", OK, "fine", "nothing").lines(80)


def test_the_command_ends_with_exit_code_1_and_the_count_of_errors(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-m", "retrace", "doctor"], cwd=tmp_path, env=env, capture_output=True)
    out, err = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == 1 and "checks failed" in err and "Traceback" not in err
    assert out.count("\nerror") + out.startswith("error") == int(err.split()[1])
    assert "codecs" in out and "writes and reads mp4" in out
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in out.splitlines())  # a path stays whole
