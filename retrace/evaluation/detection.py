"""Detection scores for every engine by one definition: COCO's AP and AR (faster-coco-eval), precision, recall and F1.

AP50, AP (mAP@[.5:.95]), AR and AP by object size are computed by faster-coco-eval; their bootstrap intervals by
`BoxScores`, which re-weights matches kept per image and is checked against faster-coco-eval on every call. Precision,
recall and F1 are taken at one confidence and `evaluate.iou_threshold`, and averaged over the classes in the truth. A
resample without one of the classes that a mean is taken over gives no draw of that mean: it would be another mean.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retrace.config.metrics import CLASS, SPLIT, names
from retrace.config.schema import Evaluate
from retrace.documents.scores import DetectionClass, DetectionSplit, Instances
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import AREAS, REPORTED, THRESHOLDS, Found, Matches, Truth
from retrace.statistics.bootstrap import Units, intervals
from retrace.statistics.estimate import Estimate

RECALLS = np.linspace(0, 1, 101)
CONFIDENCES = np.arange(1001) / 1000
AT_CONFIDENCE = ("precision", "recall", "F1")
AT_BEST = ("best_F1_precision", "best_F1_recall", "best_F1")
CELLS = 2_000_000  # of weights x detections held at once (16 MB an array)


class BoxScores:
    """Image weights [b, N] -> every score [b]: a `bootstrap.Statistic` over kept matches.

    Names: those of `retrace.config.metrics`, `<metric>/<class>` for a class. The best-F1 confidence is
    the one of all images and is not chosen again in a resample. NaN: no object of that class (or size), or, for
    precision, no detection of it. A mean is over the classes where all images together define the score, and NaN where
    one of them is undefined in the resample.
    """

    def __init__(self, matches: Matches, classes: Sequence[str], confidence: float, best_confidence: float):
        self.classes = list(classes)
        rows = matches.rows
        self._parts = []  # per class: per area range, the detections that count, by falling score
        for label in range(len(classes)):
            mine = rows[rows["label"] == label]
            mine = mine[np.argsort(-mine["score"], kind="stable")]
            self._parts.append([_Part(mine, area) for area in range(len(AREAS))])
        self._objects = matches.objects.astype(np.float64)
        self._counts = [_counts(matches, score) for score in (confidence, best_confidence)]
        self._rows = max(1, CELLS // max(1, *(part[0].images.size for part in self._parts)))
        whole, _ = self._per_class(np.ones((1, len(self._objects))))
        self._averaged = {name: ~np.isnan(values[:, 0]) for name, values in whole.items()}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        blocks = [self._block(weights[start : start + self._rows]) for start in range(0, len(weights), self._rows)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _block(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        averaged, shown = self._per_class(weights)
        scores = {name: _mean_of(values, self._averaged[name]) for name, values in averaged.items()}
        for key, values in shown.items():
            scores |= {f"{key}/{name}": values[index] for index, name in enumerate(self.classes)}
        return scores

    def _per_class(self, weights: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Values [C, b] by the name of their mean, and those that every class has."""
        objects = np.einsum("bn,nca->bca", weights, self._objects, optimize=True)
        found = np.full((len(AREAS), len(self.classes), len(weights), len(THRESHOLDS)), np.nan)
        recall = np.full(found.shape[1:], np.nan)
        for index, parts in enumerate(self._parts):
            for area, part in enumerate(parts):
                found[area, index], reached = part.average_precision(weights, objects[:, index, area])
                if area == 0:
                    recall[index] = reached
        shown = {"AP50": found[0, :, :, 0], "AP": found[0].mean(-1)}
        averaged = shown | {"AR": recall.mean(-1)}
        averaged |= {f"AP_{name}": found[area].mean(-1) for area, name in enumerate(AREAS) if area}
        for rated, counts in zip((AT_CONFIDENCE, AT_BEST), self._counts, strict=True):
            hits, made = (np.einsum("bn,nc->cb", weights, count, optimize=True) for count in counts)
            rates = dict(zip(rated, _rates(hits, made, objects[:, :, 0].T), strict=True))
            averaged |= rates
            if rated is AT_CONFIDENCE:
                shown |= rates
        return averaged, shown


class _Part:
    """The detections of one class that count in one area range."""

    def __init__(self, rows: np.ndarray, area: int):
        every = (1 << len(THRESHOLDS)) - 1
        rows = rows[rows["ignored"][:, area] & every != every]
        self.images = rows["image"].astype(np.intp)
        bits = 1 << np.arange(len(THRESHOLDS))
        self._hits = [np.flatnonzero(rows["hit"][:, area] & bit) for bit in bits]  # positions, per threshold
        # some count at other thresholds only: they are few, so one long sum less a short one is enough per threshold
        self._out = [np.flatnonzero(rows["ignored"][:, area] & bit) for bit in bits]

    def average_precision(self, weights: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """weights [b, N], objects [b] -> 101-point average precision and recall [b, T], NaN without objects.

        Precision peaks at hits only, so nothing else is looked at; recall levels are compared as object counts, which
        are exact. So are counts in single precision below 2^24, which are half as much to move.
        """
        count, columns = len(weights), np.arange(len(weights))[:, None]
        exact = np.float32 if weights.max(initial=0) * self.images.size < 2**24 else np.float64
        precision, recall = np.zeros((2, count, len(THRESHOLDS)))
        drawn = np.ascontiguousarray(weights.T, dtype=exact)[self.images]  # [D, b]
        wanted = _least_hits(objects)  # [b, R]
        offset = columns * (objects.max(initial=0) + 2)
        levels = (wanted + offset).ravel()
        made = np.cumsum(drawn, axis=0)
        for index, (hits, out) in enumerate(zip(self._hits, self._out, strict=True)):
            if not hits.size:
                continue
            tried = made[hits]
            if out.size:
                left_out = np.cumsum(np.pad(drawn[out], ((1, 0), (0, 0))), axis=0)
                tried -= left_out[np.searchsorted(out, hits)]
            np.maximum(tried, 1, out=tried)  # none tried, none right: 0
            right = np.cumsum(drawn[hits], axis=0)
            envelope = np.zeros((hits.size + 1, count))
            np.divide(right, tried, out=envelope[:-1], dtype=np.float64)
            np.maximum.accumulate(envelope[::-1], axis=0, out=envelope[::-1])
            position = np.searchsorted(np.add(right.T, offset, order="C").ravel(), levels).reshape(wanted.shape)
            position = np.clip(position - columns * hits.size, 0, hits.size)
            precision[:, index] = envelope[position, columns].mean(1)
            recall[:, index] = right[-1] / np.maximum(objects, 1)
        nothing = objects == 0
        precision[nothing], recall[nothing] = np.nan, np.nan
        return precision, recall


def _least_hits(objects: np.ndarray) -> np.ndarray:
    """[b] -> [b, 101]: how many hits the recall levels need, exactly as `hits / objects >= level` compares."""
    total = np.maximum(objects, 1)[:, None]
    hits = np.floor(RECALLS * total)
    return hits + (hits / total < RECALLS)


def _counts(matches: Matches, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Hits and counted detections [N, C] at the reported IoU threshold among those at least this confident."""
    images, classes, _ = matches.objects.shape
    rows = matches.rows[matches.rows["score"] >= confidence]
    cell = rows["image"].astype(np.int64) * classes + rows["label"]
    hit, ignored = (rows[name][:, 0] >> REPORTED & 1 for name in ("hit", "ignored"))
    hits, made = (np.bincount(cell[chosen], minlength=images * classes) for chosen in (hit == 1, ignored == 0))
    return hits.reshape(images, classes).astype(np.float64), made.reshape(images, classes).astype(np.float64)


def _rates(hits: np.ndarray, made: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1, elementwise; NaN without objects, precision also without detections."""
    present = objects > 0
    nan = np.full(np.shape(hits), np.nan)
    precision = np.divide(hits, made, out=nan.copy(), where=present & (made > 0))
    recall = np.divide(hits, objects, out=nan.copy(), where=present)
    return precision, recall, np.divide(2 * hits, made + objects, out=nan.copy(), where=present)


def _mean_of(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """[C, b] -> [b]: mean over the chosen classes (bool [C]), NaN without any or where one of them is NaN."""
    if not classes.any():
        return np.full(values.shape[1], np.nan)
    return np.where(classes[:, None], values, 0).sum(0) / classes.sum()


def curves(matches: Matches, classes: Sequence[str]) -> dict[str, Any]:
    """Per class, arrays for plots: `precision` [101] over `recall` (AP50's), and `F1` over `confidence` [1001].

    `precision_at` and `recall_at` are over `confidence` too; without detections the precision is 0.
    `mean_F1` [1001] is over the classes in the truth. A class without objects is left out.
    """
    objects = matches.objects[:, :, 0].sum(0)
    result: dict[str, Any] = {"recall": RECALLS, "confidence": CONFIDENCES, "precision": {}, "F1": {}}
    result |= {"precision_at": {}, "recall_at": {}}
    for label, name in enumerate(classes):
        if not objects[label]:
            continue
        rows = matches.rows[matches.rows["label"] == label]
        rows = rows[np.argsort(-rows["score"], kind="stable")]
        result["precision"][name] = _interpolated(rows[rows["ignored"][:, 0] & 1 == 0], int(objects[label]))
        kept = rows[rows["ignored"][:, 0] >> REPORTED & 1 == 0]
        made = np.searchsorted(-kept["score"], -CONFIDENCES, side="right")  # detections at least this confident
        hits = np.concatenate([[0], np.cumsum(kept["hit"][:, 0] >> REPORTED & 1)])[made]
        result["F1"][name] = 2 * hits / (made + objects[label])
        result["precision_at"][name] = hits / np.maximum(made, 1)
        result["recall_at"][name] = hits / objects[label]
    result["mean_F1"] = np.mean(list(result["F1"].values()), axis=0) if result["F1"] else np.zeros(len(CONFIDENCES))
    return result


def _interpolated(rows: np.ndarray, objects: int) -> np.ndarray:
    hits = np.cumsum(rows["hit"][:, 0] & 1)
    envelope = np.maximum.accumulate((hits / np.arange(1, len(rows) + 1))[::-1])[::-1]
    position = np.searchsorted(hits, _least_hits(np.array([objects]))[0])
    return np.append(envelope, 0.0)[position]


def summarize(
    truths: Sequence[Truth],
    founds: Sequence[Found],
    matches: Matches,
    units: Units,
    classes: Sequence[str],
    options: Evaluate,
    seed: int,
) -> DetectionSplit:
    """The scores of one split without its confusion matrix.

    A class with fewer than `options.min_reliable` objects is not `reliable`. `best_F1` is at the confidence chosen on
    these very images, hence optimistic; `F1` is at the confidence fixed beforehand.
    """
    best = best_confidence(matches, classes)
    statistic = BoxScores(matches, classes, options.confidence, best)
    objects = matches.objects[:, :, 0]
    held = units.holding(objects > 0)
    support = {f"{key}/{name}": held[label] for label, name in enumerate(classes) for key in names("detection", CLASS)}
    found = intervals(statistic, units, options.bootstrap, seed, support)
    _agree(found, coco_scores(truths, founds, classes))
    per_class = {
        name: DetectionClass(
            **{metric: found[f"{metric}/{name}"] for metric in names("detection", CLASS)},
            instances=int(objects[:, label].sum()),
            images=int((objects[:, label] > 0).sum()),
            units=int(held[label]),
            reliable=bool(objects[:, label].sum() >= options.min_reliable),
        )
        for label, name in enumerate(classes)
    }
    sizes = {name: int(matches.objects[:, :, area].sum()) for area, name in enumerate(AREAS)}
    return DetectionSplit(
        images=len(truths),
        units=units.count,
        instances=Instances(**sizes),
        **{metric: found[metric] for metric in names("detection", SPLIT) if metric in found},
        best_F1_confidence=best,
        confidence=options.confidence,
        iou_threshold=options.iou_threshold,
        per_class=per_class,
    )


def _agree(found: dict[str, Estimate], official: dict[str, float]) -> None:
    """Print faster-coco-eval's value, to the bit; a real difference would be a bug here."""
    for name, value in official.items():
        mine = found[name].value
        same = np.isnan(value) if mine is None else abs(mine - value) < 1e-9
        if not same:
            raise RuntimeError(f"{name}: {mine} from the kept matches, but {value} from faster-coco-eval")
        found[name] = replace(found[name], value=None if mine is None else value)


def best_confidence(matches: Matches, classes: Sequence[str]) -> float:
    """The confidence with the highest mean F1 (the lowest such, in steps of 0.001)."""
    return float(CONFIDENCES[int(np.argmax(curves(matches, classes)["mean_F1"]))])
