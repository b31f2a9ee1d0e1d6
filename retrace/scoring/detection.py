"""Statistics of detections: those of `retrace.evaluation.detection`, and AP at an IoU threshold of 0.75."""

from collections.abc import Sequence

import numpy as np

from retrace.evaluation.detection import BoxScores, best_confidence
from retrace.evaluation.scores.matching import REPORTED, THRESHOLDS, Matches
from retrace.scoring.question import Answer
from retrace.statistics.bootstrap import Statistic

FLOORED = ("AP", "AP50", "AP75", "AR", "F1", "best_F1")  # scores for which a constant answer is a yardstick
OF_CLASS = ("AP", "AP50")
ANSWER = "the mean box of each class"  # for masks, filled
STRICT = int(np.flatnonzero(np.isclose(THRESHOLDS, 0.75))[0])


def answer(name: str, matches: Matches, classes: Sequence[str], confidence: float) -> Answer:
    """The scores of one file of predictions from its matches."""
    best = best_confidence(matches, classes)
    return Answer(name, statistic(matches, classes, confidence, best), best)


def floor(matches: Matches, classes: Sequence[str]) -> Statistic:
    """The scores of the constant answer, whose confidences are all 1."""
    return statistic(matches, classes, 1.0, 1.0)


def floor_answers(classes: Sequence[str]) -> dict[str, str]:
    """The answer behind the floor of every score that has one."""
    listed = [*FLOORED, *(f"{metric}/{name}" for metric in OF_CLASS for name in classes)]
    return dict.fromkeys(listed, ANSWER)


def statistic(matches: Matches, classes: Sequence[str], confidence: float, best: float) -> Statistic:
    """`BoxScores` with `AP75`."""
    scores = BoxScores(matches, classes, confidence, best)
    strict = BoxScores(_at(matches, STRICT), classes, confidence, best)

    def both(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = scores(weights)
        found["AP75"] = strict(weights)["AP50"]
        return found

    return both


def _at(matches: Matches, threshold: int) -> Matches:
    """Matches whose first IoU threshold is another one; at the others nothing counts."""
    others = (1 << (REPORTED + 1)) - 2
    rows = matches.rows.copy()
    rows["hit"] = rows["hit"] >> threshold & 1
    rows["ignored"] = (rows["ignored"] >> threshold & 1) | others
    rows["hit"][:, 1:], rows["ignored"][:, 1:] = 0, others + 1
    return Matches(rows, matches.objects)
