"""Source `via`: annotations of the VGG Image Annotator, versions 1 and 2, as JSON (also a saved project) or CSV.

An image without regions says nothing (the tool lists every image that was loaded): `missing_labels` says what it is.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

from retrace.config.data import ViaSource
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Shape, polygon
from retrace.data.formats.boxes import read_annotations
from retrace.data.formats.json_files import read_json_file
from retrace.data.formats.listing import holds, shown
from retrace.data.formats.problems import Problems
from retrace.data.formats.tool_files import Annotation, Parsed, Place, numbers, read_tool, shapes_of
from retrace.data.shapes import Ellipse, Outline, Rectangle
from retrace.errors import UserError
from retrace.text_files import NotUtf8, decoded

WITHOUT_AREA = ("polyline", "point")
KINDS = ("rect", "circle", "ellipse", "polygon", *WITHOUT_AREA)
COLUMNS = ("filename", "region_shape_attributes", "region_attributes")

Region = dict[str, object]  # shape_attributes, region_attributes


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that has regions."""
    return read_tool(root, params, problems, _parse)


def _parse(place: Place, params: Params, problems: Problems) -> Parsed:
    source = params.data.source
    assert isinstance(source, ViaSource)
    where = shown(place.annotations, place.root)
    try:
        regions = _csv(place, problems) if where.lower().endswith(".csv") else _json(place, problems)
    except BadShape as bad:
        problems.stop(bad.kind, where, bad.detail)
        return Parsed(())
    attribute = source.attribute or _only_attribute(regions, where)
    entries = []
    for name, rows in regions.items():
        at = f"{where} {name!r:.100}"
        shapes = shapes_of(rows, at, where, lambda row, spot: _shape(row, spot, attribute), problems)
        entries.append(Annotation((name,), at, shapes or None, damaged=shapes is None))
    return Parsed(tuple(entries))


def _json(place: Place, problems: Problems) -> dict[str, list[object]]:
    """Regions by file name, of a project or of exported annotations."""
    content = read_json_file(place.annotations, place.root, problems)
    if content is None:
        return {}
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = content["_via_img_metadata"]
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise BadShape("bad_json", "not VIA 1 or 2: a map of entries with filename and regions is needed")
    regions: dict[str, list[object]] = {}
    for key, entry in content.items():
        name, rows = entry.get("filename"), entry.get("regions")
        rows = list(rows.values()) if isinstance(rows, dict) else rows  # version 1 numbers them
        if not isinstance(name, str) or not isinstance(rows, list):
            raise BadShape("bad_json", f"not VIA 1 or 2: entry {key!r:.80} needs filename and regions")
        if name in regions:
            raise BadShape("listed_twice", f"{name!r:.100} has two entries; keep one")
        regions[name] = rows
    return regions


def _csv(place: Place, problems: Problems) -> dict[str, list[object]]:
    """Regions by file name: a row for each, or one with {} for an image without."""
    path, where = place.annotations, shown(place.annotations, place.root)
    if not path.is_file():
        folder = shown(path.parent, place.root)
        raise BadShape("missing_file", f"no such file; {folder} holds: {holds(path.parent)}")
    try:
        text = decoded(read_annotations(path, where, problems) or b"")
    except NotUtf8 as error:
        raise BadShape("encoding", str(error)) from None
    csv.field_size_limit(2**27)  # a polygon of many points is one field
    table = csv.DictReader(io.StringIO(text.removeprefix("#")))
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise BadShape("bad_csv", f"no column {missing[0]!r}; VIA's CSV has {', '.join(COLUMNS)}")
    regions: dict[str, list[object]] = {}
    for number, row in enumerate(table, start=2):
        shape, attributes = (_cell(row[name], number) for name in COLUMNS[1:])
        rows = regions.setdefault(row["filename"] or "", [])
        if shape:
            rows.append({"shape_attributes": shape, "region_attributes": attributes})
    return regions


def _cell(text: str | None, number: int) -> object:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadShape("bad_csv", f"line {number}: {text!r:.80} is not valid JSON ({error})") from None


def _only_attribute(regions: dict[str, list[object]], where: str) -> str:
    names = {name for attributes in _attributes(regions) for name in attributes}
    if len(names) == 1:
        return str(names.pop())
    listed = ", ".join(sorted(map(str, names))) or "none"
    raise UserError(
        f"params.yaml: data.source.attribute: name the attribute that holds the class; the regions in {where} have: "
        f"{listed}"
    )


def _attributes(regions: dict[str, list[object]]) -> Iterator[Region]:
    for rows in regions.values():
        for row in rows:
            attributes = row.get("region_attributes") if isinstance(row, dict) else None
            if isinstance(attributes, dict):
                yield attributes


def _shape(row: Region, where: str, attribute: str) -> Shape:
    shape, attributes = row.get("shape_attributes"), row.get("region_attributes")
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise BadShape("bad_shape", "needs shape_attributes and region_attributes")
    name = _name(attributes.get(attribute), attribute)
    kind = shape.get("name")
    if kind not in KINDS:
        raise BadShape("bad_shape", f"({name!r}) shape {kind!r:.80}; allowed: {', '.join(KINDS)}")
    try:
        return Shape(name, None if kind in WITHOUT_AREA else _outline(str(kind), shape), where, str(kind))
    except BadShape as bad:
        raise BadShape(bad.kind, f"({name!r}) {bad.detail}") from None


def _name(value: object, attribute: str) -> str:
    """The class: text, a choice, or the one box that is ticked."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    if not isinstance(value, str) or not value.strip():
        raise BadShape(
            "no_label", f"region_attributes: {attribute!r} must be one class; it is missing, empty or several"
        )
    return value.strip()


def _outline(kind: str, shape: Region) -> Outline:
    if kind == "polygon":
        xs, ys = numbers(shape.get("all_points_x")), numbers(shape.get("all_points_y"))
        if len(xs) != len(ys):
            raise BadShape("bad_shape", f"{len(xs)} x and {len(ys)} y; every point needs both")
        return polygon(list(zip(xs, ys, strict=True)))
    if kind == "rect":
        x, y, width, height = numbers([shape.get(key) for key in ("x", "y", "width", "height")])
        return Rectangle(x, y, x + width, y + height)
    if kind == "circle":
        x, y, radius = numbers([shape.get(key) for key in ("cx", "cy", "r")])
        return Ellipse(x, y, radius, radius)
    x, y, rx, ry, theta = numbers([*(shape.get(key) for key in ("cx", "cy", "rx", "ry")), shape.get("theta", 0)])
    return Ellipse(x, y, rx, ry, math.degrees(theta))
