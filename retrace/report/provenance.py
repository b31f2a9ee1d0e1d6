"""Provenance: commit, md5 of every dependency and output, environment lock, versions, device, seed and times."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from retrace.config import read_yaml
from retrace.environment import describe_image
from retrace.files import LOGS, sha256_of
from retrace.numerics import architecture, cpu_model
from retrace.report.inputs import ONCE_A_PHASE, ONCE_A_STUDY, Inputs

PACKAGES = (
    *("torch", "torchvision", "lightning-fabric", "segmentation-models-pytorch", "timm", "ultralytics"),
    *("faster-coco-eval", "safetensors", "numpy", "scipy", "pillow", "opencv-python-headless", "dvc", "matplotlib"),
)
GENERATED = ("dvc.lock", "metrics.json", "metrics", "reports", "plots")  # rewritten by the run that is being described
LOCK = Path("requirements/runtime.txt")


def provenance(inputs: Inputs) -> dict[str, Any]:
    """provenance.json. `run`, `image`, `speed`, `git`, `platform` describe this run; the rest is equal everywhere."""
    return {
        "study": inputs.study,
        "seed": inputs.params.seed,
        "threads": inputs.params.runtime.threads,
        "numerics": inputs.params.runtime.numerics,
        "lock": {"file": LOCK.as_posix(), "sha256": sha256_of(LOCK) if LOCK.is_file() else None},
        "data": data_facts(inputs),
        "stages": locked_stages(inputs),
        "packages": versions(),
        "python": platform.python_version(),
        "git": git_state(),
        "image": {"report": describe_image(), "unpinned_steps": unpinned_steps(inputs)},
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "architecture": architecture(),
        "devices": sorted({row["device"] for row in _device_rows(inputs)}),
        "processes": processes(inputs),
        "hardware": hardware(inputs),
        "tensorboard": {phase: tags for phase in inputs.metrics if (tags := board(inputs.study, phase))},
        "run": run_times(inputs),
        "speed": inputs.speed,
    }


def processes(inputs: Inputs) -> dict[str, int]:
    """Number of processes that trained each phase (and `pretrain`); not part of any hash, but it affects the result."""
    counts = {"pretrain": (inputs.start or {}).get("processes")}
    counts |= {phase: document["training"].get("processes") for phase, document in inputs.metrics.items()}
    return {name: count for name, count in counts.items() if count is not None}


def _device_rows(inputs: Inputs) -> list[dict[str, Any]]:
    rows = [*inputs.speed.values(), *inputs.journals.values()]
    return [row for row in rows if isinstance(row.get("device"), str)]


def hardware(inputs: Inputs) -> dict[str, list[str]]:
    """Names and CUDA versions of the devices that trained and scored, and the kinds of device available here."""
    rows, wanted = _device_rows(inputs), inputs.params.machine.device
    there = {"cpu"}
    if wanted not in ("auto", "cpu") or any(row["device"] != "cpu" for row in rows):
        import torch  # takes longer to load than the report to write

        there |= {kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()}
    return {
        "names": sorted({row["device_name"] for row in rows if row.get("device_name")}),
        "cuda": sorted({row["cuda"] for row in rows if row.get("cuda")}),
        "available": sorted(there),
    }


def board(study: str, phase: str) -> dict[str, int]:
    """Number of points of each TensorBoard curve; empty where the logs are not on this machine."""
    folder = LOGS / study / phase / "tensorboard"
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: len(events.Scalars(tag)) for tag in sorted(events.Tags()["scalars"])}


def unpinned_steps(inputs: Inputs) -> list[str]:
    """Steps that ran in an image with another lock file than the repository's (`--allow-unpinned`).

    They are marked in their outputs, which every clone has, and in the journals of the steps that ran here.
    """
    outs = {"collect": inputs.dataset, "rebalance": inputs.splits, "pretrain": inputs.start or {}}
    for phase, document in inputs.metrics.items():
        outs |= {f"finetune@{phase}": document["training"], f"evaluate@{phase}": document}
    marked = {name for name, document in outs.items() if document.get("unpinned")}
    return sorted(marked | {name for name, row in inputs.journals.items() if (row.get("image") or {}).get("unpinned")})


def data_facts(inputs: Inputs) -> dict[str, Any]:
    """The manifest (which lists every image with its sha256), its sha256, and the number of images in each split."""
    manifest = Path("data", inputs.study, "raw", "manifest.jsonl")
    return {
        "manifest": manifest.as_posix(),
        "sha256": sha256_of(manifest) if manifest.is_file() else None,
        "images": {split: row["images"] for split, row in inputs.splits["counts"]["after"].items()},
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that the results depend on."""
    installed = {}
    for name in PACKAGES:
        for distribution in (name, f"{name}-opencv-headless"):
            try:
                installed[name] = metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
    return installed


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
        # dvc.lock holds one study at a time; entries of another study do not belong to this report
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
