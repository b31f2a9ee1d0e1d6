"""What a container of the built image does: no root, no network, nothing writable but the repository and /tmp.

make image-cpu && make test SLOW=1      # or RETRACE_TEST_IMAGE=<another image>
"""

import os
import re
import shutil
import subprocess

import pytest

from retrace import environment
from retrace.files import read_json
from tests.support.projects import ROOT, make_project, out_hashes, run, tiny_params

LOCK = ROOT / "requirements" / "runtime.txt"


def find_image():
    """(name, "") of the image to test or (None, why there is none): RETRACE_TEST_IMAGE, else retrace:cpu of this lock.

    None is built here: that takes minutes and 7 GB.
    """
    asked = os.environ.get("RETRACE_TEST_IMAGE")
    name = asked or "retrace:cpu"
    if shutil.which("docker") is None:
        return None, "no docker command"
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        return None, "no Docker engine answers"
    inspect = ["docker", "image", "inspect", "--format", "{{json .Config.Env}}", name]
    found = subprocess.run(inspect, capture_output=True, text=True)
    if found.returncode:
        return None, f"the Docker engine has no image {name} (`make image-cpu`)"
    if not asked and f"RETRACE_LOCK_SHA256={environment.lock_hash(LOCK)}" not in found.stdout:
        return None, f"{name} was built from another {environment.LOCK}; build it again with `make image-cpu`"
    return name, ""


def fake_docker(folder, *lines):
    (folder / "docker").write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    (folder / "docker").chmod(0o755)


def test_which_image_is_tested(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RETRACE_TEST_IMAGE", raising=False)
    assert find_image() == (None, "no docker command")
    fake_docker(tmp_path, "exit 1")
    assert find_image() == (None, "no Docker engine answers")
    fake_docker(tmp_path, '[ "$1" = version ]')
    assert "no image retrace:cpu" in find_image()[1]
    fake_docker(tmp_path, f"echo '[\"RETRACE_LOCK_SHA256={'0' * 64}\"]'")
    assert "another requirements/runtime.txt" in find_image()[1]
    fake_docker(tmp_path, f"echo '[\"RETRACE_LOCK_SHA256={environment.lock_hash(LOCK)}\"]'")
    assert find_image() == ("retrace:cpu", "")
    monkeypatch.setenv("RETRACE_TEST_IMAGE", "mine:1")
    assert find_image() == ("mine:1", "")


@pytest.fixture(scope="module")
def image():
    """The built image to test; skipped with the reason where there is none."""
    name, reason = find_image()
    if name is None:
        pytest.skip(reason)
    return name


UID = 12345 if hasattr(os, "getuid") and os.getuid() == 0 else os.getuid() if hasattr(os, "getuid") else 0


def contained(image, project, *command, options=()):
    """Run a command in a container: no root, no network, nothing writable but the repository and /tmp."""
    base = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp:exec"]
    mounted = ["--user", f"{UID}:{UID}", "-v", f"{project}:/work", *options, image, *command]
    return subprocess.run([*base, *mounted], text=True, capture_output=True)


def owned(project):
    """The project, given to the user that the container runs as."""
    if os.getuid() != UID:
        for path in (project, *project.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
    return project


@pytest.fixture(scope="module")
def project(image, tmp_path_factory):
    return owned(make_project(tmp_path_factory.mktemp("image") / "project", tiny_params("lanes")))


def test_container_has_home_identity_and_the_baked_values(image, project):
    script = 'touch "$HOME/x" && git log -1 --format=%s && git config user.name && echo "$RETRACE_LOCK_SHA256" && id -u'
    result = contained(image, project, "sh", "-c", script)
    assert result.stdout.splitlines() == ["a copy of the project", "retrace", environment.lock_hash(LOCK), str(UID)]


def test_container_passes_exit_codes_through(image, project):
    assert contained(image, project, "sh", "-c", "exit 7").returncode == 7
    assert contained(image, project, "dvc", "repro", "no-such-stage").returncode == 255


def test_container_doctor_finds_no_error(image, project):
    result = contained(image, project, "retrace", "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^ok +lock ", result.stdout, re.M) and re.search(r"^ok +git .*identity set", result.stdout, re.M)


def test_container_refuses_another_lock_before_anything_is_deleted(image, tmp_path):
    other = make_project(tmp_path / "other", tiny_params("lanes"))
    with open(other / "requirements" / "runtime.txt", "a") as stream:
        stream.write("# changed\n")
    owned(other)
    for options in ((), ("-e", "RETRACE_LOCK_SHA256=")):  # an image built without the argument knows its lock too
        refused = contained(image, other, "dvc", "repro", options=options)
        assert refused.returncode == 1 and "was built from another requirements/runtime.txt" in refused.stderr
        assert "Running stage" not in refused.stdout
    hidden = contained(image, other, "sh", "-c", "dvc repro rebalance")
    assert hidden.returncode == 1 and "Running stage" not in hidden.stdout
    assert contained(image, other, "--allow-unpinned", "python", "-m", "retrace.environment").returncode == 0


@pytest.fixture(scope="module")
def reproduced(image, project):
    result = contained(image, project, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return project


@pytest.mark.slow
def test_container_runs_the_study_to_its_report_as_the_caller(reproduced):
    assert (reproduced / "reports" / "lanes" / "report.html").is_file()
    assert {path.lstat().st_uid for path in reproduced.rglob("*")} == {UID}
    recorded = read_json(reproduced / "reports" / "lanes" / "provenance.json")["image"]
    assert recorded["report"]["unpinned"] is False and recorded["unpinned_steps"] == []


@pytest.mark.slow
def test_container_second_run_is_up_to_date(image, reproduced):
    result = contained(image, reproduced, "dvc", "repro")
    assert result.returncode == 0 and "Data and pipelines are up to date." in result.stdout


@pytest.mark.slow
def test_container_runs_experiments(image, reproduced):
    result = contained(image, reproduced, "dvc", "exp", "run", "-n", "other", "-S", "phase=baseline")
    assert result.returncode == 0, result.stderr
    assert "other" in contained(image, reproduced, "dvc", "exp", "list", "--name-only").stdout.split()


@pytest.mark.slow
def test_container_outs_are_those_of_the_same_run_outside(image, reproduced, tmp_path):
    version = ("python", "-c", "import torch; print(torch.__version__)")
    inside, here = contained(image, reproduced, *version).stdout, run(ROOT, *version, check=True).stdout
    if inside != here:
        pytest.skip(f"another build of torch in the image ({inside.strip()}) than here ({here.strip()})")
    outside = make_project(tmp_path / "outside", tiny_params("lanes"))
    run(outside, "dvc", "repro", check=True)
    assert out_hashes(reproduced) == out_hashes(outside)
