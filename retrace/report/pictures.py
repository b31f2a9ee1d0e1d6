"""Sample pictures, small enough to commit: shrunk, re-encoded as JPEG and kept within a budget."""

import io
from pathlib import Path

from PIL import Image

from retrace.documents.samples import Sample
from retrace.errors import UserError
from retrace.report.blocks import Gallery, Picture, Swatch, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger, Num

SIDE = 960  # pixels, longer side
BUDGET = 700_000  # bytes of all pictures together; the HTML page repeats them in base64, a third larger
QUALITIES = (82, 70, 55, 40, 25)
KINDS = {"best": "Best", "median": "Median", "worst": "Worst"}
MOST = 12  # sample pictures in a report
SCORES = {"segmentation": "mIoU of the image", "detection": "panoptic quality"}
RECONSTRUCTED = ("image", "masked image", "reconstruction")
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
        raise UserError(f"{path}: cannot be read as an image ({error}); delete it and run `dvc repro`") from None
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


def first(inputs: Inputs, ledger: Ledger, split: str) -> Gallery | None:
    """One picture of every kind: the best, the median and the worst prediction of the active phase."""
    rows = _rows(inputs, split)
    kinds = {row.kind: index for index, row in reversed(rows)}
    chosen = [(index, row) for index, row in rows if kinds[row.kind] == index]
    return _gallery(inputs, ledger, chosen, "")


def others(inputs: Inputs, ledger: Ledger, split: str) -> Gallery | None:
    """The pictures that `first` leaves out."""
    rows, left = _rows(inputs, split), []
    seen: set[str] = set()
    for index, row in rows:
        if row.kind in seen:
            left.append((index, row))
        seen.add(row.kind)
    caption = f"More of the best, median and worst predictions of phase {inputs.params.phase} on {split}."
    if inputs.params.task == "detection":
        caption += (
            " The score is the panoptic quality of the image: F1 times the mean IoU of the hits. Confidence is "
            "averaged over the predictions."
        )
    return _gallery(inputs, ledger, left, caption)


def _rows(inputs: Inputs, split: str) -> list[tuple[int, Sample]]:
    """The samples of the active phase on a split, with their places in samples.json."""
    rows = inputs.samples[inputs.params.phase]
    return [(index, row) for index, row in enumerate(rows) if row.split == split][:MOST]


def _gallery(inputs: Inputs, ledger: Ledger, rows: list[tuple[int, Sample]], caption: str) -> Gallery | None:
    file = f"metrics/{inputs.study}/{inputs.params.phase}/samples.json"
    limit = BUDGET // max(len(_rows(inputs, inputs.headline_split)), 1)
    score = SCORES[inputs.params.task]
    pictures = []
    for index, row in rows:
        facts: list[str | Num] = []
        for key, (name, style) in FACTS.items():
            if key in row.model_fields_set:
                named = score if key == "score" else name
                facts += [f", {named} ", ledger.num(file, f"{index}.{key}", style)]
        content = shrink(Path("metrics", inputs.study, inputs.params.phase, row.file), limit)
        title = run(f"{KINDS.get(row.kind, row.kind)}: {row.id}", *facts)
        name = f"samples/{Path(row.file).stem}.jpg"
        legend = tuple(Swatch(entry.name, entry.color, entry.style) for entry in row.legend)
        pictures.append(Picture(name, ledger.picture(name, content), title, tuple(row.panels), legend))
    return Gallery(tuple(pictures), caption) if pictures else None


def reconstructions(inputs: Inputs, ledger: Ledger, most: int = 3) -> Gallery | None:
    """Images, masked images and their reconstructions by the pre-trained model."""
    folder = Path("models", inputs.study, "pretrain", "reconstructions")
    pictures = []
    for path in sorted(folder.glob("*.png"))[:most]:
        name = f"reconstructions/{path.stem}.jpg"
        sha256 = ledger.picture(name, shrink(path, BUDGET // 10))
        pictures.append(Picture(name, sha256, (f"reconstruction {path.stem}",), RECONSTRUCTED))
    caption = "What the pre-trained model makes of the visible patches."
    return Gallery(tuple(pictures), caption) if pictures else None
