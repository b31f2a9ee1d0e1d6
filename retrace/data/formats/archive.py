"""The root of the data: a folder, or a local or https .zip/.tar.* archive, checked by sha256 and unpacked once.

Unpacked archives stay under .retrace/downloads/<sha256>/ and are used again. Their content is not trusted: members that
lead out of the folder, links, devices and absurd expansion are refused before anything is written.
"""

import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISLNK
from typing import IO

from retrace.config.data import Data
from retrace.errors import UserError
from retrace.files import SCRATCH, sha256_of, whole_folder
from retrace.progress import bars

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
DOWNLOADS = SCRATCH / "downloads"
MAX_RATIO = 200  # unpacked bytes per archive byte; images and masks stay far below
ALWAYS_FINE = 256 * 2**20  # bytes: a small archive may expand more
MAX_MEMBERS = 5_000_000
BLOCK = 2**20
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    name: str
    size: int  # bytes, as the archive states
    kind: str  # file | link | other
    source: zipfile.ZipInfo | tarfile.TarInfo


def open_root(data: Data) -> Path:
    """The folder that the sources read: `data.root` itself, or what its archive (or `data.url`) was unpacked into."""
    if data.url is not None:
        return _unpacked(_download(data.url, _required(data, data.url)), data.url, _required(data, data.url))
    root = Path(data.root)
    if root.is_dir():
        return root.resolve()
    if not root.exists():
        raise UserError(
            f"params.yaml: data.root = {data.root!r}: no such folder or archive (looked in {Path.cwd().name}/); "
            "put the data there or change data.root"
        )
    return _unpacked(root, data.root, _required(data, data.root))


def _required(data: Data, name: str) -> str:
    if not name.lower().endswith(SUFFIXES):
        raise UserError(
            f"params.yaml: data: {name!r} is neither a folder nor an archive; allowed: {', '.join(SUFFIXES)}"
        )
    if data.sha256 is None:
        raise UserError(
            f"params.yaml: data.sha256: missing; an archive ({name}) needs its sha256, 64 hex digits (`sha256sum`)"
        )
    return data.sha256


def open_archive(archive: Path, name: str) -> Path:
    """What an archive inside the data's root was unpacked into; DVC watches the root, so nobody need state a sha256."""
    return _content(archive, name, sha256_of(archive))


def _unpacked(archive: Path, name: str, sha256: str) -> Path:
    actual = sha256_of(archive)
    if actual != sha256:
        raise UserError(
            f"{name}: sha256 is {actual}, but data.sha256 says {sha256}; the file is damaged or another version: "
            "get it again, or correct data.sha256 if you trust it"
        )
    return _content(archive, name, sha256)


def _content(archive: Path, name: str, sha256: str) -> Path:
    target = DOWNLOADS / sha256 / "content"
    if not target.is_dir():
        with whole_folder(target) as folder:
            unpack(archive, folder, name)
    return target.resolve()


def _download(url: str, sha256: str) -> Path:
    """The archive file at an https address, kept under .retrace/downloads."""
    name = PurePosixPath(urllib.request.url2pathname(url.split("?")[0])).name
    target = DOWNLOADS / sha256 / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            _fetch(url, stream)
        actual = sha256_of(Path(temporary))
        if actual != sha256:
            raise UserError(
                f"{url}: sha256 of the download is {actual}, but data.sha256 says {sha256}; nothing was kept"
            )
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{target}: could not be written ({error.strerror}); free some space or fix the permissions"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def _fetch(url: str, stream: IO[bytes]) -> None:
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT)  # the schema allows https only
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: the server answers {error.code} {error.reason}; check data.url") from None
    except (urllib.error.URLError, OSError) as error:
        raise _no_network(url, getattr(error, "reason", error)) from None
    with response, bars() as progress:
        if not response.url.startswith("https://"):
            raise UserError(
                f"{url}: leads on to {response.url.split('?')[0]}, which is not https; nothing was read from it"
            )
        size = response.headers.get("Content-Length", "")
        task = progress.add_task("download", total=int(size) if size.isdecimal() else None, info="bytes")
        while True:
            try:
                block = response.read(BLOCK)
            except OSError as error:
                raise _no_network(url, error) from None
            if not block:
                return
            stream.write(block)
            progress.advance(task, len(block))


def _no_network(url: str, reason: object) -> UserError:
    return UserError(
        f"{url}: could not be downloaded ({reason}); check the network, or fetch the archive yourself and set "
        "data.root to the file, data.url to null"
    )


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack a .zip or .tar.* into `folder`; hostile or damaged archives are a `UserError`, checked before writing."""
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                members = _checked(_zip_members(opened), archive, name)
                _write(
                    ((m, opened.open(m.source)) for m in members if isinstance(m.source, zipfile.ZipInfo)),
                    members,
                    folder,
                )
        else:
            with tarfile.open(archive) as opened_tar:
                members = _checked(_tar_members(opened_tar), archive, name)
                _write(((m, _stream(opened_tar, m)) for m in members), members, folder)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UserError(
            f"{name}: cannot be unpacked ({error}); it is damaged, encrypted or of an unknown kind"
        ) from None


def _stream(opened: tarfile.TarFile, member: Member) -> IO[bytes]:
    assert isinstance(member.source, tarfile.TarInfo)
    stream = opened.extractfile(member.source)
    assert stream is not None, "a regular file"
    return stream


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        if not info.is_dir():
            kind = "link" if S_ISLNK(info.external_attr >> 16) else "file"
            yield Member(info.filename, info.file_size, kind, info)


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if not info.isdir():
            kind = "file" if info.isreg() else "link" if info.issym() or info.islnk() else "other"
            yield Member(info.name, info.size, kind, info)


def _checked(members: Iterable[Member], archive: Path, name: str) -> list[Member]:
    """All members, once every one of them is known to be harmless and to fit."""
    budget = max(MAX_RATIO * archive.stat().st_size, ALWAYS_FINE)
    total, kept, seen = 0, [], set()
    for member in members:
        path = PurePosixPath(member.name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or PureWindowsPath(member.name).drive
            or "\\" in member.name
            or not path.parts
        ):
            raise UserError(f"{name}: member {member.name!r} leads out of the folder; do not use this archive")
        if member.kind != "file":
            what = "a link" if member.kind == "link" else "not a regular file"
            raise UserError(f"{name}: member {member.name!r} is {what}; pack the files themselves")
        if path in seen:
            raise UserError(f"{name}: member {member.name!r} occurs twice; pack the archive again")
        seen.add(path)
        total += member.size
        kept.append(member)
        if total > budget or len(kept) > MAX_MEMBERS:
            raise UserError(
                f"{name}: would expand from {archive.stat().st_size:,} to {total:,} bytes or more, {len(kept):,} files "
                f"(at most {MAX_RATIO} times is unpacked); do not use this archive, or unpack it yourself and set "
                "data.root to the folder"
            )
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(DOWNLOADS).free
    if total > free:
        raise UserError(f"{name}: needs {total:,} bytes unpacked, but only {free:,} are free; make room and run again")
    return kept


def _write(opened: Iterable[tuple[Member, IO[bytes]]], members: list[Member], folder: Path) -> None:
    with bars() as progress:
        task = progress.add_task("unpack", total=len(members), info="")
        for member, stream in opened:
            path = folder / PurePosixPath(member.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with stream, open(path, "xb") as out:
                shutil.copyfileobj(stream, out, BLOCK)  # both readers stop at the size that was checked above
            progress.advance(task)
