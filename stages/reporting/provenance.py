"""What a number came from: commit, md5 of every dep and out, environment lock, versions, device, seed, times."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from stages.files import sha256_of
from stages.params import read_yaml
from stages.reporting.inputs import ONCE_A_PHASE, ONCE_A_STUDY, Inputs

PACKAGES = (
    *("torch", "torchvision", "lightning-fabric", "segmentation-models-pytorch", "timm", "ultralytics"),
    *("faster-coco-eval", "safetensors", "numpy", "scipy", "pillow", "opencv-python-headless", "dvc", "matplotlib"),
)
GENERATED = ("dvc.lock", "metrics.json", "metrics", "reports", "plots")  # rewritten by the run that is being described
LOCK = Path("requirements/runtime.txt")


def provenance(inputs: Inputs) -> dict[str, Any]:
    """provenance.json. `run`, `speed`, `git` and `platform` describe this run; the rest is equal on every machine."""
    return {
        "study": inputs.study,
        "seed": inputs.params.seed,
        "threads": inputs.params.runtime.threads,
        "lock": {"file": LOCK.as_posix(), "sha256": sha256_of(LOCK) if LOCK.is_file() else None},
        "stages": locked_stages(inputs),
        "packages": versions(),
        "python": platform.python_version(),
        "git": git_state(),
        "platform": platform.platform(),
        "devices": sorted({row["device"] for row in _device_rows(inputs)}),
        "run": run_times(inputs),
        "speed": inputs.speed,
    }


def _device_rows(inputs: Inputs) -> list[dict[str, Any]]:
    rows = [*inputs.speed.values(), *inputs.journals.values()]
    return [row for row in rows if isinstance(row.get("device"), str)]


def versions() -> dict[str, str]:
    """Installed versions of the packages that make the numbers."""
    found = {}
    for name in PACKAGES:
        for distribution in (name, f"{name}-opencv-headless"):
            try:
                found[name] = metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def git_state() -> dict[str, Any]:
    """Commit and the changed files that are not outputs of the pipeline; nulls outside a Git repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None, "changed": []}
    ignored = [f":(exclude){path}" for path in GENERATED]
    changed = (_git("status", "--porcelain", "--", ".", *ignored) or "").splitlines()
    return {"commit": commit.strip(), "dirty": bool(changed), "changed": [line[3:] for line in changed][:50]}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def locked_stages(inputs: Inputs) -> dict[str, Any]:
    """`{stage: {"deps": {path: md5}, "outs": {path: md5}}}` of this study's stages, from dvc.lock."""
    path = Path("dvc.lock")
    if not path.is_file():
        return {}
    listed = read_yaml(path).get("stages") or {}
    names = [*ONCE_A_STUDY, *(f"{stage}@{phase}" for phase in inputs.params.phases for stage in ONCE_A_PHASE)]
    result = {}
    for name in names:
        entry = listed.get(name) or {}
        sums = {kind: {row["path"]: row.get("md5") for row in entry.get(kind) or ()} for kind in ("deps", "outs")}
        # dvc.lock holds one study at a time: an entry of another one says nothing about this report
        if any(out.split("/")[1:2] == [inputs.study] for out in sums["outs"]):
            result[name] = sums
    return result


def run_times(inputs: Inputs) -> dict[str, Any]:
    """Status, start and seconds of every stage; a stage without a journal was restored from the cache."""
    names = [*ONCE_A_STUDY, *(f"{stage}@{phase}" for phase in inputs.params.phases for stage in ONCE_A_PHASE)]
    stages: dict[str, dict[str, Any]] = {}
    for name in names:
        row = inputs.journals.get(name)
        stages[name] = {
            "status": row["status"] if row else "restored from cache",
            "started": row["started"] if row else None,
            "seconds": row["seconds"] if row else None,
        }
    ran = list(inputs.journals.values())
    failed = any(row["status"] != "SUCCESS" for row in ran)
    return {
        "status": "FAILED" if failed else "SUCCESS",
        "started": min((row["started"] for row in ran), default=None),
        "seconds": round(sum(row["seconds"] for row in ran), 1) if ran else None,
        "stages": stages,
    }
