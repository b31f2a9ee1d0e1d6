"""`make venv` as a whole, without a network: its packages and uv itself come from a folder that serves as an index."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.projects import ROOT
from tests.support.stand_in_packages import ANTLR, SETUP, index, installed_wheel, locked, module, sdist, uv, wheel


@pytest.fixture
def offline_project(tmp_path):
    """(a project's folder, make(*arguments)): its packages and uv itself come from a folder that only pip knows of."""
    place, files = tmp_path / "project", tmp_path / "files"
    (place / "requirements").mkdir(parents=True)
    for name in ("Makefile", "requirements/install.py", "requirements/uv_command.py", "requirements/python.sh"):
        shutil.copy2(ROOT / name, place / name)
    (place / "retrace").mkdir()
    (place / "retrace" / "__init__.py").write_text("")
    (place / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "retrace"\nversion = "1"\n[tool.setuptools]\npackages = ["retrace"]\n'
    )
    runtime = [
        sdist(files, ANTLR, "4.9.3", SETUP.format(name=ANTLR)),
        installed_wheel(files, "setuptools"),
        wheel(files, "torch", "2.14.1", ("numpy",)),
        wheel(files, "torchvision", "0.29.1", ("numpy", "torch==2.14.1")),
        wheel(files, "numpy", "2.4.6"),
    ]
    tool = wheel(files, "uv", "1.0", scripts={"uv": f'#!/bin/sh\nexec {uv()} "$@"\n'})
    dev = wheel(files, "mypy", "1.0")
    (place / "requirements" / "runtime.txt").write_text(locked(*runtime) + "    # via torch\n")  # numpy, the last one
    (place / "requirements" / "tools.txt").write_text(locked(tool))
    (place / "requirements" / "dev.txt").write_text(locked(dev))
    address = index(tmp_path / "index", [*runtime, tool, dev])

    def make(*arguments):
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "XDG_", "MAKE"))
        }
        env |= {"PIP_INDEX_URL": address, "PIP_CONFIG_FILE": os.devnull, "HOME": "/proc/no-home", "PYTHONPATH": ""}
        command = ["make", f"PYTHON={sys.executable}", *arguments]
        done = subprocess.run(command, cwd=place, env=env, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return place, make


@pytest.mark.slow
def test_make_installs_offline_with_pips_index_and_changes_the_build_of_torch(offline_project, tmp_path):
    place, make = offline_project
    make("venv")
    environment_ = place / ".venv"
    assert "'2.14.1'" in module(environment_, "torch") and module(environment_, "mypy")
    assert (environment_ / "uv-cache").is_dir()  # there is no home to keep downloads in
    assert "install.py" not in make("venv")

    files = tmp_path / "cu126-files"
    other = [
        wheel(files, "torch", "2.14.1+cu126", ("numpy", "nvidia-cublas-cu12==12.6.4.1")),
        wheel(files, "torchvision", "0.29.1+cu126", ("numpy", "torch==2.14.1+cu126")),
        wheel(files, "nvidia-cublas-cu12", "12.6.4.1"),
    ]
    said = make("venv", "CUDA=12.6", f"TORCH_INDEX_URL={index(tmp_path / 'cu126', other)}")
    assert "torch==2.14.1+cu126" in said and "+cu126" in module(environment_, "torch")
    assert module(environment_, "nvidia_cublas_cu12") and module(environment_, "mypy") and module(environment_, "numpy")
    assert "install.py" not in make("venv")  # which keeps the build of torch that is there
    make("venv", "CUDA=13.0")
    assert "+" not in module(environment_, "torch")
    assert not list(environment_.glob("lib/python*/site-packages/nvidia_cublas_cu12.py"))
