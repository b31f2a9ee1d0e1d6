"""Sample pictures, small enough to commit: shrunk, re-encoded as JPEG and kept within a budget."""

import io
from pathlib import Path

from PIL import Image

from retrace.errors import UserError
from retrace.report.blocks import Gallery, Picture, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger, Num

SIDE = 960  # pixels, longer side
BUDGET = 700_000  # bytes of all pictures together; the HTML page repeats them in base64, a third larger
QUALITIES = (82, 70, 55, 40, 25)
KINDS = {"best": "good (best)", "median": "median", "worst": "challenging (worst)"}
FACTS = {  # key of a row of samples.json -> name in the caption, style
    "score": ("score", "fraction"),
    "truth": ("ground truth", "count"),
    "predicted": ("predicted", "count"),
    "IoU": ("mean IoU", "fraction"),
    "confidence": ("mean confidence", "fraction"),
}


def shrink(path: Path, limit: int, side: int = SIDE) -> bytes:
    """A JPEG of at most `limit` bytes, where that is possible at a readable size.

    Raises:
        UserError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); run `dvc repro` (or `dvc pull`)") from None
    content = b""
    for scale in (1.0, 0.75, 0.5):
        smaller = image.copy()
        smaller.thumbnail((round(side * scale), round(side * scale)), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            stream = io.BytesIO()
            smaller.save(stream, "JPEG", quality=quality, optimize=True)
            content = stream.getvalue()
            if len(content) <= limit:
                return content
    return content


def samples(inputs: Inputs, ledger: Ledger, split: str) -> Gallery | None:
    """Best, median and worst predictions of the active phase."""
    phase = inputs.params.phase
    file = f"metrics/{inputs.study}/{phase}/samples.json"
    rows = [(index, row) for index, row in enumerate(inputs.samples[phase]) if row.split == split][:12]
    pictures = []
    for index, row in rows:
        path = Path("metrics", inputs.study, phase, row.file)
        facts: list[str | Num] = []
        for key, (name, style) in FACTS.items():
            if key in row.model_fields_set:
                facts += [f", {name} ", ledger.num(file, f"{index}.{key}", style)]
        content = shrink(path, BUDGET // max(len(rows), 1))
        title = run(f"{KINDS.get(row.kind, row.kind)}: {row.id}", *facts)
        name = f"samples/{Path(row.file).stem}.jpg"
        pictures.append(Picture(name, ledger.picture(name, content), title))
    caption = f"Best, median and worst predictions of phase {phase} on {split}."
    if inputs.params.task == "detection":
        caption += (
            " The ground truth is on the left, the predictions at the reported confidence are on the right. Score is "
            "the panoptic quality of the image: F1 times the mean IoU of the hits. Confidence is averaged over the "
            "predictions."
        )
    return Gallery(tuple(pictures), caption) if pictures else None


def reconstructions(inputs: Inputs, ledger: Ledger, most: int = 3) -> Gallery | None:
    """Images, masked images and their reconstructions by the pre-trained model."""
    folder = Path("models", inputs.study, "pretrain", "reconstructions")
    pictures = []
    for path in sorted(folder.glob("*.png"))[:most]:
        name = f"reconstructions/{path.stem}.jpg"
        sha256 = ledger.picture(name, shrink(path, BUDGET // 10))
        pictures.append(Picture(name, sha256, (f"reconstruction {path.stem}",)))
    caption = "Image, masked image and reconstruction."
    return Gallery(tuple(pictures), caption) if pictures else None
