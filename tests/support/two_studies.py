"""A repository with the reports of two studies, as a fresh clone has it: dvc.lock holds `lanes` and not `plates`.

Nothing is trained: the results are those of `fixtures_metrics`, the record is written as DVC writes it.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from retrace.config.load import load, parse
from retrace.errors import UserError
from retrace.provenance.md5 import Cache, digest, listing
from retrace.provenance.verify.job import Job, origin_of
from retrace.provenance.verify.records import committed
from retrace.provenance.verify.standing import standing
from retrace.report import document
from retrace.report.render import render
from stages import report
from tests.support.fixtures_metrics import build
from tests.support.projects import ROOT, commit, run

LOCKED, OTHER = "lanes", "plates"
LOCK = "requirements/runtime.txt"


def make(root: Path, tasks: tuple[str, ...] = ("detection", "segmentation"), stored: bool = False) -> None:
    """Fill `root`; data, weights and results per image are left out, as Git does not carry them.

    tasks: of the studies; `lanes` is the one of segmentation, and must be the last.
    stored: whether the DVC cache holds what is left out.
    """
    root.mkdir()
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / ".dvc").mkdir()
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")  # as `dvc init` does
    run(root, "git", "init", "-q", "-b", "main", check=True)
    for task in tasks:
        build(root, task)
        if stored:  # what is left of a phase that params.yaml no longer has would be a dependency of the report
            for path in root.glob("metrics/*/gone*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with contextlib.chdir(root):
            _write_lock(root, with_report=False)
            report.report(load())
            _write_lock(root, with_report=True)
        if stored:
            _store(root)
    for folder in ("data", "models", "bundles", "logs"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for path in root.glob("metrics/*/*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name == "gone.json":
            path.unlink()
    commit(root, "two studies")


def _store(root: Path) -> None:
    """Fill the DVC cache with the outs that dvc.lock names."""
    cache = Cache(root / ".dvc" / "cache")
    for stage in read_lock(root)["stages"].values():
        for row in stage["outs"]:
            files = listing(root / row["path"]) or {}
            for name, md5 in files.items():
                _put(cache.path(md5), (root / row["path"] / name).read_bytes())
            if row["md5"].endswith(".dir"):
                rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
                _put(cache.path(row["md5"]), json.dumps(rows, sort_keys=True).encode())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_lock(root: Path, with_report: bool) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    blocks = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    stages = {}
    for name, block in blocks.items():
        if name == "report" and not with_report:
            continue
        keys = list(values["phases"]) if "foreach" in block else [""]
        for key in keys:
            label = f"{name}@{key}" if key else name
            stages[label] = _entry(root, block.get("do", block), values, key)
    write_lock(root, {"schema": "2.0", "stages": stages})


def _entry(root: Path, block: dict[str, Any], values: dict[str, Any], key: str) -> dict[str, Any]:
    """What DVC records of a stage whose code is not looked at."""
    study, item = values["study"], values["phases"].get(key, {})

    def filled(path: str) -> str:
        return path.replace("${study}", study).replace("${key}", key).replace("${item.init}", str(item.get("init")))

    def rows(listed: list[Any]) -> Iterator[dict[str, str]]:
        for row in listed:
            path = filled(next(iter(row)) if isinstance(row, dict) else row)
            files = listing(root / path)
            if files:
                yield {"path": path, "md5": digest(files)}

    deps = [path for path in block["deps"] if path.startswith(("data/", "models/", "metrics/", LOCK))]
    params = [(filled(name), deepcopy(_at(values, filled(name)))) for name in block["params"]]
    return {
        "cmd": filled(block["cmd"]),
        "deps": list(rows(deps)),
        "params": {"params.yaml": {name: value for name, value in params if value is not None}},
        "outs": list(rows(block["outs"])),
    }


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values.get(part) if values else None
    return values


def read_lock(root: Path) -> dict[str, Any]:
    """dvc.lock."""
    content: dict[str, Any] = yaml.safe_load((root / "dvc.lock").read_text())
    return content


def write_lock(root: Path, content: dict[str, Any]) -> None:
    """Write dvc.lock."""
    (root / "dvc.lock").write_text(yaml.safe_dump(content, sort_keys=False))


def render_again(root: Path, study: str) -> None:
    """Lay out the pages of an edited report.json, as one who edits with care would."""
    folder = root / "reports" / study
    for name in ("tables", "figures"):
        for path in (folder / name).glob("*.*"):
            path.unlink()
    render(document.read(folder).report, folder, folder)


def job_of(root: Path, study: str, commit: str = "0" * 40) -> Job:
    """What `retrace verify` works on, without a clone."""
    if study == LOCKED:
        params = load(root / "params.yaml")
    else:
        params = parse(json.loads((root / f"reports/{study}/parameters.json").read_text()))
    record, cache = committed(root, params), Cache(root / ".dvc/cache")
    return Job(root, commit, root, root, params, record, origin_of(root, study), cache, True, "", None, False)


def complaints(root: Path, study: str) -> list[str]:
    """What `retrace verify --no-rerun` says is wrong with a study."""
    try:
        return standing(job_of(root, study)).wrong
    except UserError as error:
        return [str(error)]
