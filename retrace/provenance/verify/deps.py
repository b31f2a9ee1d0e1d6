"""Check every recorded dependency: an output of an earlier stage, or files of the commit (code, lock file).

Files in Git may have changed after the run. Such a change is reported, not refused, because only a rerun shows whether
it matters. An md5 that matches neither this commit nor an earlier one is an error.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retrace.compat.dvc import is_ignored
from retrace.errors import UserError
from retrace.programs import git, git_bytes, how_to_get
from retrace.provenance.md5 import Cache, digest, listing
from retrace.provenance.verify.records import Record


@dataclass(frozen=True)
class Checked:
    """Number of md5 compared, problems (one line each), paths changed since, and paths not compared with the reason."""

    compared: int
    wrong: list[str]
    since: list[str]
    unchecked: dict[str, str]


def check(root: Path, project: Path, record: Record, cache: Cache) -> Checked:
    """Compare the deps of `record`, which the commit cloned to `root` holds.

    What DVC keeps is looked up in `cache`, then in the folders of `project` that have the recorded md5.
    """
    stages: dict[tuple[str, str], list[str]] = {}
    for stage, deps in record.deps.items():
        for path, md5 in deps.items():
            stages.setdefault((path, md5), []).append(stage)
    tracked, outs = _Tracked(root), _Outs(project, record, cache)
    compared, wrong, since, unchecked = 0, [], [], {}
    for (path, md5), names in stages.items():
        start = f"{', '.join(names)}: {path}: {record.file} says {md5}, "
        try:
            expected, what = _expected(path, record, outs, tracked)
        except LookupError as error:
            if tracked.had(path, md5):
                since.append(path)
            else:
                unchecked[path] = str(error.args[0])
            continue
        if expected is None:
            wrong.append(f"{start}{what}")
        elif expected == md5:
            compared += 1
        elif what == COMMITTED:
            found = tracked.had(path, md5)
            if found:
                since.append(path)
            elif found is None:
                unchecked[path] = (
                    "the file in the commit differs, and this clone has no full history (git fetch --unshallow)"
                )
            else:
                wrong.append(f"{start}{what} {expected}, and no earlier commit matches the record")
        elif what != TOGETHER or outs.digest_here(path) != md5:
            wrong.append(f"{start}{what} {expected}")
    return Checked(compared, wrong, sorted(set(since)), unchecked)


COMMITTED = "the committed files have"
TOGETHER = (  # phases that params.yaml no longer has may have left files there
    "its outs together have (either an md5 was edited, or the folder held more than these outs when the report was "
    "made: delete what is left over, `dvc repro report`)"
)


def _expected(path: str, record: Record, outs: "_Outs", tracked: "_Tracked") -> tuple[str | None, str]:
    """(the md5 that a dep must have, whose it is); (None, what is wrong); `LookupError`: why it cannot be known."""
    made = record.paths()
    if path in made:
        return made[path], "the stage that makes it has"
    around = next((out for out in made if path.startswith(f"{out}/")), None)
    if around is not None:
        inside = _below(outs.files(around), path[len(around) + 1 :])
        return (digest(inside), f"{around} holds it with") if inside else (None, f"but {around} holds no such file")
    within = [out for out in made if out.startswith(f"{path}/")]
    found = tracked.files(path)
    if not within:
        if found is None:
            raise LookupError("not in Git")
        return digest(found), COMMITTED
    together = dict(found or {})
    for out in within:
        start = out[len(path) + 1 :]
        together |= {f"{start}/{name}" if name else start: md5 for name, md5 in outs.files(out).items()}
    return digest(together), TOGETHER


def _below(files: dict[str, str], path: str) -> dict[str, str]:
    """The one file at `path`, or all below it."""
    if path in files:
        return {"": files[path]}
    return {name[len(path) + 1 :]: md5 for name, md5 in files.items() if name.startswith(f"{path}/")}


class _Outs:
    """Which files, with which md5, the recorded outs consist of."""

    def __init__(self, project: Path, record: Record, cache: Cache):
        self._project, self._made, self._cache = project, record.paths(), cache
        self._known: dict[str, dict[str, str]] = {}

    def files(self, out: str) -> dict[str, str]:
        """`{path below the out: md5}`; `LookupError` where neither cache nor working folder can tell."""
        if out not in self._known:
            md5 = self._made[out]
            files = None if self._cache.damaged(md5) else self._cache.listing(md5)
            if files is None:
                here = listing(self._project / out)
                files = here if here is not None and digest(here) == md5 else None
            if files is None:
                raise LookupError(f"the files of {out} are not here ({how_to_get(out, 'dvc repro')})")
            self._known[out] = files
        return self._known[out]

    def digest_here(self, path: str) -> str | None:
        """The md5 of a folder as it is in the working folder."""
        here = listing(self._project / path)
        return digest(here) if here is not None else None


class _Tracked:
    """The files that Git holds, as DVC sums them up: without what .dvcignore names."""

    def __init__(self, root: Path):
        self._root = root
        self._blobs: dict[str, str] = {}

    @cached_property
    def _ignored(self) -> Callable[[str], bool]:
        return is_ignored(self._root)

    def _kept(self, path: str, files: dict[str, str]) -> dict[str, str]:
        """A single file counts even where it is ignored, as a dep of its own name."""
        base = self._root / path
        return {name: md5 for name, md5 in files.items() if not name or not self._ignored(f"{base / name}")}

    def files(self, path: str) -> dict[str, str] | None:
        """`{path below: md5}` at the commit; None where it has no such path."""
        if Path(path).is_absolute() or ".." in Path(path).parts:
            return None
        found = listing(self._root / path)
        return self._kept(path, found) if found is not None else None

    def had(self, path: str, md5: str) -> bool | None:
        """Whether some commit up to this one had `path` with this md5; None: the history is cut off before it."""
        for commit in git("log", "--full-history", "--format=%H", "--", path, folder=self._root).split():
            files = self._at(commit, path)
            if files and digest(files) == md5:
                return True
        return None if git("rev-parse", "--is-shallow-repository", folder=self._root).strip() == "true" else False

    def _at(self, commit: str, path: str) -> dict[str, str]:
        rows = git("ls-tree", "-r", "-z", commit, "--", path, folder=self._root).split("\0")
        files = {}
        for head, name in (row.split("\t", 1) for row in rows if row):
            kind, blob = head.split()[1:3]
            if kind == "blob":
                files[name[len(path) + 1 :]] = self._md5(blob)
        return self._kept(path, files)

    def _md5(self, blob: str) -> str:
        if blob not in self._blobs:
            content = git_bytes("cat-file", "blob", blob, folder=self._root)
            if content is None:
                raise UserError(f"Git object {blob} is missing; run `git fsck`")
            self._blobs[blob] = hashlib.md5(content).hexdigest()
        return self._blobs[blob]
