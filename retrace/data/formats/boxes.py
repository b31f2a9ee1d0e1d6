"""What the detection readers share: which class a name means, and whether a box can be used.

The one canonical form is `Box(label, (x, y, width, height))` in pixels of the stored image, origin at the top left
corner of the top left pixel; a box around the whole image is (0, 0, image width, image height).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrace.data.formats.damage import reason_of
from retrace.data.formats.problems import Problems
from retrace.data.hashing import BadImage, image_size
from retrace.documents.manifest import Box
from retrace.errors import UserError

OVERHANG = (
    1.0  # pixels: rounding in label tools puts edges up to one pixel outside; such boxes are clipped, with a note
)
ROUNDING = 1e-6  # of the image side: what the arithmetic of relative coordinates adds; clipped without a word
MAX_BYTES = 2**30  # of an annotation file

Classes = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class RawBox:
    """One object as annotated, not yet checked. `where` names it in messages, e.g. "labels/a.txt line 3"."""

    label: int  # index in params.classes
    xywh: tuple[float, float, float, float]
    where: str
    crowd: bool = False


def class_table(mapping: Classes | None, classes: Sequence[str], names: Iterable[str], where: str) -> dict[str, int]:
    """Name in the annotations -> class index, from `data.source.classes` (null: the names are the classes).

    Several names may mean one class; names that are not in the table are left out. A class without a name, or a name
    that the annotations do not have or that stands for two classes, is a `UserError` that lists the names in `where`.
    """
    there = sorted(set(names))
    if mapping is None:
        mapping = {name: (name,) for name in classes}
    for key in sorted(mapping.keys() ^ set(classes)):
        what = "is not in classes" if key in mapping else "has no entry; give it its names in the annotations"
        raise UserError(f"params.yaml: data.source.classes: {key!r} {what}; classes: {', '.join(classes)}")
    table: dict[str, int] = {}
    for index, key in enumerate(classes):
        for name in mapping[key]:
            if name not in there:
                listed = ", ".join(repr(other) for other in there[:30]) or "none"
                raise UserError(
                    f"params.yaml: data.source.classes: class {key!r} is read from the name {name!r}, which is not "
                    f"among the names in {where}: {listed}; correct it, or write out data.source.classes with [] for a "
                    "class that never occurs"
                )
            if table.setdefault(name, index) != index:
                other = classes[table[name]]
                raise UserError(
                    f"params.yaml: data.source.classes: {name!r} stands for both {other!r} and {key!r}; keep one"
                )
    return table


def note_left_out(counts: Mapping[str, int], where: str, problems: Problems) -> None:
    """Say how many objects of each name that no class asks for were passed over."""
    for name, count in sorted(counts.items()):
        detail = (
            f"{count} object{'s' * (count != 1)} named {name!r} left out; no entry of data.source.classes asks for them"
        )
        problems.note("class_left_out", where, detail)


def check(boxes: Sequence[RawBox], size: tuple[int, int], image: str, problems: Problems) -> tuple[Box, ...] | None:
    """The boxes of one image of (width, height) pixels, clipped to it; None if any of them cannot be used.

    Every unusable box becomes a row of `problems` (the image is left out whole: without one of its objects it would
    teach and score the wrong thing): NaN or infinite numbers, no or negative size, less than a pixel wide or high, more
    than a pixel outside. The same box with the same class twice is one object that a tool saved twice: the second is
    dropped, with a note.
    """
    good: list[Box] = []
    seen: dict[tuple[int, ...], str] = {}
    bad = False
    for raw in boxes:
        fault = _fault(raw.xywh, size)
        if fault is not None:
            problems.add(fault[0], image, f"{raw.where}: {fault[1]}")
            bad = True
            continue
        key = (raw.label, raw.crowd, *(round(value * 1e4) for value in raw.xywh))
        if key in seen:
            problems.note("duplicate_box", image, f"{raw.where}: the same box and class as {seen[key]}; dropped")
            continue
        seen[key] = raw.where
        clipped, cut = _clip(raw.xywh, size)
        if min(clipped[2:]) < 1 - ROUNDING * max(size):
            detail = (
                f"{raw.where}: {clipped[2]:.6g} x {clipped[3]:.6g} pixels; a box is at least one pixel wide and high"
            )
            problems.add("tiny_box", image, detail)
            bad = True
            continue
        if cut:
            problems.note(
                "box_clipped", image, f"{raw.where}: reached {cut:.2g} pixels over the edge; clipped to the image"
            )
        good.append(Box(raw.label, clipped, raw.crowd))
    return None if bad else tuple(good)


def stored_size(path: Path, image: str, problems: Problems) -> tuple[int, int] | None:
    """(width, height) of an image file; one that cannot be opened is a problem and None."""
    try:
        return image_size(path)
    except BadImage as error:
        problems.add(error.kind, image, error.detail + reason_of(path))
        return None


def read_annotations(path: Path, shown: str, problems: Problems) -> bytes | None:
    """The bytes of an annotation file; an unreadable or enormous one is a problem and None."""
    try:
        size = path.stat().st_size
        if size <= MAX_BYTES:
            return path.read_bytes()
        problems.add("too_large", shown, f"{size:,} bytes of annotations; at most {MAX_BYTES:,} are read")
    except OSError as error:
        problems.add("unreadable", shown, f"could not be read ({error.strerror})")
    return None


def _fault(xywh: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[str, str] | None:
    x, y, w, h = xywh
    text = f"x {x:.6g}, y {y:.6g}, width {w:.6g}, height {h:.6g}"
    if not all(math.isfinite(value) for value in xywh):
        return "not_a_number", f"{text}; every number must be finite"
    if w <= 0 or h <= 0:
        return "empty_box", f"{text}; width and height must be above 0"
    over = max(-x, -y, x + w - size[0], y + h - size[1])
    inside = min(x + w, size[0]) > max(x, 0) and min(y + h, size[1]) > max(y, 0)
    if over > OVERHANG or not inside:
        return "box_outside", f"{text}; reaches {over:.6g} pixels over the edge of the {size[0]} x {size[1]} image"
    return None


def _clip(xywh: tuple[float, ...], size: tuple[int, int]) -> tuple[tuple[float, float, float, float], float]:
    """The part inside the image, and by how many pixels it reached over (0 if no more than by rounding)."""
    x, y, w, h = xywh
    over = max(-x, -y, x + w - size[0], y + h - size[1])
    if over <= 0:
        return (x, y, w, h), 0.0
    left, top = max(x, 0.0), max(y, 0.0)
    clipped = (left, top, min(x + w, size[0]) - left, min(y + h, size[1]) - top)
    return clipped, over if over > ROUNDING * max(size) else 0.0
