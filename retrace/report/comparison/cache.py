"""Outputs of other commits, read from the DVC cache by the md5 in dvc.lock or in a report's provenance.

`dvc.api.DVCFileSystem` sees the outputs of the study in params.yaml only, hands out damaged objects as they are, and
takes about a second longer.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrace.config.trainings import stage_of
from retrace.errors import UserError
from retrace.provenance.md5 import MD5, Cache, cache_of
from retrace.report.comparison.selection import Run


def locked(run: Run) -> dict[str, str] | None:
    """`{path: md5}` of what the evaluation that wrote this very metrics file read and wrote; None where unrecorded."""
    stage = stage_of("evaluate", run.phase)
    entry = (run.place.mapping("dvc.lock").get("stages") or {}).get(stage) or {}
    rows = [*(entry.get("deps") or ()), *(entry.get("outs") or ())]
    kept = run.place.mapping(f"reports/{run.study}/provenance.json").get("stages", {}).get(stage) or {}
    for sums in ({row["path"]: row.get("md5") for row in rows}, (kept.get("deps") or {}) | (kept.get("outs") or {})):
        # dvc.lock holds one study at a time, and either can be older than the file: its md5 tells
        if sums.get(f"metrics/{run.study}/{run.phase}.json") == hashlib.md5(run.content).hexdigest():
            return {path: md5 for path, md5 in sums.items() if isinstance(md5, str) and MD5.fullmatch(md5)}
    return None


@contextmanager
def folder(run: Run, names: tuple[str, ...]) -> Iterator[Path | None]:
    """A folder with the files `names` of the run's results per image; None where they are neither here nor cached."""
    where = f"metrics/{run.study}/{run.phase}"
    if run.place.commit is None and all(Path(where, name).is_file() for name in names[:1]):
        yield Path(where)
        return
    listed = listing((locked(run) or {}).get(where))
    paths = {name: blob(listed.get(name)) for name in names} if listed is not None else {}
    found = {name: path for name, path in paths.items() if path is not None}
    if not found:
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in found.items():
            os.symlink(path, Path(temporary, name))
        yield Path(temporary)


def listing(md5: str | None) -> dict[str, str] | None:
    """`{path below the folder: md5}` of a folder in the cache; None where it is not there."""
    cache = _cache(Path.cwd())
    return cache.listing(md5) if cache is not None and md5 is not None else None


def blob(md5: str | None) -> Path | None:
    """A file in the cache; None where it is not there, or holds other bytes than its name says."""
    cache = _cache(Path.cwd())
    if cache is None or md5 is None or cache.damaged(md5):
        return None
    path = cache.path(md5)
    return path if path.is_file() else None


@functools.cache
def _cache(project: Path) -> Cache | None:
    try:
        return cache_of(project)
    except UserError:
        return None
