"""What a stage's result depends on, read from dvc.yaml, dvc.lock and Git without running anything."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrace.config import read_yaml
from retrace.errors import UserError
from retrace.programs import git


@dataclass(frozen=True)
class Pipeline:
    """dvc.yaml, and hashes of what its stages may depend on: dvc.lock's md5 of outs and of files in them, else Git's
    object id at HEAD."""

    stages: dict[str, Any]
    hashes: dict[str, str]


def read_pipeline() -> Pipeline:
    """Of the project in the current folder."""
    return Pipeline(read_yaml(Path("dvc.yaml"))["stages"], _tracked() | _locked_outs())


def stage_inputs(pipeline: Pipeline, stage: str, phase: str, values: dict[str, Any]) -> dict[str, Any]:
    """`{"cmd", "params": {key: value}, "deps": {path: hash}}` of `<stage>@<phase>` with the parameters `values`.

    What the phase itself writes is left out: it follows from the rest. Raises `UserError` for a dep without a hash.
    """
    block, known = pipeline.stages[stage]["do"], pipeline.hashes
    item = {"init": "none", **(values["phases"][phase] or {})}
    names = {"key": phase, **values, **{f"item.{key}": value for key, value in item.items()}}
    own = f"models/{values['study']}/{phase}"
    deps: dict[str, str] = {}
    for path in (_filled(text, names) for text in block["deps"]):
        if path == own:
            continue
        if path not in known:
            raise UserError(f"dvc.lock knows nothing of {path}; run `dvc repro`, commit, then `retrace ablate`")
        deps[path] = known[path]
    keys = [_filled(text, names) for text in block["params"]]
    return {"cmd": _filled(block["cmd"], names), "params": {key: _at(values, key) for key in keys}, "deps": deps}


def _filled(text: str, names: dict[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(names[match[1]]), text)


def _at(values: dict[str, Any], key: str) -> Any:
    node: Any = values
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _locked_outs() -> dict[str, str]:
    lock = Path("dvc.lock")
    stages = (read_yaml(lock).get("stages") or {}) if lock.is_file() else {}
    sums = {
        kind: {row["path"]: row["md5"] for stage in stages.values() for row in stage.get(kind) or () if "md5" in row}
        for kind in ("outs", "deps")
    }
    folders = tuple(f"{out}/" for out in sums["outs"])
    return sums["outs"] | {path: md5 for path, md5 in sums["deps"].items() if path.startswith(folders)}


def _tracked() -> dict[str, str]:
    """Object id of every file and folder at HEAD."""
    rows = (line.split("\t", 1) for line in git("ls-tree", "-r", "-t", "-z", "HEAD").split("\0") if line)
    return {path: head.split()[2] for head, path in rows}
