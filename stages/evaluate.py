"""Score the weights of one training, read back from disk, on every split: `python -m stages.evaluate <training>`."""

import sys
from pathlib import Path

import torch

from retrace.allocator import keep_freed_memory
from retrace.config.load import load
from retrace.config.metrics import METRICS
from retrace.config.schema import Params
from retrace.data.loading import read_image
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.splits import read_list
from retrace.documents.error_pictures import write_error_pictures
from retrace.documents.samples import write_samples
from retrace.documents.scores import KINDS, Scores, Split, Weights
from retrace.documents.speed import Speed
from retrace.documents.training import Training
from retrace.environment import unpinned_mark
from retrace.errors import UserError, stage
from retrace.evaluation import speed
from retrace.evaluation.boxes import score_boxes
from retrace.evaluation.masks import score_masks
from retrace.evaluation.work import Work
from retrace.files import LOGS, sha256_of, whole_folder, write_text
from retrace.models.inference import inference_precision, precision_mark
from retrace.models.predict import (
    WEIGHTS,
    Predictor,
    choose_device,
    describe_device,
    load_predictor,
    require_same_classes,
)
from retrace.provenance.run_log import journal
from retrace.seeds import make_deterministic
from retrace.statistics.estimate import Estimate

SCORE = {"segmentation": score_masks, "detection": score_boxes}


@stage
def main(*arguments: str) -> None:
    """Write metrics/<study>/<phase>.json and metrics/<study>/<phase>/ (docs/architecture.md lists what is in them)."""
    params = load()
    phase = _phase(arguments, params)
    keep_freed_memory()
    make_deterministic(params.runtime)
    device = choose_device(params.machine.device)
    with journal(params.study, "evaluate", phase) as entry:
        shipped = Path("models", params.study, phase)
        precision = inference_precision(params.machine, device.type)
        predictor = load_predictor(shipped, device, precision)
        require_same_classes(predictor, params, shipped)
        manifest = read_manifest(Path("data", params.study, "raw"))
        lists: dict[str, list[str]] = {split: _labeled(manifest, params, split) for split in params.evaluate.splits}
        target = Path("metrics", params.study, phase)
        with whole_folder(target) as folder:
            train = _training(manifest, params)
            work = Work(params, phase, manifest, predictor.predict, folder, train, device.type)
            splits = _score(work, lists)
            document = _document(params, phase, shipped, predictor, splits)
            document.model_copy(update=precision_mark(precision)).write(target.with_suffix(".json"))
        entry |= describe_device(device)._asdict()
        entry["images"] = {split: len(ids) for split, ids in lists.items()}
        if any(lists.values()):
            timed = _time(params, manifest, predictor, lists, device)
            timed.write(LOGS / params.study / phase / "speed.json")
    for split, scored in splits.items():
        print(f"{phase} {split}: {_line(scored, params.task)}")


def _score(work: Work, lists: dict[str, list[str]]) -> dict[str, Split]:
    splits, samples, errors = {}, [], []
    for split, ids in lists.items():
        write_text(work.folder / f"images_{split}.txt", "".join(f"{image_id}\n" for image_id in ids))
        splits[split], chosen, wrong = SCORE[work.params.task](work, split, ids)
        samples += chosen
        errors += wrong
    write_samples(work.folder / "samples.json", samples)
    write_error_pictures(work.folder / "errors.json", errors)
    return splits


def _phase(arguments: tuple[str, ...], params: Params) -> str:
    if len(arguments) != 1 or arguments[0] not in params.trainings:
        given = " ".join(arguments) or "nothing"
        allowed = ", ".join(params.trainings)
        raise UserError(f"stages.evaluate takes the name of one phase or repeat, not {given!r}; allowed: {allowed}")
    return arguments[0]


def _labeled(manifest: Manifest, params: Params, split: str) -> list[str]:
    """The images of a split that have a truth to compare with (an official test split often has none)."""
    ids = read_list(Path("data", params.study, "splits"), split)
    if params.task == "detection":
        return ids
    labeled = [image_id for image_id in ids if manifest.records[image_id].mask is not None]
    if len(labeled) < len(ids):
        print(f"{split}: {len(ids) - len(labeled)} of {len(ids)} images have no mask and are not scored")
    return labeled


def _training(manifest: Manifest, params: Params) -> list[str]:
    """The training images that have a truth."""
    ids = read_list(Path("data", params.study, "splits"), "train")
    return [image for image in ids if params.task == "detection" or manifest.records[image].mask is not None]


def _document(params: Params, phase: str, shipped: Path, predictor: Predictor, splits: dict[str, Split]) -> Scores:
    weights = shipped / WEIGHTS[predictor.config["engine"]]
    return KINDS[params.task](
        study=params.study,
        phase=phase,
        task=params.task,
        engine=predictor.config["engine"],
        classes=list(params.classes),
        weights=Weights(file=weights.name, sha256=sha256_of(weights), bytes=weights.stat().st_size),
        parameters=predictor.parameters,
        training=Training.read(shipped / "train.json"),
        min_reliable=params.evaluate.min_reliable,
        splits=splits,
        **unpinned_mark(),
    )


def _time(
    params: Params, manifest: Manifest, predictor: Predictor, lists: dict[str, list[str]], device: torch.device
) -> Speed:
    ids = next(ids for ids in lists.values() if ids)
    size = params.evaluate.batch_size
    images = [read_image(manifest, image_id) for image_id in ids[:size]]
    described = describe_device(device)
    return Speed(
        **speed.measure(predictor.predict, images, size),
        input_size=list(predictor.config["input_size"]),
        threads=params.runtime.threads,
        device=described.device,
        device_name=described.device_name,
        cuda=described.cuda,
        precision=inference_precision(params.machine, device.type) or "32-true",
    )


def _line(scored: Split, task: str) -> str:
    parts = []
    for metric in METRICS[task]:
        score = scored.estimate(metric.name)
        if metric.scalars and (score.value is not None or "val" in metric.scalars):
            parts.append(f"{metric.name} {_number(score)}")
    return f"{', '.join(parts)} ({scored.images} images)"


def _number(score: Estimate) -> str:
    if score.value is None:
        return "undefined"
    return f"{score.value:.4f}" if score.low is None else f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"


if __name__ == "__main__":
    main(*sys.argv[1:])
