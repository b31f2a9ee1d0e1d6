"""Segmentation scores from one data-set-level confusion matrix of integer counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrace.data.manifest import IGNORE

if TYPE_CHECKING:
    import torch


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count pixels by (true, predicted) class.

    truth, predicted: integer arrays of one shape, values 0 ... classes-1; `ignore` in `truth` is not counted.
    Returns int64 [classes, classes], rows = truth. Raises ValueError for other values or unequal shapes.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    scored = truth != ignore
    true, guess = truth[scored].astype(np.int64), predicted[scored].astype(np.int64)
    if true.size and (min(true.min(), guess.min()) < 0 or max(true.max(), guess.max()) >= classes):
        raise ValueError(f"class index outside 0 ... {classes - 1}")
    return np.bincount(true * classes + guess, minlength=classes * classes).reshape(classes, classes)


def confusion_matrix_torch(
    truth: torch.Tensor, predicted: torch.Tensor, classes: int, ignore: int = IGNORE
) -> torch.Tensor:
    """`confusion_matrix` on the tensors' device, for the training loop; values are not range-checked.

    Unweighted integer `bincount` is deterministic on every device, which its float and scatter relatives are not.
    """
    import torch

    cells = classes * classes
    # pixels that are not scored get a bin of their own: selecting the others would wait for the device
    pairs = torch.where(truth != ignore, truth.long() * classes + predicted.long(), cells)
    return torch.bincount(pairs.flatten(), minlength=cells + 1)[:cells].reshape(classes, classes)


def scores(confusion: np.ndarray, focus: Sequence[int] = (), whole: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All scores of confusion matrices [..., C, C] (counts, rows = truth), as float64 in [0, 1].

    Returns `IoU`, `precision`, `recall`, `F1` [..., C] and `mIoU`, `focus_mIoU`, `pixel_accuracy`, `balanced_accuracy`
    [...]. NaN means undefined: every score of a class that is absent from the truth, the precision of a class that is
    never predicted, `focus_mIoU` without `focus` (class indices). The means run over the classes present in the truth;
    balanced accuracy is the mean per-class recall.

    `whole` [C, C]: the confusion matrix of all images, where `confusion` are resamples of them. The means then run over
    the classes present in the whole and are undefined where one of those is missing, so that no draw is the mean of
    other classes than the value is.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, guessed = counts.sum(-1), counts.sum(-2)
    present = true > 0
    averaged = present if whole is None else np.broadcast_to(np.asarray(whole).sum(-1) > 0, present.shape)
    iou = _ratio(hits, np.where(present, true + guessed - hits, 0))
    recall = _ratio(hits, true)
    listed = np.zeros(counts.shape[-1], dtype=bool)
    listed[list(focus)] = True
    return {
        "IoU": iou,
        "precision": _ratio(hits, np.where(present, guessed, 0)),
        "recall": recall,
        "F1": _ratio(2 * hits, np.where(present, true + guessed, 0)),
        "mIoU": _mean(iou, averaged),
        "focus_mIoU": _mean(iou, averaged & listed),
        "pixel_accuracy": _ratio(hits.sum(-1), true.sum(-1)),
        "balanced_accuracy": _mean(recall, averaged),
    }


def as_numbers(values: Any) -> Any:
    """NumPy numbers and arrays (also inside a dict) as JSON-ready floats and lists, undefined (NaN) as None."""
    if isinstance(values, dict):
        return {key: as_numbers(value) for key, value in values.items()}
    if np.ndim(values):
        return [as_numbers(value) for value in values]
    return None if np.isnan(values) else float(values)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the chosen values, NaN where none is chosen or a chosen one is NaN."""
    return _ratio(np.where(chosen, values, 0.0).sum(-1), chosen.sum(-1))
