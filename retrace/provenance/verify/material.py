"""Find the files that a commit recorded in Git, the DVC cache, the working folder or the rerun.

A file is used only when its md5 is the recorded one.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import how_to_get
from retrace.progress import track
from retrace.provenance.md5 import Cache, changed, digest, listing, md5_of
from retrace.provenance.verify.records import Record


def gather(root: Path, record: Record, cache: Cache, folders: Sequence[Path]) -> bool:
    """Put the recorded bytes of all results that a report is made from below `root` where they are not there yet.

    Looked for in the cache, then in `folders` (projects whose out has the recorded md5). Images are not needed.
    Returns whether everything is there.
    """
    complete = True
    for out, md5 in record.paths().items():
        if out.split("/")[0] not in ("data", "metrics", "models") or (root / out).exists():
            continue
        same = None if _whole(md5, cache) else _same_out(folders, out, md5)
        files = cache.listing(md5) if same is None else listing(same)
        if files is None or (same is None and not _whole(md5, cache)):
            complete = False
            continue
        for inside, sum in files.items():
            if not inside.startswith(("images/", "masks/")):
                (root / out / inside).parent.mkdir(parents=True, exist_ok=True)
                link(cache.path(sum) if same is None else same / inside, root / out / inside)
    return complete


def _whole(md5: str, cache: Cache) -> bool:
    """Whether the cache holds every file of an out that a report may need, undamaged."""
    files = None if cache.damaged(md5) else cache.listing(md5)
    needed = [sum for name, sum in (files or {}).items() if not name.startswith(("images/", "masks/"))]
    return files is not None and all(cache.path(sum).is_file() and not cache.damaged(sum) for sum in needed)


def link(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _same_out(folders: Sequence[Path], out: str, md5: str) -> Path | None:
    for folder in folders:
        files = listing(folder / out)
        if files is not None and digest(files) == md5:
            return folder / out
    return None


def _again(out: str, option: str) -> str:
    return f"run {how_to_get(out, 'dvc repro')}, or leave out {option}"


def check_out(cache: Cache, out: str, md5: str, root: Path, option: str) -> None:
    """Write an out of the project at `root` from the cache, every file checked on the way.

    option: of `retrace verify`, which asks for it.

    Raises:
        UserError: the cache lacks a file, or holds other bytes than the file's name says.
    """
    files = cache.listing(md5)
    if files is None:
        raise UserError(f"{out}: {md5} is not in the cache {cache.folder}; {_again(out, option)}")  # fmt: skip
    for name, sum in track(sorted(files.items()), f"{out} from the cache"):
        place = root / out / name if name else root / out
        place.parent.mkdir(parents=True, exist_ok=True)
        if not cache.path(sum).is_file():
            raise UserError(f"{out}/{name}: {sum} is not in the cache {cache.folder}; {_again(out, option)}")
        shutil.copyfile(cache.path(sum), place)
        if md5_of(place) != sum:
            raise UserError(f"{cache.path(sum)}: damaged: its md5 is not its name ({out}/{name}); delete it, then "
                            f"{_again(out, option)}")  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """How many recorded `outs` DVC keeps, of which of them bytes lie `here`, and what is `wrong`, one line each."""

    outs: int
    here: set[str]
    wrong: list[str]


def damage(project: Path, record: Record, cache: Cache, workspace: Record | None, kept: set[str]) -> Stored:
    """Stored results whose bytes are not the recorded ones, naming the files.

    The cache is checked object by object; a folder of `project` only where `workspace` (its own dvc.lock, or the same
    record) says that it holds this very out. What is not here is no damage, and is not counted as checked; nor are outs
    in `kept`, which every clone has from Git.
    """
    lines, seen = [], set()
    for out, md5 in track(record.paths().items(), "stored results"):
        if cache.damaged(md5):
            lines.append(f"{out}: {cache.path(md5)}: its bytes are not what its name says")
            continue
        files = cache.listing(md5)
        if any(cache.path(sum).is_file() for sum in (files or {}).values()):
            seen.add(out)
        lines += [f"{out}{'/' if name else ''}{name}: {cache.path(sum)}: its bytes are not what its name says"
                  for name, sum in (files or {}).items() if cache.damaged(sum)]  # fmt: skip
        here = listing(project / out) if workspace and workspace.paths().get(out) == md5 else None
        if here:
            seen.add(out)
        if here is not None and digest(here) != md5:
            names = changed(files, here) if files is not None else []
            shown = ", ".join(f"{out}/{name}" if name else out for name in names[:5]) or out
            lines.append(f"{shown}: not the bytes that {record.file} records ({md5})")
    return Stored(len(set(record.paths()) - kept), seen - kept, lines)
