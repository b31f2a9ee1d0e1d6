"""What the readers of polygons, rectangles and masks share: from named shapes to boxes or to a drawing.

A reader only parses its tool's file into `Shape`s. Whether they become boxes (detection) or a mask (segmentation),
which class a name means, and what cannot be used, is the same for all tools.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrace.config.data import Shapes
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.boxes import OVERHANG, RawBox, check, class_table, note_left_out
from retrace.data.formats.problems import Problems
from retrace.data.manifest import IGNORE
from retrace.data.shapes import Drawing, Labeled, Outline, Polygon, bounds, finite
from retrace.errors import UserError

NOT_SCORED = "ignore"  # as data.source.background


class BadShape(Exception):
    """A shape that cannot be read: `kind` is a word for the problems table, `detail` a sentence."""

    def __init__(self, kind: str, detail: str):
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Shape:
    """One shape as annotated. `where` names it in messages, e.g. "a.json shape 3"."""

    name: str  # of its class in the annotations
    outline: Outline | None  # None: a kind without an area
    where: str
    kind: str = "polygon"  # the tool's own word, for messages
    part_of: str | None = None  # shapes of one name and one part_of are one object
    crowd: bool = False


@dataclass
class Labels:
    """How names become class indices, and what was passed over; one for all images of a source."""

    params: Params
    source: Shapes
    where: str  # the files that have the names, for messages
    table: dict[str, int]  # name -> class index, 255: not scored
    background: int
    unknown: Counter[str] = field(default_factory=Counter)  # objects by name
    without_area: Counter[str] = field(default_factory=Counter)  # left out, by kind

    def item(
        self, path: Path, name: str, split: str | None, size: tuple[int, int], shapes: Sequence[Shape],
        problems: Problems,
    ) -> Item | None:  # fmt: skip
        """The image with its boxes or its drawing; None if one of its shapes cannot be used, which is a problem."""
        used = self._used(shapes, name, problems)
        if used is None:
            return None
        if self.params.task == "detection":
            boxes = check(_boxes(used, self.table), size, name, problems)
            return None if boxes is None else Item(path, name, split, boxes=boxes)
        before = len(problems.serious)
        for shape in used:
            fault = _fault(shape, size)
            if fault is not None:
                problems.add(fault[0], name, f"{shape.where} ({shape.name!r}): {fault[1]}")
        if len(problems.serious) > before:
            return None
        dropped = getattr(self.source, "crowd", "keep") == "drop"  # crowd regions are not scored then
        labeled = tuple(
            Labeled(IGNORE if dropped and shape.crowd else self.table[shape.name], shape.outline, shape.where)
            for shape in used
            if shape.outline is not None
        )
        drawing = Drawing(labeled, self.background, self.source.overlap == "smaller_on_top")
        return Item(path, name, split, drawing=drawing)

    def _used(self, shapes: Sequence[Shape], image: str, problems: Problems) -> list[Shape] | None:
        """The shapes of a class that have an area; None if there is one without that may not be left out."""
        used, refused = [], False
        for shape in shapes:
            if shape.name not in self.table:
                self.unknown[shape.name] += 1
            elif shape.outline is not None:
                used.append(shape)
            elif getattr(self.source, "without_area", "refuse") == "leave_out":
                self.without_area[shape.kind] += 1
            else:
                detail = (
                    f"{shape.where} ({shape.name!r}): a {shape.kind} gives no area; draw it as a polygon, or set "
                    "data.source.without_area: leave_out"
                )
                problems.add("shape_without_area", image, detail)
                refused = True
        return None if refused else used

    def finish(self, problems: Problems) -> None:
        """Say what was passed over: names of no class, and kinds of shapes without an area."""
        if self.params.task == "detection":
            note_left_out(self.unknown, self.where, problems)
        else:
            for name, count in sorted(self.unknown.items()):
                detail = (
                    f"{count} object{'s' * (count != 1)} named {name!r}, which is no class: give them to one in "
                    "data.source.classes (also to the background), or name it in data.source.ignore"
                )
                problems.stop("unknown_label", self.where, detail)
        for kind, count in sorted(self.without_area.items()):
            detail = (
                f"{count} {kind}{'s' * (count != 1)} without an area left out (data.source.without_area: leave_out)"
            )
            problems.note("shape_left_out", self.where, detail)


def labels_of(params: Params, names: Iterable[str], where: str) -> Labels:
    """The names that occur or that the annotations declare, against `classes`, `data.source.classes` and `ignore`.

    Raises:
        UserError: a class without a name, a name of two classes, `background` missing, unneeded or no class.
    """
    source = params.data.source
    assert isinstance(source, Shapes)
    there = set(names)
    background = _background(params, source)
    mapping = source.classes
    if background in params.classes:  # nobody draws the background
        there |= {background}
        mapping = None if mapping is None else {background: (), **mapping}
    table = class_table(mapping, params.classes, there, where)
    for name in source.ignore:
        if name in table:
            other = params.classes[table[name]]
            raise UserError(f"params.yaml: data.source.ignore: {name!r} stands for the class {other!r} too; keep one")
    if params.task == "segmentation":
        table |= dict.fromkeys(source.ignore, IGNORE)
    index = params.classes.index(background) if background in params.classes else IGNORE
    return Labels(params, source, where, table, index)


def _background(params: Params, source: Shapes) -> str:
    allowed = f"allowed: {', '.join(params.classes)}, {NOT_SCORED} (these pixels are not scored)"
    if params.task == "detection":
        if source.background is not None:
            raise UserError("params.yaml: data.source.background: only for task: segmentation; set it to null")
        return NOT_SCORED
    if source.background is None:
        raise UserError(
            f"params.yaml: data.source.background: missing; it says what the pixels are that no shape covers; {allowed}"
        )
    if source.background not in (*params.classes, NOT_SCORED):
        raise UserError(f"params.yaml: data.source.background = {source.background!r}: no such class; {allowed}")
    return source.background


def _boxes(shapes: Sequence[Shape], table: dict[str, int]) -> list[RawBox]:
    """A box around each object; the parts of one object have one box."""
    boxes: dict[object, tuple[tuple[float, float, float, float], Shape]] = {}
    for number, shape in enumerate(shapes):
        assert shape.outline is not None
        key = number if shape.part_of is None else (shape.name, shape.part_of)
        corners = bounds(shape.outline) if finite(shape.outline) else (float("nan"),) * 4
        first = boxes.get(key)
        boxes[key] = (corners if first is None else _around(first[0], corners), shape if first is None else first[1])
    return [
        RawBox(table[shape.name], (x0, y0, x1 - x0, y1 - y0), shape.where, shape.crowd)
        for (x0, y0, x1, y1), shape in boxes.values()
    ]


def _around(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    if any(value != value for value in a + b):
        return (float("nan"),) * 4
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _fault(shape: Shape, size: tuple[int, int]) -> tuple[str, str] | None:
    """Why a shape cannot be drawn into an image of (width, height)."""
    outline = shape.outline
    assert outline is not None
    if not finite(outline):
        return "not_a_number", "every coordinate must be a finite number"
    left, top, right, bottom = bounds(outline)
    if not isinstance(outline, Polygon) and (right <= left or bottom <= top):
        return "empty_shape", "covers no pixel; delete it"
    over = max(-left, -top, right - size[0], bottom - size[1])
    if over > OVERHANG:
        return "shape_outside", f"reaches {over:.6g} pixels over the edge of the {size[0]} x {size[1]} image"
    return None


def polygon(points: Sequence[tuple[float, float]]) -> Polygon:
    """One part, by COCO's rule; fewer than three points are a `BadShape`."""
    if len(points) < 3:
        raise BadShape("bad_shape", f"a polygon of {len(points)} points; at least 3 are needed")
    return Polygon((tuple(points),))
