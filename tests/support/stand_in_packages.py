"""Small packages and a folder that serves as a package index, for tests of the installation without a network."""

import base64
import hashlib
import io
import shutil
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ANTLR = "antlr4-python3-runtime"  # the package of the lock that has no wheel
SETUP = """
import setuptools
open("built_with.py", "w").write(setuptools.__version__)
setuptools.setup(name="{name}", version="4.9.3", py_modules=["built_with"])
"""


def uv() -> str:
    """The uv of this environment, else the one on PATH; the test is skipped where there is none."""
    found = Path(sys.prefix) / "bin" / "uv"
    program = str(found) if found.is_file() else shutil.which("uv")
    if program is None:
        pytest.skip("no uv here; `make venv` puts it into .venv")
    return program


def module(environment: Path, name: str) -> str:
    """The text of a module that is installed in an environment."""
    (found,) = environment.glob(f"lib/python*/site-packages/{name}.py")
    return found.read_text()


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), scripts: dict[str, str] | None = None):
    """Write a wheel with one module of its name; `scripts` go to the environment's bin. Returns its path."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    files = {f"{module}.py": f"version = {version!r}\n".encode(), f"{info}/METADATA": "\n".join(lines).encode()}
    for script, text in (scripts or {}).items():
        files[f"{module}-{version}.data/scripts/{script}"] = text.encode()
    return _write(folder, f"{module}-{version}-py3-none-any.whl", info, files)


def installed_wheel(folder: Path, name: str):
    """Write the wheel of a pure Python package that is installed here. Returns its path."""
    version, found = metadata.version(name), metadata.files(name) or []
    info = f"{name}-{version}.dist-info"
    kept = [file for file in found if ".." not in file.parts and file.suffix != ".pyc"]
    files = {str(file): Path(str(file.locate())).read_bytes() for file in kept if file.name not in ("RECORD", "WHEEL")}
    return _write(folder, f"{name}-{version}-py3-none-any.whl", info, files)


def _write(folder: Path, name: str, info: str, files: dict[str, bytes]) -> Path:
    files = {
        **files,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return folder / name


def sdist(folder: Path, name: str, version: str, setup: str) -> Path:
    """Write a source package that has nothing but this setup.py. Returns its path."""
    stem = f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{stem}.tar.gz", "w:gz") as archive:
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for path, text in ((f"{stem}/setup.py", setup), (f"{stem}/PKG-INFO", about)):
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return folder / f"{stem}.tar.gz"


def index(folder: Path, files: list[Path]) -> str:
    """Make a folder a package index of these files, with their hashes as real ones have them. Returns its address."""
    pages: dict[str, list[str]] = {}
    for file in files:
        name = file.name.split("-")[0] if file.suffix == ".whl" else file.name.rpartition("-")[0]
        link = f'<a href="{file.as_uri()}#sha256={sha256(file)}">{file.name}</a>'
        pages.setdefault(name.replace("_", "-"), []).append(link)
    for name, links in pages.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "index.html").write_text("<!DOCTYPE html><html><body>" + "<br>".join(links) + "</body></html>")
    return folder.as_uri()


def locked(*files: Path) -> str:
    """The lock of these files: one line each, pinned and hashed."""
    lines = []
    for file in files:
        stem = file.name.removesuffix(".tar.gz")
        name, version = stem.split("-")[:2] if file.suffix == ".whl" else stem.rsplit("-", 1)
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{sha256(file)}\n")
    return "".join(lines)


def sha256(file: Path) -> str:
    """Of a file's bytes, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
