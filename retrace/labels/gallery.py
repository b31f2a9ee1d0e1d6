"""The suspects as pictures in one page that opens from a folder: no network, no script."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from retrace.data.palette import paint
from retrace.documents.labels import LabelCheck, SuspectRow, Without
from retrace.evaluation.pictures import GAP, OPACITY, QUALITY, Drawn, with_boxes
from retrace.files import write_text
from retrace.statistics.estimate import Estimate

AROUND = 0.6  # of the object's longer side, shown on each side of it
LEAST = 48  # pixels around an object at least, so that small ones have surroundings
WIDTH = 320  # pixels of a panel
LABELED, SEEN = "miss", "hit"  # styles of `pictures`: dashed orange, solid green
HOW_TO_READ = (
    "This is the score of the images that are left. Those left out are the ones whose labels the model disagrees "
    "with, so it tends to rise even where these labels are right: mend them and evaluate again to know."
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ccc; text-align: right; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } img { max-width: 100%; } figcaption { font-size: 13px; overflow-wrap: anywhere; }
"""


def window(row: SuspectRow, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels: the object, where it is seen, and what is around it."""
    boxes = [row.box, *([row.better] if row.better else [])]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    more = max(LEAST, AROUND * max(right - left, bottom - top))
    return (
        max(0, round(left - more)),
        max(0, round(top - more)),
        min(width, round(right + more)),
        min(height, round(bottom + more)),
    )


def crop_of_boxes(path: Path, image: np.ndarray, row: SuspectRow, labels: Sequence[Sequence[float]]) -> None:
    """The object with its label (dashed) and what the model sees (solid); other labels without a name.

    image: RGB uint8 [H, W, 3]; labels: (x, y, width, height) of every label of the image.
    """
    left, top, right, bottom = window(row, image.shape[1], image.shape[0])
    scale = WIDTH / (right - left)
    small = _sized(Image.fromarray(image[top:bottom, left:right]), Image.Resampling.BILINEAR)
    others = [box for position, box in enumerate(labels) if position != row.position]
    drawn = [_drawn(box, "", LABELED, left, top) for box in others if _meets(box, (left, top, right, bottom))]
    if row.label is not None:
        drawn.append(_drawn(row.box, f"label: {row.label}", LABELED, left, top))
    seen = row.better if row.label is not None else row.box
    if row.suggested is not None and seen is not None:
        drawn.append(_drawn(seen, f"model: {row.suggested}", SEEN, left, top))
    _save(path, [with_boxes(small, drawn, scale)])


def crop_of_mask(path: Path, image: np.ndarray, mask: np.ndarray, row: SuspectRow, colors: np.ndarray) -> None:
    """The region beside its labels. image: RGB uint8 [H, W, 3]; mask: uint8 [H, W]; colors: uint8 [C, 3]."""
    left, top, right, bottom = window(row, image.shape[1], image.shape[0])
    scale = WIDTH / (right - left)
    small = _sized(Image.fromarray(image[top:bottom, left:right]), Image.Resampling.BILINEAR)
    classes = _sized(Image.fromarray(mask[top:bottom, left:right]), Image.Resampling.NEAREST)
    labeled = Image.blend(small, Image.fromarray(paint(np.asarray(classes), colors)), OPACITY)
    place = _drawn(row.box, f"model: {row.suggested}", SEEN, left, top)
    _save(path, [with_boxes(small, [place], scale), labeled])


def page(check: LabelCheck, rows: Sequence[SuspectRow]) -> str:
    """The HTML of the gallery; names of classes and images are data and are escaped."""
    title = f"Labels of {check.study} to look at, by phase {check.phase}"
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>",
        f"<p>{len(check.suspects)} suspects, of which the first {len(rows)} are shown; label_check.csv has all.",
        "Dashed: as labeled. Solid: as the model sees it, which did not see these images in training.",
        "A suspicion says in which order to look; it is no probability.</p>",
    ]
    for split, checked in check.splits.items():
        parts += _table(check.metric, split, checked.score, checked.without)
    parts.append('<div class="grid">')
    parts += [_figure(row) for row in rows]
    parts.append("</div>\n</body>\n</html>\n")
    return "\n".join(parts)


def write_page(folder: Path, check: LabelCheck) -> None:
    """index.html, of the suspects that have a picture."""
    write_text(folder / "index.html", page(check, [row for row in check.suspects if row.crop is not None]))


def _table(metric: str, split: str, score: Estimate, rows: Sequence[Without]) -> list[str]:
    lines = [
        f"<h2>{escape(metric)} on {split} without the images of the first suspects</h2>",
        f"<p>{HOW_TO_READ}</p>",
        f"<table><tr><th>first suspects left out</th><th>images</th><th>{escape(metric)} (95 % interval)</th></tr>",
        f"<tr><td>0</td><td>0</td><td>{with_interval(score)}</td></tr>",
    ]
    for row in rows:
        lines.append(
            f"<tr><td>{row.suspects}</td><td>{row.images_left_out}</td><td>{with_interval(row.score)}</td></tr>"
        )
    return [*lines, "</table>"]


def with_interval(score: Estimate) -> str:
    """A score with its interval, as tables have it."""
    if score.value is None:
        return "undefined"
    ends = "" if score.low is None or score.high is None else f" ({score.low:.3f} to {score.high:.3f})"
    return f"{score.value:.3f}{ends}"


def _figure(row: SuspectRow) -> str:
    label = row.label if row.label is not None else "no label"
    change = f"{label} &rarr; " if row.suggested is None else f"{escape(label)} &rarr; {escape(row.suggested)}"
    if row.suggested is None:
        change = f"{escape(label)}, one too many"
    return (
        f'<figure><img src="{escape(row.crop or "")}" alt="suspect {row.rank}" loading="lazy"><figcaption>'
        f"{row.rank}. {escape(row.kind)}: {change}; suspicion {row.suspicion:.2f}<br>{escape(row.image)} ({row.split})"
        "</figcaption></figure>"
    )


def _meets(box: Sequence[float], window: Sequence[float]) -> bool:
    """Whether (x, y, width, height) and (left, top, right, bottom) overlap."""
    x, y, width, height = box
    return x < window[2] and y < window[3] and x + width > window[0] and y + height > window[1]


def _drawn(box: Sequence[float], caption: str, kind: str, left: int, top: int) -> Drawn:
    x, y, width, height = box
    return Drawn((x - left, y - top, width, height), caption, kind)


def _sized(image: Image.Image, how: Image.Resampling) -> Image.Image:
    return image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))), how)


def _save(path: Path, panels: Sequence[Image.Image]) -> None:
    wide = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (wide, panels[0].height), "white")
    place = 0
    for panel in panels:
        sheet.paste(panel, (place, 0))
        place += panel.width + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "JPEG", quality=QUALITY)
