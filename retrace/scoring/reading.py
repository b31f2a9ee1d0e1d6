"""Which kind of truth a path is, and the question that it asks."""

from pathlib import Path

from retrace.errors import UserError
from retrace.scoring.question import CLASS_FILES, Options, Question

KINDS = "a COCO file (.json), a folder of YOLO labels (.txt), or a folder of masks (.png)"


def ask(truth: Path, predictions: list[Path], options: Options) -> Question:
    """The question of a truth and of files of predictions.

    Raises:
        UserError: a path is of no known kind, or of another one than the truth, or its content cannot be used.
    """
    if not truth.exists():
        raise UserError(f"{truth}: no such file or folder; the truth is {KINDS}")
    for path in predictions:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if path.is_dir() != truth.is_dir():
            kind = "folders like the truth" if truth.is_dir() else "files like the truth"
            raise UserError(f"{path}: a {'folder' if path.is_dir() else 'file'}; predictions must be {kind}")
    if truth.suffix.lower() == ".json" and truth.is_file():
        from retrace.scoring import coco_scores

        return coco_scores.ask(truth, predictions, options)
    if any(path.name not in CLASS_FILES for path in truth.glob("*.txt")):
        from retrace.scoring import yolo

        return yolo.ask(truth, predictions, options)
    if any(path.suffix.lower() == ".png" for path in truth.rglob("*")):
        from retrace.scoring import png

        return png.ask(truth, predictions, options)
    raise UserError(f"{truth}: not a truth; it must be {KINDS}")
