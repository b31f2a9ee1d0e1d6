"""Compare a capsule with what its own commit and cache give."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from retrace.capsule import archive, repository
from retrace.capsule.contents import CACHE, INFO, OWN, code_sum, members, write
from retrace.documents.capsule import PACK, CapsuleInfo
from retrace.errors import UserError
from retrace.files import sha256_of
from retrace.programs import environment, last_line
from retrace.provenance.md5 import Cache
from retrace.provenance.verify.clone import use_empty_cache


@dataclass(frozen=True)
class Unpacked:
    """`folder`: the files of the zip; `root`: the project in its commit, whose DVC cache is that of the capsule."""

    folder: Path
    root: Path
    info: CapsuleInfo

    @property
    def cache(self) -> Cache:
        """The objects that the capsule holds."""
        return Cache(self.folder / CACHE)


def unpack(path: Path, temporary: Path) -> Unpacked:
    """Unpack a capsule below `temporary`.

    Raises:
        UserError: it is damaged or hostile, or no capsule.
    """
    folder = temporary / "capsule"
    archive.read(path, folder)
    for name in (INFO, repository.NAME):
        if not (folder / name).is_file():
            raise UserError(f"{path}: has no {name}, so it is no capsule; give the zip that {PACK} writes")
    info = CapsuleInfo.read(folder / INFO, INFO)
    inside = Path(info.folder)
    if inside.is_absolute() or ".." in inside.parts or len(info.commit) != 40:
        raise UserError(f"{INFO}: names a folder or a commit that cannot be; {PACK} again")
    root = repository.unpack(folder / repository.NAME, info.commit, temporary / "project") / inside
    if not (root / "dvc.yaml").is_file():
        raise UserError(f"{repository.NAME}: has no dvc.yaml; give a capsule of a Retrace project")
    use_empty_cache(root, folder / CACHE)
    return Unpacked(folder, root, info)


def differences(capsule: Unpacked, temporary: Path) -> list[str]:
    """Files of the capsule that its commit and its cache do not give, one line each.

    Raises:
        UserError: the commit or the cache lacks a file that a capsule has.
    """
    made = temporary / "made"
    _make_again(capsule, made)
    mine, theirs = archive.files_of(capsule.folder), archive.files_of(made)
    wrong = []
    for name in sorted({*mine, *theirs}):
        if name not in theirs:
            wrong.append(f"{name}: does not belong to this capsule; remove it, or {PACK} again")
        elif name not in mine:
            wrong.append(f"{name}: missing in this capsule; {PACK} again")
        elif sha256_of(capsule.folder / name) != sha256_of(made / name):
            wrong.append(f"{name}: not what the commit and the cache of this capsule give; {PACK} again")
    return wrong


def _make_again(capsule: Unpacked, target: Path) -> None:
    """With the code that made the capsule: this program's, or else that of the commit."""
    bundle, info = capsule.folder / repository.NAME, capsule.folder / INFO
    if code_sum(OWN) == capsule.info.code:
        write(members(capsule.root, capsule.cache, capsule.info.study, bundle, info.read_bytes()), target)
        return
    if code_sum(capsule.root) != capsule.info.code:
        raise UserError(f"{INFO}: made by code that is neither installed nor in its commit; {PACK} again")
    words = (capsule.root, capsule.cache.folder, capsule.info.study, bundle, info, target)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "retrace.capsule.contents", *map(str, words)],
        cwd=target.parent,
        env=environment() | {"PYTHONPATH": os.fspath(capsule.root)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(last_line(done.stderr).removeprefix("error: ") or "no reason given")
