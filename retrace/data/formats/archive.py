"""The root of the data: a folder, or a local or https .zip/.tar.* archive, checked by sha256 and unpacked once.

Unpacked archives stay under .retrace/downloads/<sha256>/ and are used again. Their content is not trusted: members that
lead out of the folder, links, devices and absurd expansion are refused before anything is written.
"""

import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISLNK
from typing import Any

from retrace.config.data import Data
from retrace.downloads import DOWNLOADS, downloaded
from retrace.errors import UserError
from retrace.files import sha256_of, whole_folder
from retrace.progress import track

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_RATIO = 200  # unpacked bytes per archive byte; images and masks stay far below
ALWAYS_FINE = 256 * 2**20  # bytes: a small archive may expand more
MAX_MEMBERS = 5_000_000
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError),
    *(EOFError, NotImplementedError, RuntimeError),
)


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    name: str
    size: int  # bytes, as the archive states
    plain: bool  # neither a link nor a device
    info: Any  # ZipInfo or TarInfo


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
    instead = "fetch the archive yourself and set data.root to the file, data.url to null"
    with downloaded(url, url, instead) as partial:
        actual = sha256_of(partial)
        if actual != sha256:
            raise UserError(
                f"{url}: sha256 of the download is {actual}, but data.sha256 says {sha256}; nothing was kept"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    return target


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack the files of a .zip or .tar.* into `folder`.

    Raises:
        UserError: the archive is hostile or damaged; every member is checked before the first is written.
    """
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                members = _checked(_of_zip(opened), archive, name)
                for member in track(members, "unpack", total=len(members)):
                    opened.extract(member.info, folder)
        else:
            with tarfile.open(archive) as opened_tar:
                # Python 3.11.0 to 3.11.3 has no filters; what they refuse is refused by `_checked` as well
                opened_tar.extraction_filter = getattr(tarfile, "data_filter", None)
                members = _checked(_of_tar(opened_tar), archive, name)
                for member in track(members, "unpack", total=len(members)):
                    opened_tar.extract(member.info, folder, set_attrs=False)
    except DAMAGED as error:
        raise UserError(
            f"{name}: cannot be unpacked ({error}); it is damaged, encrypted or of an unknown kind"
        ) from None


def _of_zip(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        if not info.filename.endswith("/"):  # `is_dir` fails for an empty name
            yield Member(info.filename, info.file_size, not S_ISLNK(info.external_attr >> 16), info)


def _of_tar(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if not info.isdir():
            yield Member(info.name, info.size, info.isreg(), info)


def _checked(members: Iterable[Member], archive: Path, name: str) -> list[Member]:
    """All members, once every one of them is known to be harmless and to fit.

    `extract` would refuse devices and links that lead out of the folder in a tar, but write any other name, absolute
    ones and those of a zip with `..` among them, somewhere in the folder: a data set that nobody packed.
    """
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
        if not member.plain:
            raise UserError(f"{name}: member {member.name!r} is a link or a device; pack the files themselves")
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
