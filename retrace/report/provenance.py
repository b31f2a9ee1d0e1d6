"""Provenance: commit, md5 of every dependency and output, environment lock, versions, device, seed and times."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from retrace.config import read_yaml
from retrace.config.trainings import stage_of
from retrace.documents.provenance import Card, Data, Git, Hardware, Images, Lock, Provenance, Run, StageRun, Sums
from retrace.documents.run_log import RunLog
from retrace.documents.speed import Speed
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


def provenance(inputs: Inputs) -> Provenance:
    """What the report is made from, as it is on this machine now."""
    tags = {phase: board(inputs.study, phase) for phase in inputs.metrics}
    return Provenance(
        study=inputs.study,
        seed=inputs.params.seed,
        threads=inputs.params.runtime.threads,
        numerics=inputs.params.runtime.numerics,
        lock=Lock(file=LOCK.as_posix(), sha256=sha256_of(LOCK) if LOCK.is_file() else None),
        data=data_facts(inputs),
        stages=locked_stages(inputs),
        packages=versions(),
        python=platform.python_version(),
        git=git_state(),
        image=Images(report=describe_image(), unpinned_steps=unpinned_steps(inputs)),
        platform=platform.platform(),
        cpu=cpu_model(),
        architecture=architecture(),
        devices=sorted({row.device for row in _device_rows(inputs) if row.device}),
        processes=processes(inputs),
        hardware=hardware(inputs),
        tensorboard={phase: found for phase, found in tags.items() if found},
        run=run_times(inputs),
        speed=inputs.speed,
    )


def processes(inputs: Inputs) -> dict[str, int]:
    """Number of processes of each training (and `pretrain`); no hash covers it, but it affects the result."""
    counts = {"pretrain": inputs.start.processes if inputs.start is not None else None}
    counts |= {name: inputs.scores(name).training.processes for name in inputs.params.trainings}
    return {name: count for name, count in counts.items() if count is not None}


def _device_rows(inputs: Inputs) -> list[Speed | RunLog]:
    rows: list[Speed | RunLog] = [*inputs.speed.values(), *inputs.journals.values()]
    return [row for row in rows if row.device is not None]


def hardware(inputs: Inputs) -> Hardware:
    """The devices that trained and scored, and the kinds of device available here."""
    rows, wanted = _device_rows(inputs), inputs.params.machine.device
    there = {"cpu"}
    if wanted not in ("auto", "cpu") or any(row.device != "cpu" for row in rows):
        import torch  # takes longer to load than the report to write

        there |= {kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()}
    found = Hardware(
        names=sorted({row.device_name for row in rows if row.device_name}),
        cuda=sorted({row.cuda for row in rows if row.cuda}),
        available=sorted(there),
    )
    cards = _cards(inputs)
    return found.model_copy(update={"cards": cards}) if cards else found


def _cards(inputs: Inputs) -> list[Card]:
    """The GPUs of the steps that ran here, each once."""
    cards: list[Card] = []
    for _, log in sorted(inputs.journals.items()):
        if log.device_name is None:
            continue
        card = Card(
            name=log.device_name,
            capability=log.capability,
            driver=log.driver,
            cuda=log.cuda,
            cudnn=log.cudnn,
            tf32=log.tf32,
        )
        if card not in cards:
            cards.append(card)
    return cards


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
    marks = {"collect": inputs.dataset.unpinned, "rebalance": inputs.splits.unpinned}
    marks["pretrain"] = inputs.start is not None and inputs.start.unpinned
    for training in inputs.params.trainings:
        scores = inputs.scores(training)
        marks |= {stage_of("finetune", training): scores.training.unpinned}
        marks |= {stage_of("evaluate", training): scores.unpinned}
    for name, log in inputs.journals.items():
        marks[name] = marks.get(name, False) or (log.image is not None and log.image.unpinned)
    return sorted(name for name, marked in marks.items() if marked)


def data_facts(inputs: Inputs) -> Data:
    """The manifest (which lists every image with its sha256), and the number of images in each split."""
    manifest = Path("data", inputs.study, "raw", "manifest.jsonl")
    return Data(
        manifest=manifest.as_posix(),
        sha256=sha256_of(manifest) if manifest.is_file() else None,
        images={split: row.images for split, row in inputs.splits.counts.after.items()},
    )


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


def git_state() -> Git:
    """Commit and the changed files that are not outputs of the pipeline; nulls outside a Git repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return Git(commit=None, dirty=None, changed=[])
    ignored = [f":(exclude){path}" for path in GENERATED]
    changed = (_git("status", "--porcelain", "--", ".", *ignored) or "").splitlines()
    return Git(commit=commit.strip(), dirty=bool(changed), changed=[line[3:] for line in changed][:50])


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _stage_names(inputs: Inputs) -> list[str]:
    names = list(ONCE_A_STUDY)
    for training in inputs.params.trainings:
        names += [stage_of(step, training) for step in ONCE_A_PHASE]
    return names


def locked_stages(inputs: Inputs) -> dict[str, Sums]:
    """The md5 sums of this study's stages, from dvc.lock."""
    path = Path("dvc.lock")
    if not path.is_file():
        return {}
    listed = read_yaml(path).get("stages") or {}
    names = _stage_names(inputs)
    result = {}
    for name in names:
        entry = listed.get(name) or {}
        sums = {kind: {row["path"]: row.get("md5") for row in entry.get(kind) or ()} for kind in ("deps", "outs")}
        # dvc.lock holds one study at a time; entries of another study do not belong to this report
        if any(out.split("/")[1:2] == [inputs.study] for out in sums["outs"]):
            result[name] = Sums(**sums)
    return result


def run_times(inputs: Inputs) -> Run:
    """Status, start and seconds of every stage; a stage without a run log was restored from the cache."""
    names = _stage_names(inputs)
    stages = {}
    for name in names:
        log = inputs.journals.get(name)
        if log is None:
            stages[name] = StageRun(status="restored from cache", started=None, seconds=None)
        else:
            row = StageRun(status=log.status, started=log.started, seconds=log.seconds)
            if log.gpu_memory is not None:
                row = row.model_copy(update={"gpu_memory_mib": log.gpu_memory.reserved_mib})
            stages[name] = row
    ran = list(inputs.journals.values())
    return Run(
        status="FAILED" if any(log.status != "SUCCESS" for log in ran) else "SUCCESS",
        started=min((log.started for log in ran), default=None),
        seconds=round(sum(log.seconds for log in ran), 1) if ran else None,
        stages=stages,
    )
