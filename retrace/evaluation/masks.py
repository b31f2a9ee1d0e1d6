"""Score the masks of one split: a confusion matrix per image, then scores, intervals and sample pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from retrace.data.loading import read_mask
from retrace.data.palette import palette
from retrace.evaluation import pictures
from retrace.evaluation.boundary import COUNTS, boundary_counts, radius_of, summarize_boundaries
from retrace.evaluation.floor import Places, against_floor, constant_masks, named, places, spread
from retrace.evaluation.scores.segmentation import OVERALL, PER_CLASS, confusion_matrix, scores
from retrace.evaluation.work import Images, Scored, Work
from retrace.statistics.bootstrap import Statistic, Units, intervals, of_totals


@dataclass(frozen=True)
class _Counted:
    """What is kept of every image of a split."""

    matrices: np.ndarray  # int64 [N, C, C], rows = truth
    constant: np.ndarray  # int64 [N, C, C], of the answer that looks at no image
    boundaries: np.ndarray  # int64 [N, C, 4]; all 0 where they are not asked for
    sizes: list[int]  # bytes of the predicted mask as a PNG file
    used: np.ndarray  # bool [C]: classes that are predicted anywhere


def score_masks(work: Work, split: str, ids: list[str]) -> Scored:
    """Predict and compare at the label's own resolution.

    Writes confusion_<split>.npy (int64 [N, C, C]), boundary_<split>.npy (int64 [N, C, 4]) and sample pictures.
    """
    params, options = work.params, work.params.evaluate
    train = places((read_mask(work.manifest, image) for image in spread(work.train)), len(params.classes))
    counted = _count(work, split, ids, train)
    np.save(work.folder / f"confusion_{split}.npy", counted.matrices, allow_pickle=False)
    focus = [params.class_index(name) for name in params.report.focus_classes]
    seed, (units, kind) = work.bootstrap_seed(split), work.units(split, ids)
    found = summarize(counted.matrices, units, params.classes, focus, options.bootstrap, seed, options.min_reliable)
    found["unit"] = kind
    floor = constant_masks(train, counted.constant, params.classes, focus)
    _add_floor(work, found, counted.matrices, floor, units, seed)
    if options.boundary is not None:
        np.save(work.folder / f"boundary_{split}.npy", counted.boundaries, allow_pickle=False)
        _add_boundaries(work, found, counted.boundaries, units, seed)
    weighed = weigh(counted.sizes, units, options.bootstrap, seed)
    found["masks"] = weighed | {"classes_used": int(counted.used.sum())}
    return found, _draw(work, split, ids, scores(counted.matrices)["mIoU"])


def _count(work: Work, split: str, ids: list[str], train: Places) -> _Counted:
    count, options = len(work.params.classes), work.params.evaluate.boundary
    matrices, constant = np.zeros((2, len(ids), count, count), dtype=np.int64)
    boundaries = np.zeros((len(ids), count, len(COUNTS)), dtype=np.int64)
    sizes, used = [], np.zeros(count, dtype=bool)
    for row, ((_, truth, _), predicted) in enumerate(work.predictions(ids, f"evaluate {split}")):
        assert truth is not None  # only labeled images are scored
        matrices[row] = confusion_matrix(truth, predicted, count)
        constant[row] = confusion_matrix(truth, train.answer(truth.shape), count)
        if options is not None:
            boundaries[row] = boundary_counts(truth, predicted, count, radius_of(options, truth.shape))
        sizes.append(len(mask_png(predicted)))
        used[np.unique(predicted)] = True
    return _Counted(matrices, constant, boundaries, sizes, used)


def _add_boundaries(work: Work, found: dict[str, Any], boundaries: np.ndarray, units: Units, seed: int) -> None:
    rows = summarize_boundaries(boundaries, units, work.params.evaluate.bootstrap, seed)
    found["mean_boundary_F1"] = rows["mean_boundary_F1"]
    for row, score in zip(found["per_class"].values(), rows["boundary_F1"], strict=True):
        row["boundary_F1"] = score


def _add_floor(
    work: Work,
    found: dict[str, Any],
    matrices: np.ndarray,
    floor: tuple[Statistic, dict[str, str]],
    units: Units,
    seed: int,
) -> None:
    """Put the best constant answer beside the scores: `floor` of the split and of every class."""
    classes, whole = work.params.classes, matrices.sum(0)
    focus = [work.params.class_index(name) for name in work.params.report.focus_classes]
    statistic, answers = floor
    model = of_totals(lambda totals: named(scores(totals, focus, whole), classes), matrices)
    rows = against_floor(model, statistic, units, work.params.evaluate.bootstrap, seed)
    found["floor"] = {name: rows[name] | {"answer": answers[name]} for name in OVERALL}
    for name, row in found["per_class"].items():
        row["floor"] = rows[f"IoU/{name}"] | {"answer": answers[f"IoU/{name}"]}


def summarize(
    per_image: np.ndarray,
    units: Units,
    classes: Sequence[str],
    focus: Sequence[int],
    resamples: int,
    seed: int,
    min_reliable: int,
) -> dict[str, Any]:
    """One split of metrics/<study>/<phase>.json: every score with its interval, counts and the confusion matrix.

    per_image: int64 [N, C, C], rows = truth. A class seen in fewer than `min_reliable` images is not `reliable`.
    """
    total = per_image.sum(0)
    statistic = of_totals(lambda totals: scores(totals, focus, total), per_image)
    shown = per_image.sum(2) > 0  # [N, C]
    support = dict.fromkeys(PER_CLASS, units.holding(shown))
    found = intervals(statistic, units, resamples, seed, support)
    images = shown.sum(0)  # [C]
    per_class = {
        name: {key: found[key][index] for key in PER_CLASS}
        | {
            "images": int(images[index]),
            "units": int(support["IoU"][index]),
            "pixels": int(total[index].sum()),
            "reliable": bool(images[index] >= min_reliable),
            "predicted_pixels": int(total[:, index].sum()),
        }
        for index, name in enumerate(classes)
    }
    overall = {key: found[key] for key in OVERALL}
    return {
        "images": len(per_image),
        "units": units.count,
        **overall,
        "per_class": per_class,
        "confusion": total.tolist(),
    }


def mask_png(mask: np.ndarray) -> bytes:
    """A mask (class index, uint8 [H, W]) as the PNG file that `retrace predict` writes; the same bytes every time."""
    encoded, content = cv2.imencode(".png", mask)
    assert encoded
    return content.tobytes()


def weigh(sizes: Sequence[int], units: Units, resamples: int, seed: int) -> dict[str, Any]:
    """What the predicted masks of a split weigh as files: `{"bytes_mean": I, "bytes_median", "bytes_total"}`.

    sizes: bytes of each image's file; the interval is the 95 % bootstrap over the units. Without images mean and median
    are None.
    """
    rows = np.array([[size, 1] for size in sizes], dtype=np.int64).reshape(-1, 2)
    mean = of_totals(lambda totals: {"bytes_mean": totals[:, 0] / np.maximum(totals[:, 1], 1)}, rows)
    if not len(rows):
        return {
            "bytes_mean": {"value": None, "low": None, "high": None, "n": 0, "usable": 0.0},
            "bytes_median": None,
            "bytes_total": 0,
        }
    found = intervals(mean, units, resamples, seed)
    return found | {"bytes_median": float(np.median(rows[:, 0])), "bytes_total": int(rows[:, 0].sum())}


def _draw(work: Work, split: str, ids: list[str], per_image: np.ndarray) -> list[dict[str, Any]]:
    colors = palette(work.params.classes, work.params.report.colors)
    images = Images(work.manifest, ids)
    samples = []
    for kind, rows in pictures.choose(per_image, ids, work.params.evaluate.samples).items():
        for rank, row in enumerate(rows, start=1):
            image, truth, image_id = images[row]
            assert truth is not None
            file = f"samples/{split}_{kind}_{rank}.jpg"
            pictures.save_masks(work.folder / file, image, truth, work.predict([image])[0], colors)
            samples.append({"file": file, "id": image_id, "split": split, "kind": kind, "score": float(per_image[row])})
    return samples
