"""AP50 as the training log of Ultralytics 8.3 shows it: why a log can promise more than its weights keep.

Where a training is given `conf`, its validator drops less confident detections. The precision-recall curve
then ends early, and `ultralytics.utils.metrics.compute_ap` of version 8.3.231 closes it with a straight line
from its last point to (recall 1, precision 0), which adds area. COCO's curve, and Ultralytics' own from
version 8.4 on, falls to 0 at once. The same weights so have two scores.
"""

from collections.abc import Sequence

import numpy as np

from retrace.evaluation.scores.matching import Matches

RECALLS = np.linspace(0, 1, 101)
NAME = "AP50_as_logged"


class LoggedScores:
    """Image weights [b, N] -> {"AP50_as_logged": [b]}: a `bootstrap.Statistic` over kept matches.

    The mean over the classes that have objects; NaN where one of them has none in the resample.
    """

    def __init__(self, matches: Matches, classes: Sequence[str], confidence: float):
        self._objects = matches.objects[:, :, 0].astype(np.float64)
        rows = matches.rows[matches.rows["score"] >= confidence]
        rows = rows[rows["ignored"][:, 0] & 1 == 0]
        self._classes = []  # (class, images of its detections by falling score, whether each is a hit)
        for label in range(len(classes)):
            mine = rows[rows["label"] == label]
            mine = mine[np.argsort(-mine["score"], kind="stable")]
            if self._objects[:, label].any():
                hit = (mine["hit"][:, 0] & 1).astype(np.float64)
                self._classes.append((label, mine["image"].astype(np.intp), hit))

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        if not self._classes:
            return {NAME: np.full(len(weights), np.nan)}
        objects = weights @ self._objects
        scores = np.empty((len(self._classes), len(weights)))
        for row, (label, images, hit) in enumerate(self._classes):
            drawn = weights[:, images]
            made, right = np.cumsum(drawn, axis=1), np.cumsum(drawn * hit, axis=1)
            for resample in range(len(weights)):
                total = objects[resample, label]
                scores[row, resample] = _area(made[resample], right[resample], total)
        return {NAME: scores.mean(0)}


def _area(made: np.ndarray, right: np.ndarray, objects: float) -> float:
    """Area under a curve that ends at its last detection and goes on straight to (1, 0)."""
    if objects == 0:
        return float("nan")
    kept = made > 0
    if not kept.any():
        return 0.0
    recall = np.concatenate([[0.0], right[kept] / objects, [1.0]])
    precision = np.concatenate([[1.0], right[kept] / made[kept], [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.trapezoid(np.interp(RECALLS, recall, envelope), RECALLS))
