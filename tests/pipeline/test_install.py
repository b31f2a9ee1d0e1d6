"""How .venv and the images are filled: by uv, from the locks, and with nothing that those do not name."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from retrace import environment
from tests.support.projects import ROOT
from tests.support.stand_in_packages import (
    ANTLR,
    SETUP,
    index,
    installed_wheel,
    locked,
    module,
    sdist,
    sha256,
    uv,
    wheel,
)

FOLDER = ROOT / "requirements"
sys.path.insert(0, str(FOLDER))
import install  # noqa: E402
import uv_command  # noqa: E402

sys.path.remove(str(FOLDER))
LOCKS = ("runtime", "dev", "ray", "tools")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


# --- the locks


def lock(name):
    return (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_of_a_lock_has_a_hash_and_no_index_is_named(name):
    parts = install.blocks(lock(name))
    assert parts and all("--hash=sha256:" in part for part in parts.values())
    assert "://" not in lock(name)
    assert [line for line in lock(name).splitlines() if line.startswith("-")] == []


def test_the_other_locks_come_on_top_of_the_runtime():
    ours = install.blocks(lock("runtime")).keys()
    for name in LOCKS[1:]:
        assert not ours & install.blocks(lock(name)).keys()
    assert ours >= {install.BACKEND, *install.NO_WHEEL}


def test_the_lock_is_one_of_the_project_and_its_extras_and_keeps_the_pins():
    pins = environment.pins(FOLDER / "runtime.txt")
    extras = ("yolo", "s3", "ssh", "sign")
    wanted = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][name][0] for name in extras)]
    for text in wanted:
        asked = Requirement(text)
        version = str(pins[asked.name.lower().replace(".", "-")].specifier).removeprefix("==")
        assert asked.specifier.contains(version), f"pyproject.toml asks for {text}, the lock has {version}"
    for line in (FOLDER / "pins.in").read_text().splitlines():
        if not line.startswith("#"):
            assert str(pins[Requirement(line).name]) == line


def test_everyone_names_the_same_pythons():
    offered = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert offered == VERSIONS and PROJECT["requires-python"] == ">=3.11,<3.15"
    script = (FOLDER / "python.sh").read_text()
    assert all(f"python{version}" in script for version in VERSIONS) and "(3, 11) <= " in script


# --- the Python


def fake_python(folder, name, supported=True, has_venv=True, version="3.9.2"):
    folder.mkdir(exist_ok=True)
    answers = (f"*version_info*) exit {int(not supported)} ;;", f"*ensurepip*) exit {int(not has_venv)} ;;")
    script = ["#!/bin/sh", 'case "$2" in', *answers, f"*platform*) echo {version} ;;", "esac", ""]
    (folder / name).write_text("\n".join(script))
    (folder / name).chmod(0o755)


def choose(folder, *arguments):
    command = ["/bin/sh", str(FOLDER / "python.sh"), *arguments]
    return subprocess.run(command, env={"PATH": str(folder)}, text=True, capture_output=True)


def test_make_takes_the_first_supported_python(tmp_path):
    fake_python(tmp_path, "python3.12")
    fake_python(tmp_path, "python3.11")
    assert choose(tmp_path).stdout == f"{tmp_path}/python3.12\n"
    fake_python(tmp_path, "python3", supported=False)
    assert choose(tmp_path).stdout == f"{tmp_path}/python3.12\n"
    fake_python(tmp_path, "python3")
    assert choose(tmp_path).stdout == f"{tmp_path}/python3\n"
    assert choose(tmp_path, str(tmp_path / "python3.11")).stdout == f"{tmp_path}/python3.11\n"


@pytest.mark.parametrize(
    "python, said",
    [
        ({"supported": False}, "3.11 to 3.14.*3.9.2.*apt-get install python3-venv.*uv python install"),
        ({"has_venv": False}, "python3 lacks venv.*apt-get install python3-venv"),
        (None, "3.11 to 3.14.*not found"),
    ],
)
def test_without_a_fit_python_one_line_says_how_to_get_one(tmp_path, python, said):
    if python is not None:
        fake_python(tmp_path, "python3", **python)
    result = choose(tmp_path)
    assert result.returncode == 1 and result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert re.search(said, result.stderr)


# --- uv's settings


LISTING = """:env:.index-url='https://mirror.example/simple'
global.cert='/etc/company.pem'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='/no/such/folder'
global.index-url='https://old.example/simple'
freeze.user='true'
install.trusted-host='mirror.example'
"""


def test_uv_reaches_the_index_that_pip_reaches():
    found = uv_command.uv_environment({"PATH": "x"}, uv_command.pip_settings(LISTING))
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"  # a variable wins over a file
    assert found["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert found["SSL_CERT_FILE"] == "/etc/company.pem" and found["UV_INSECURE_HOST"] == "mirror.example"
    assert "UV_FIND_LINKS" not in found  # uv stops at a folder that is not there
    only_default = uv_command.uv_environment({}, uv_command.pip_settings(LISTING), uv_command.DEFAULT)
    assert only_default["UV_DEFAULT_INDEX"] == found["UV_DEFAULT_INDEX"] and "UV_INDEX" not in only_default


def test_uvs_own_choice_of_an_index_wins_and_its_other_settings_do_not_count():
    environ = {"UV_DEFAULT_INDEX": "https://mine.example", "UV_EXCLUDE_NEWER": "2020-01-01", "UV_CACHE_DIR": "/cache"}
    found = uv_command.uv_environment(environ, uv_command.pip_settings(LISTING))
    assert found["UV_DEFAULT_INDEX"] == "https://mine.example" and found["UV_CACHE_DIR"] == "/cache"
    assert "UV_INDEX" not in found and "UV_EXCLUDE_NEWER" not in found
    assert found["UV_NO_CONFIG"] == "1" and found["UV_PYTHON_DOWNLOADS"] == "never"


def test_downloads_are_kept_in_the_environment_if_home_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    home = {"HOME": str(tmp_path / "file" / "nowhere")}
    assert uv_command.cache_folder(home, tmp_path) == tmp_path / "uv-cache"
    assert uv_command.cache_folder({**home, "UV_CACHE_DIR": "/x"}, tmp_path) is None
    assert uv_command.cache_folder({"HOME": str(tmp_path)}, tmp_path) is None
    assert (tmp_path / ".cache" / "uv").is_dir()


# --- installing


@pytest.fixture
def fresh(tmp_path):
    """(an empty environment's folder, run(*install.py's arguments, index=...)): with no network and an empty cache."""
    place = tmp_path / "environment"
    subprocess.run([uv(), "venv", "-q", "--no-config", "--python", sys.executable, str(place)], check=True)

    def run(*arguments, index, script=FOLDER / "install.py"):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
        env |= {"RETRACE_UV": uv(), "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_DEFAULT_INDEX": index}
        env |= {"RUST_LOG": "uv=debug"}
        command = [str(place / "bin" / "python"), str(script), *map(str, arguments)]
        return subprocess.run(command, env=env, text=True, capture_output=True, cwd=tmp_path)

    return place, run


def offer_a_package_to_build(folder, name):
    """(index address, its lock): setuptools as installed here, a newer one not in the lock, and a source package."""
    ours = installed_wheel(folder / "files", "setuptools")
    newer = wheel(folder / "files", "setuptools", "9999.0")
    source = sdist(folder / "files", name, "4.9.3", SETUP.format(name=name))
    (folder / "lock.txt").write_text(locked(source, ours))
    return index(folder / "index", [ours, newer, source]), folder / "lock.txt"


def test_the_one_package_without_a_wheel_is_built_with_the_locked_setuptools_and_nothing_is_fetched_for_it(
    fresh, tmp_path
):
    place, run = fresh
    address, text = offer_a_package_to_build(tmp_path, ANTLR)
    done = run("locks", text, index=address)
    assert done.returncode == 0, done.stderr
    (version,) = re.findall(r"^setuptools==(\S+)", text.read_text(), re.M)
    assert module(place, "built_with") == version
    # the build log: it was built, and no requirement of the build was looked for
    log = done.stdout + done.stderr
    assert re.search(r"build", log, re.I), "uv's log was not written"
    assert "9999.0" not in log


def test_that_build_would_take_an_unlocked_setuptools_with_uvs_defaults(fresh, tmp_path):
    _, run = fresh
    address, text = offer_a_package_to_build(tmp_path, ANTLR)
    scripts = shutil.copytree(FOLDER, tmp_path / "requirements")
    code = (scripts / "install.py").read_text()
    assert code.count('"--no-build-isolation", ') == 2
    (scripts / "install.py").write_text(code.replace('"--no-build-isolation", ', ""))
    done = run("locks", text, index=address, script=scripts / "install.py")
    assert done.returncode != 0 and "9999.0" in done.stderr


def test_no_other_package_is_ever_built(fresh, tmp_path):
    place, run = fresh
    address, text = offer_a_package_to_build(tmp_path, "other-package")
    ours = tmp_path / "ours.txt"  # setuptools is there: the package could be built
    ours.write_text("setuptools==" + text.read_text().partition("setuptools==")[2])
    assert run("locks", ours, index=address).returncode == 0
    done = run("locks", text, index=address)
    assert done.returncode != 0 and "other-package" in done.stderr
    assert not list(place.glob("lib/python*/site-packages/built_with.py"))


def test_a_file_of_another_hash_is_refused(fresh, tmp_path):
    place, run = fresh
    good = wheel(tmp_path / "files", "numpy", "2.4.6")
    (tmp_path / "lock.txt").write_text(locked(good).replace(sha256(good), "0" * 64))
    done = run("locks", tmp_path / "lock.txt", index=index(tmp_path / "index", [good]))
    assert done.returncode != 0 and not list(place.glob("lib/python*/site-packages/numpy.py"))


def test_torch_comes_from_another_index_with_its_libraries_and_the_rest_from_the_lock(fresh, tmp_path):
    place, run = fresh
    torch, torchvision = (environment.pins(FOLDER / "runtime.txt")[name] for name in ("torch", "torchvision"))
    release = {pin.name: str(pin.specifier).removeprefix("==") for pin in (torch, torchvision)}
    build, files = f"{release['torch']}+cu126", tmp_path / "files"
    needs = ("filelock", "sympy>=1.13", "nvidia-cublas-cu12==12.6.4.1 ; sys_platform != 'win32'", "triton==3.8.0")
    offered = [
        wheel(files, "torch", build, needs),
        wheel(files, "torch", "99.0+cu126", needs),
        wheel(files, "torchvision", f"{release['torchvision']}+cu126", ("numpy", f"torch=={build}", "pillow>=5.3")),
        wheel(files, "nvidia-cublas-cu12", "12.6.4.1"),
        wheel(files, "triton", "3.8.0"),
        wheel(files, "numpy", "0.1"),  # such an index has some version of everything; the lock's are not from there
    ]
    address = index(tmp_path / "cu126", offered)
    assert run("split", FOLDER / "runtime.txt", tmp_path / "lock", index="file:///no").returncode == 0
    done = run("torch", tmp_path / "lock" / "torch", "--index", address, index="file:///no/such/index")
    assert done.returncode == 0, done.stderr
    assert build in module(place, "torch") and "12.6.4.1" in module(place, "nvidia_cublas_cu12")
    assert not list(place.glob("lib/python*/site-packages/numpy.py"))
    recorded = install.blocks((place / "torch.txt").read_text())
    assert set(recorded) == {"torch", "torchvision", "nvidia-cublas-cu12", "triton"}
    assert sha256(offered[0]) in recorded["torch"] and build in done.stdout


def test_the_split_parts_torch_and_its_libraries_from_the_rest():
    torch, rest, others = install.split(lock("runtime"))
    every, first, second = (install.blocks(text) for text in (lock("runtime"), torch, rest))
    assert {**first, **second} == every and not first.keys() & second.keys()
    assert first.keys() >= {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} and "nvidia-ml-py" in second
    assert all(re.match(r"torch|nvidia-|cuda-|triton", name) for name in first)
    assert {"numpy", "sympy", "filelock"} <= set(others.split()) <= second.keys()


# --- what is installed


def test_packages_of_other_systems_and_pythons_are_not_missed(tmp_path):
    path = tmp_path / "lock.txt"
    path.write_text(
        "no-such-a==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
        "no-such-b==1.0 ; python_full_version < '3.15' and sys_platform != 'win32' \\\n    --hash=sha256:00\n"
        "packaging==0.1 ; python_version > '3' \\\n    --hash=sha256:00\n"
    )
    first, second = environment.differences(path)
    assert first == "no-such-b: locked 1.0, installed nothing" and second.startswith(
        "packaging: locked 0.1, installed "
    )


@pytest.mark.parametrize(
    "torch, missed",
    [("2.14.1", ["nvidia-nowhere"]), ("2.14.1+cpu", []), ("2.14.1+cu126", []), ("2.13.0+cpu", ["torch"])],
)
def test_another_build_of_torch_brings_other_cuda_packages(tmp_path, monkeypatch, torch, missed):
    path = tmp_path / "lock.txt"
    path.write_text("torch==2.14.1 \\\n    --hash=sha256:00\nnvidia-nowhere==1.0 ; sys_platform == 'linux'\n")

    def version(name):
        if name != "torch":
            raise metadata.PackageNotFoundError(name)
        return torch

    monkeypatch.setattr(metadata, "version", version)
    assert [line.split(":")[0] for line in environment.differences(path)] == missed
