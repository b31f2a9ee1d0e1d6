"""md5 sums as DVC counts them and the cache that is filed by them, taken from the bytes themselves: no state database
that could remember an old sum."""

import hashlib
import json
import re
from pathlib import Path

from retrace.compat.dvc import cache_folder
from retrace.errors import UserError

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")  # `.dir`: of the listing of a folder


def md5_of(path: Path) -> str:
    """Lower-case hex md5 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def listing(out: Path) -> dict[str, str] | None:
    """`{path below the out: md5}`, sorted; a single file has the one path ''. None: there is no such file or folder."""
    if out.is_file():
        return {"": md5_of(out)}
    if not out.is_dir():
        return None
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): md5_of(path) for path in files}


def digest(files: dict[str, str]) -> str:
    """What dvc.lock holds: the md5 of a single file, or `<md5>.dir` of a folder's listing."""
    if list(files) == [""]:
        return files[""]
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + ".dir"


def changed(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    """Names of the files that are not the same on both sides, sorted."""
    return sorted(name for name in {*recorded, *found} if recorded.get(name) != found.get(name))


class Cache:
    """Read access to a DVC cache; every object is checked against its own name before it is believed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, md5: str) -> Path:
        """Where an object lies, whether it is there or not; what is no md5 is a `UserError`."""
        if not MD5.fullmatch(md5):
            raise UserError(f"{md5!r}: not an md5, so dvc.lock or the report's provenance.json is damaged; `dvc repro`")
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def listing(self, md5: str) -> dict[str, str] | None:
        """`{path below the out: md5}` of a recorded out; None where the cache does not hold the folder's listing.

        Raises:
            UserError: the listing is damaged, or names a path outside its folder.
        """
        if not md5.endswith(".dir"):
            return {"": md5}
        path = self.path(md5)
        if not path.is_file():
            return None
        if md5_of(path) + ".dir" != md5:
            raise UserError(f"{path}: its bytes are not what its name says; delete it and run `dvc repro`")
        files = {row["relpath"]: row["md5"] for row in json.loads(path.read_bytes())}
        for name in files:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{path}: names {name!r}, which lies outside its folder; delete it")
        return files

    def damaged(self, md5: str) -> bool:
        """Whether the object is here with other bytes than its name says."""
        path = self.path(md5)
        return path.is_file() and md5_of(path) + (".dir" if md5.endswith(".dir") else "") != md5


def cache_of(project: Path) -> Cache:
    """The DVC cache that a project uses. Raises `UserError` where there is no DVC project."""
    return Cache(cache_folder(project))
