"""Which kind of truth a path is, and the question that it asks."""

from pathlib import Path

from retrace.errors import UserError
from retrace.scoring import coco_scores
from retrace.scoring.question import Options, Question

KINDS = "a COCO file (.json), data.yaml or a folder of YOLO labels (.txt), or a folder of masks (.png)"


def ask(truth: Path, predictions: list[Path], options: Options) -> Question:
    """The question of a truth and of files of predictions.

    Raises:
        UserError: a path is of no known kind, or of another one than the truth, or its content cannot be used.
    """
    if not truth.exists():
        raise UserError(f"{truth}: no such file or folder; the truth is {KINDS}")
    if truth.suffix.lower() == ".json":
        return coco_scores.ask(truth, predictions, options)
    raise UserError(f"{truth}: not a truth; it must be {KINDS}")
