"""Scores beside the field's usual tools, on the same detections and masks: `python -m benchmarks.evaluation`.

Boxes: 1,640 generated images with about 52,000 detections. One plain evaluation is faster-coco-eval as we call it,
against pycocotools; intervals are 1,000 resamples from kept matches, against pycocotools called for every
resample (one call is timed and multiplied). Confusion matrix: ours against scikit-learn and torchmetrics.
"""

import contextlib
import io
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.functional.classification import multiclass_confusion_matrix

from benchmarks.harness import Side, alternate, arguments, save
from retrace.data.manifest import IGNORE
from retrace.evaluation.detection import BoxScores
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import Found, Truth, match
from retrace.evaluation.scores.segmentation import confusion_matrix
from retrace.statistics.bootstrap import intervals

CLASSES = ("a", "b", "c", "d")
RESAMPLES = 1000


def boxes(images: int, seed: int) -> tuple[list[Truth], list[Found]]:
    """Generated truths (about 12 an image) and detections (about 32): most of them shifted truths, some noise."""
    random = np.random.default_rng(seed)
    truths, founds = [], []
    for _ in range(images):
        count = int(random.integers(4, 21))
        corner, size = random.uniform(0, 540, (count, 2)), random.lognormal(3.7, 0.7, (count, 2)).clip(4, 400)
        true, labels = np.hstack([corner, size]), random.integers(0, len(CLASSES), count)
        truths.append(Truth(true, labels, np.zeros(count, dtype=bool)))
        seen = np.repeat(np.arange(count), 2)
        moved = true[seen] + random.normal(0, 0.12, (len(seen), 4)) * np.tile(size[seen], (1, 2))
        noise = np.hstack([random.uniform(0, 540, (8, 2)), random.uniform(10, 90, (8, 2))])
        guess = np.vstack([moved, noise])
        guess[:, 2:] = guess[:, 2:].clip(1)
        kinds = np.concatenate([labels[seen], random.integers(0, len(CLASSES), 8)])
        founds.append(Found(guess, kinds, random.uniform(0.01, 1, len(guess))))
    return truths, founds


def peer_data(
    truths: list[Truth], founds: list[Found], order: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The images in `order` (with repetitions, as a resample draws them) as COCO JSON and a results list."""
    data: dict[str, Any] = {"images": [], "annotations": []}
    data["categories"] = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
    results = []
    for image, index in enumerate(order.tolist(), start=1):
        data["images"].append({"id": image})
        for box, label in zip(truths[index].boxes.tolist(), truths[index].labels.tolist(), strict=True):
            row = {"id": len(data["annotations"]) + 1, "image_id": image, "category_id": label + 1, "bbox": box}
            data["annotations"].append(row | {"area": box[2] * box[3], "iscrowd": 0})
        found = founds[index]
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": label + 1, "bbox": box, "score": score})
    return data, results


def pycocotools(truths: list[Truth], founds: list[Found], order: np.ndarray) -> float:
    """mAP@[.5:.95] by pycocotools."""
    data, results = peer_data(truths, founds, order)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def plain(truths: list[Truth], founds: list[Found], repetitions: int) -> dict[str, Any]:
    """One evaluation each."""
    order = np.arange(len(truths))
    mine, theirs = coco_scores(truths, founds, CLASSES)["AP"], pycocotools(truths, founds, order)
    if abs(mine - theirs) > 1e-9:
        raise RuntimeError(f"the two sides disagree: {mine} and {theirs}")
    sides: dict[str, Side] = {
        "retrace": lambda: coco_scores(truths, founds, CLASSES),
        "pycocotools": lambda: pycocotools(truths, founds, order),
    }
    return _row("box mAP, one evaluation", alternate(sides, repetitions), "pycocotools")


def resampled(truths: list[Truth], founds: list[Found], repetitions: int) -> dict[str, Any]:
    """Every score with its interval; pycocotools extrapolated from one resample."""
    order = np.random.default_rng(1).integers(0, len(truths), len(truths))

    def ours() -> None:
        statistic = BoxScores(match(truths, founds, len(CLASSES), 0.5), CLASSES, 0.25, 0.5)
        intervals(statistic, len(truths), RESAMPLES, 0)

    sides: dict[str, Side] = {"retrace": ours, "pycocotools": lambda: pycocotools(truths, founds, order)}
    seconds = alternate(sides, repetitions, warm_up=False)
    seconds["pycocotools"] = [value * RESAMPLES for value in seconds["pycocotools"]]
    return _row(
        f"box scores with intervals, {RESAMPLES:,} resamples", seconds, "pycocotools, extrapolated", "pycocotools"
    )


def confusion(repetitions: int, images: int) -> list[dict[str, Any]]:
    """Counting `images` masks of 19 classes at 720 x 1280."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 19, (720, 1280)).astype(np.uint8)
    truth[random.random(truth.shape) < 0.05] = IGNORE
    guess = np.where(random.random(truth.shape) < 0.7, truth, random.integers(0, 19, truth.shape)).astype(np.uint8)
    guess[guess == IGNORE] = 0
    scored = truth != IGNORE

    def scikit() -> np.ndarray:
        return sklearn_confusion(truth[scored], guess[scored], labels=np.arange(19))

    def metrics() -> torch.Tensor:
        pair = (torch.from_numpy(array.astype(np.int64)) for array in (guess, truth))
        return multiclass_confusion_matrix(*pair, num_classes=19, ignore_index=IGNORE)

    mine = confusion_matrix(truth, guess, 19)
    if (mine != scikit()).any() or (mine != metrics().numpy()).any():
        raise RuntimeError("the three confusion matrices differ")
    sides: dict[str, Side] = {
        "retrace": lambda: [confusion_matrix(truth, guess, 19) for _ in range(images)],
        "scikit-learn": lambda: [scikit() for _ in range(images)],
        "torchmetrics": lambda: [metrics() for _ in range(images)],
    }
    seconds = alternate(sides, repetitions)
    return [
        _row(f"confusion matrix of {images} masks, 720 x 1280, 19 classes", seconds, name) for name in list(sides)[1:]
    ]


def _row(what: str, seconds: dict[str, list[float]], beside: str, side: str | None = None) -> dict[str, Any]:
    mine, theirs = float(np.median(seconds["retrace"])), float(np.median(seconds[side or beside]))
    return {"what": what, "retrace_s": mine, "beside": beside, "beside_s": theirs, "times": theirs / mine}


def main() -> None:
    """Time all and write benchmarks/results/evaluation.json."""
    options = arguments(__doc__).parse_args()
    truths, founds = boxes(20 if options.tiny else 1640, 0)
    print(f"{len(truths)} images, {sum(len(found.scores) for found in founds):,} detections")
    rows = [plain(truths, founds, options.repetitions), resampled(truths, founds, options.repetitions)]
    rows += confusion(options.repetitions, 2 if options.tiny else 10)
    save("evaluation", options.tiny, rows, repetitions=options.repetitions)


if __name__ == "__main__":
    main()
