"""Labels of the splits that a phase was not trained on, with what the phase predicts there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retrace.config.schema import Params
from retrace.config.trainings import stage_of
from retrace.data.manifest import Manifest
from retrace.data.splits import read_list
from retrace.documents.scores import Scores
from retrace.errors import UserError
from retrace.evaluation.floor import spread
from retrace.evaluation.scores.matching import Found, truth_of
from retrace.files import read_jsonl
from retrace.labels.boxes import suspicious_boxes, usual_overlap
from retrace.labels.suspects import Suspect
from retrace.programs import how_to_get

HELD_OUT = ("val", "test")


def held_out(study: str, phase: str, scores: Scores) -> dict[str, list[str]]:
    """{split: ids of the images that the phase was scored on}; never an image that it was trained on.

    Raises:
        UserError: the lists were made anew since the phase was scored, or no image was.
    """
    stage, lists = f"dvc repro {stage_of('evaluate', phase)}", {}
    for split in HELD_OUT:
        if split in scores.splits and scores.splits[split].images:
            path = Path("metrics", study, phase, f"images_{split}.txt")
            if not path.is_file():
                raise UserError(f"{path}: no such file; run {how_to_get(str(path), stage)}")
            lists[split] = path.read_text(encoding="utf-8").split()
            if not set(lists[split]) <= set(read_list(Path("data", study, "splits"), split)):
                raise UserError(f"{path}: not the images of this split any more; run `{stage}`")
    if not lists:
        raise UserError(f"phase {phase} was scored on no labeled image of {' or '.join(HELD_OUT)}; see evaluate.splits")
    return lists


def of_boxes(params: Params, phase: str, manifest: Manifest, lists: dict[str, list[str]]) -> list[Suspect]:
    """Suspicious boxes, from the predictions that `evaluate` wrote."""
    ids, founds = [], []
    for split, listed in lists.items():
        path = Path("metrics", params.study, phase, f"predictions_{split}.jsonl")
        rows = {row["id"]: row for row in read_jsonl(path)}
        for image_id in listed:
            row = rows[image_id]
            boxes = np.array(row["boxes"], dtype=np.float64).reshape(-1, 4)
            founds.append(Found(boxes, np.array(row["labels"], dtype=np.int64), np.array(row["scores"], np.float64)))
            ids.append(image_id)
    truths = [truth_of(manifest.records[image_id]) for image_id in ids]
    usual = usual_overlap(truths, founds, len(params.classes))
    suspects: list[Suspect] = []
    for image_id, truth, found in zip(ids, truths, founds, strict=True):
        suspects += suspicious_boxes(image_id, truth, found, usual)
    return suspects


def of_masks(params: Params, phase: str, manifest: Manifest, ids: list[str]) -> list[Suspect]:
    """Suspicious regions of masks; the phase predicts every image anew, since `evaluate` keeps no probabilities."""
    from retrace.data.loading import read_mask
    from retrace.labels.masks import suspicious_regions, usual_areas

    usual = usual_areas((read_mask(manifest, image_id) for image_id in spread(ids)), len(params.classes))
    suspects: list[Suspect] = []
    for image_id, probabilities in probabilities_of(params, phase, manifest, ids):
        suspects += suspicious_regions(image_id, read_mask(manifest, image_id), probabilities, usual)
    return suspects


def probabilities_of(
    params: Params, phase: str, manifest: Manifest, ids: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, float32 [C, H, W] at the image's resolution) of every image."""
    import torch

    from retrace.data.loading import read_image
    from retrace.models.layers.bilinear import resize
    from retrace.models.predict import SegmentationPredictor, choose_device, load_predictor, require_same_classes
    from retrace.progress import track

    torch.set_num_threads(params.runtime.threads)
    folder = Path("models", params.study, phase)
    predictor = load_predictor(folder, choose_device(params.machine.device))
    require_same_classes(predictor, params, folder)
    assert isinstance(predictor, SegmentationPredictor)
    for image_id in track(ids, "label-check", total=len(ids)):
        image = read_image(manifest, image_id)
        with torch.inference_mode():
            logits = predictor.logits([image])
            if tuple(logits.shape[-2:]) != image.shape[:2]:
                logits = resize(logits, (image.shape[0], image.shape[1]))
            yield image_id, logits[0].softmax(0).cpu().numpy()
