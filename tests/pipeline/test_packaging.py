"""`pip install .`: what is in the package, and what its `retrace` does outside a project."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from packaging.requirements import Requirement

from retrace.files import CODE
from tests.support.projects import ROOT, run

STUDIES = sorted(path.name for path in (ROOT / "studies").glob("*.*"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, built from a copy of what Git has and with the setuptools that is here."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    for name in ("retrace", "scenes", "stages", "studies", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = run(source, sys.executable, "-W", "error::DeprecationWarning", "-c", code)
    assert done.returncode == 0, done.stderr
    return source / "dist" / done.stdout.splitlines()[-1]


UNPACKED = {"__pycache__", ".ruff_cache", "ruff.toml"}


def test_the_package_has_the_studies_and_templates_and_no_tests(built):
    names = zipfile.ZipFile(built).namelist()
    assert sorted(name.rpartition("/")[2] for name in names if "/share/retrace/studies/" in name) == STUDIES
    files = (path for name in CODE for path in (ROOT / name).rglob("*") if path.is_file())
    ours = {path.relative_to(ROOT).as_posix() for path in files if not UNPACKED & {*path.parts}}
    assert {name for name in names if name.split("/")[0] in CODE} == ours and "retrace/py.typed" in ours
    assert not [name for name in names if name.startswith("tests/")]
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_package_asks_for_what_the_kit_imports_and_leaves_ultralytics_to_an_extra(built):
    archive = zipfile.ZipFile(built)
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(path).decode().splitlines()
    asked = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    always = {Requirement(line).name for line in asked if "extra ==" not in line}
    assert {"torch", "torchvision", "dvc", "timm", "typer", "packaging", "numpy", "scipy"} <= always
    assert not [line for line in asked if "ultralytics" in line and 'extra == "yolo"' not in line]
    assert not [line for line in asked if "==" in line.split(";")[0]]  # ranges; exact versions are the lock's


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """run(folder, *arguments) of the `retrace` of an environment with the wheel and this one's other packages."""
    place = tmp_path_factory.mktemp("installed") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(built)], check=True)

    def retrace(folder, *arguments):
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        command = [str(place / "bin" / "retrace"), *arguments]
        return subprocess.run(command, cwd=folder, env={**env, "HOME": str(folder)}, text=True, capture_output=True)

    return retrace


@pytest.mark.slow
def test_an_installed_retrace_works_outside_a_project(installed, tmp_path):
    assert "Usage" in installed(tmp_path, "--help").stdout
    assert "Usage" in installed(tmp_path, "verify", "--help").stdout
    studies = installed(tmp_path, "studies")
    assert studies.returncode == 0, studies.stderr
    assert all(name in studies.stdout for name in ("bdd100k", "lanes", "offroad", "plates", "slopes"))
    assert list(tmp_path.iterdir()) == []
    doctor = installed(tmp_path, "doctor")
    assert doctor.returncode == 1 and "project" in doctor.stdout and "Traceback" not in doctor.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [("use", "lanes"), ("verify",)])
def test_outside_a_project_one_line_says_where_to_go(installed, tmp_path, command):
    refused = installed(tmp_path, *command)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert str(tmp_path) in refused.stderr and list(tmp_path.iterdir()) == []
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "docs").mkdir()
    assert f"cd {tmp_path}\n" in installed(tmp_path / "docs", *command).stderr


@pytest.mark.slow
def test_completion_is_installed_for_the_shell(installed, tmp_path):
    shown = installed(tmp_path, "--show-completion", "bash")
    assert shown.returncode == 0 and "_RETRACE_COMPLETE" in shown.stdout
    done = installed(tmp_path, "--install-completion", "bash")
    assert done.returncode == 0, done.stderr
    assert any("_RETRACE_COMPLETE" in path.read_text() for path in tmp_path.rglob("*retrace*") if path.is_file())


WITHOUT_ULTRALYTICS = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ultralytics":
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ultralytics" else find(name, package)
import retrace
from retrace.errors import UserError

needed = []
for module in pkgutil.walk_packages(retrace.__path__, "retrace."):
    try:
        importlib.import_module(module.name)
    except UserError as error:
        needed.append(module.name)
        message = str(error)
print(sorted(needed), message, sep="\\n")
"""


@pytest.mark.slow
def test_without_ultralytics_only_yolo_phases_miss_it():
    done = run(ROOT, sys.executable, "-c", WITHOUT_ULTRALYTICS)
    assert done.returncode == 0, done.stderr
    missed, message = done.stdout.splitlines()
    # modules that a phase with `engine: ultralytics` imports when it runs, and no other phase does
    network, training = ["retrace.compat.ultralytics", "retrace.models.yolo_network"], ["data", "trainer", "validator"]
    assert missed == str(sorted(network + [f"retrace.training.engines.ultralytics.{name}" for name in training]))
    assert "retrace[yolo]" in message and "make venv" in message
