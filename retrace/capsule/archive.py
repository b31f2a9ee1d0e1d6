"""Zip files whose bytes follow from their members alone, and that are read only if they are such."""

import contextlib
import filecmp
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from retrace.data.formats.archive import unpack
from retrace.documents.capsule import PACK
from retrace.errors import UserError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can state
MODE = 0o100644 << 16  # a plain file
UNIX = 3


def write(target: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write a zip atomically: members sorted, without times, stored as they are.

    Nothing is compressed: weights and the Git bundle are dense already, and other versions of zlib give other bytes.

    Args:
        members: content, or the file that holds it, by name in the zip.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            temporary = stream.name
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as opened:
                for name in sorted(members):
                    _add(opened, name, members[name])
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"{target}: could not be written ({error.strerror or error}); free some space, or name "
                        "another file with --out") from error  # fmt: skip
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _add(opened: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr = UNIX, MODE
    if isinstance(content, bytes):
        info.file_size = len(content)
        with opened.open(info, "w") as member:
            member.write(content)
        return
    info.file_size = content.stat().st_size
    with open(content, "rb") as source, opened.open(info, "w") as member:
        _copy(source, member)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, 1 << 20)


def read(path: Path, folder: Path) -> None:
    """Unpack a capsule into `folder`, once every name in it is known to stay in there.

    Raises:
        UserError: no zip, a damaged or hostile one, or one that holds anything besides its members: a comment, bytes
            between them, another order.
    """
    name = path.name
    if not path.is_file():
        why = "not a file" if path.exists() else "no such file"
        raise UserError(f"{path}: {why}; give a capsule, the zip that {PACK} writes")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a zip; give a capsule, the zip that {PACK} writes")
    archive = path.absolute()
    folder.mkdir(parents=True)
    with contextlib.chdir(folder.parent):  # `unpack` looks for room in the current folder
        unpack(archive, folder, name if name.lower().endswith(".zip") else f"{name}.zip")
    again = folder.parent / "again.zip"
    write(again, files_of(folder))
    same = filecmp.cmp(archive, again, shallow=False)
    again.unlink()
    if not same:
        raise UserError(
            f"{path}: holds more than its members, or in another form than {PACK} writes it; get the file again"
        )


def files_of(folder: Path) -> dict[str, bytes | Path]:
    """Every file below a folder, by its path there."""
    found: dict[str, bytes | Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    return found
