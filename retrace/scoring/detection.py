"""Statistics of detections: those of `retrace.evaluation.detection`, and AP at an IoU threshold of 0.75."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrace.documents.manifest import Record
from retrace.evaluation.detection import BoxScores, best_confidence
from retrace.evaluation.floor import constant_boxes
from retrace.evaluation.scores.matching import REPORTED, THRESHOLDS, Found, Matches, match, truth_of
from retrace.scoring.question import Answer, Options, Question
from retrace.statistics.bootstrap import Statistic

FLOORED = ("AP", "AP50", "AP75", "AR", "F1", "best_F1")  # scores for which a constant answer is a yardstick
OF_CLASS = ("AP", "AP50")
ANSWER = "the mean box of each class"
STRICT = int(np.flatnonzero(np.isclose(THRESHOLDS, 0.75))[0])


def question(
    what: str,
    classes: Sequence[str],
    images: Sequence[str],
    matches: Mapping[str, Matches],
    floor: Matches | None,
    options: Options,
) -> Question:
    """The question that matches answer.

    Args:
        what: boxes or masks.
        images: their names, in the order of the matches.
        matches: by name of the predictions, at least one.
        floor: those of the constant answer, whose confidences are all 1.
    """
    answers = []
    for name, found in matches.items():
        best = best_confidence(found, classes)
        answers.append(Answer(name, statistic(found, classes, options.confidence, best), best))
    return Question(
        task="detection",
        what=what,
        classes=tuple(classes),
        images=tuple(images),
        seen=next(iter(matches.values())).objects[:, :, 0],
        answers=tuple(answers),
        floor=statistic(floor, classes, 1.0, 1.0) if floor is not None else None,
        floor_answers=_floor_answers(classes, what) if floor is not None else {},
        train=options.train.name if options.train is not None else "",
    )


def match_boxes(
    records: Sequence[Record],
    learned: Sequence[Record],
    founds: Sequence[Sequence[Found]],
    classes: Sequence[str],
    iou_threshold: float,
) -> tuple[list[Matches], Matches | None]:
    """The matches of each file of predictions, and those of the constant answer.

    Args:
        records: the scored images with their boxes.
        learned: the images from which the constant answer is learned.
        founds: the detections in every scored image, by file.

    The constant answer needs the size of every image; without it (0) there is none.
    """
    truths = [truth_of(record) for record in records]
    matches = [match(truths, found, len(classes), iou_threshold) for found in founds]
    if not all(record.width for record in (*records, *learned)):
        return matches, None
    return matches, match(truths, constant_boxes(learned, records, classes), len(classes), iou_threshold)


def _floor_answers(classes: Sequence[str], what: str) -> dict[str, str]:
    """The answer behind the floor of every score that has one."""
    listed = [*FLOORED, *(f"{metric}/{name}" for metric in OF_CLASS for name in classes)]
    return dict.fromkeys(listed, ANSWER if what == "boxes" else f"{ANSWER}, filled")


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
