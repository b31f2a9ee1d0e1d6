"""Source `label_studio`: Label Studio's JSON export (a list of tasks): polygons, rectangles, ellipses and brush masks.

Coordinates are percent of the image. Of a task, the annotation that counts is the one that nobody cancelled, or the one
marked as ground truth among several. A task without annotation says nothing: `missing_labels` says what its image is.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Shape, polygon
from retrace.data.formats.cvat import turned_around
from retrace.data.formats.json_files import read_json_file
from retrace.data.formats.listing import shown
from retrace.data.formats.problems import Problems
from retrace.data.formats.tool_files import (
    Annotation,
    Parsed,
    Place,
    numbers,
    points_of,
    read_tool,
    whole_size,
)
from retrace.data.hashing import IMAGE_SUFFIXES, MAX_PIXELS
from retrace.data.shapes import Bitmap, Ellipse, Outline, Polygon, Rectangle, bitmap

UPLOAD = re.compile(r"(.*/)?[0-9a-f]{8}-([^/]+)")  # what the tool puts before the name of an uploaded file
# type of a result -> the key of its value with the labels; `labels` is a choice that stands apart from the shape
LABELED = ("polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels", "keypointlabels", "labels")
BARE = ("polygon", "rectangle", "ellipse", "brush", "keypoint")  # the shape to a `labels` of the same id
CHANNELS = 4  # of a brush mask: RGBA, of which the last says where it was painted


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per task with an annotation."""
    return read_tool(root, params, problems, _parse)


def _parse(place: Place, params: Params, problems: Problems) -> Parsed:
    where = shown(place.annotations, place.root)
    content = read_json_file(place.annotations, place.root, problems)
    if content is None:
        return Parsed(())
    if not isinstance(content, list) or not all(isinstance(task, dict) and "data" in task for task in content):
        detail = "not Label Studio's JSON: a list of tasks with 'data' is needed (export as JSON, not as JSON-MIN)"
        problems.stop("bad_json", where, detail)
        return Parsed(())
    entries = []
    for number, task in enumerate(content, start=1):
        at = f"{where} task {task.get('id', number)}"
        names: tuple[str, ...] = ("",)
        try:
            names = _names(task["data"])
            size, shapes = _annotation(task, at)
            entries.append(Annotation(names, at, shapes, size))
        except BadShape as bad:
            problems.add(bad.kind, where, f"{at}: {bad.detail}")
            entries.append(Annotation(names, at, None, damaged=True))
    return Parsed(tuple(entry for entry in entries if entry.names != ("",)))


def _names(data: object) -> tuple[str, ...]:
    """What the image may be called: its address, and without what an upload puts before the name."""
    values = data.values() if isinstance(data, dict) else ()
    paths = [_path(value) for value in values if isinstance(value, str)]
    images = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
    if len(images) != 1:
        raise BadShape("bad_task", f"data holds {len(images)} addresses of images ({data!r:.120}); one is needed")
    upload = UPLOAD.fullmatch(images[0])
    return (images[0], (upload.group(1) or "") + upload.group(2)) if upload else (images[0],)


def _path(address: str) -> str:
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/a.jpg
    return local[0] if local else unquote(parts.path)


def _annotation(task: dict[str, object], where: str) -> tuple[tuple[int, int] | None, tuple[Shape, ...] | None]:
    """Size of the image and its shapes; None for a task that nobody annotated."""
    given = task.get("annotations", task.get("completions", []))
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadShape("bad_task", "annotations must be a list of objects")
    done = [one for one in given if not one.get("was_cancelled")]
    chosen = [one for one in done if one.get("ground_truth")] if len(done) > 1 else done
    if not done:
        return None, None
    if len(chosen) != 1:
        detail = f"{len(done)} annotations and {len(chosen)} of them ground truth: mark one as ground truth, or delete"
        raise BadShape("several_annotations", detail)
    results = chosen[0].get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise BadShape("bad_task", "result must be a list of objects")
    labeled = {str(one.get("id")) for one in results if one.get("type") in LABELED}
    shapes, sizes = [], set()
    for number, row in enumerate(results, start=1):
        kind = row.get("type")
        if kind in BARE and str(row.get("id")) not in labeled:
            raise BadShape("no_label", f"shape {number}: a {kind} without a label")
        if kind not in LABELED:
            continue  # a choice, a text or a rating of the whole image
        try:
            size = whole_size(row.get("original_width"), row.get("original_height"))
            shapes.append(_shape(row, f"{where} shape {number}", str(kind), size))
            sizes.add(size)
        except BadShape as bad:
            raise BadShape(bad.kind, f"shape {number}: {bad.detail}") from None
    if len(sizes) > 1:
        raise BadShape("bad_size", f"original_width and original_height differ between its shapes: {sorted(sizes)}")
    return (sizes.pop() if sizes else None), tuple(shapes)


def _shape(row: dict[str, object], where: str, kind: str, size: tuple[int, int]) -> Shape:
    value, turned = row.get("value"), row.get("image_rotation", 0)
    if not isinstance(value, dict) or turned not in (0, None):
        raise BadShape("bad_shape", f"needs a value and image_rotation 0, not {turned!r:.40}")
    names = value.get(kind)
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise BadShape("no_label", f"{kind} {names!r:.80} must be one class")
    try:
        return Shape(names[0], _outline(value, size), where, _kind(value))
    except BadShape as bad:
        raise BadShape(bad.kind, f"({names[0]!r}) {bad.detail}") from None


def _kind(value: dict[str, object]) -> str:
    if "points" in value:
        return "line" if value.get("closed") is False else "polygon"
    if "rle" in value:
        return "brush"
    if "radiusX" in value:
        return "ellipse"
    return "rectangle" if "height" in value else "keypoint"


def _outline(value: dict[str, object], size: tuple[int, int]) -> Outline | None:
    kind = _kind(value)
    if kind in ("line", "keypoint"):
        return None
    if kind == "brush":
        return _brush(value.get("rle"), size)
    across, down = size[0] / 100, size[1] / 100
    if kind == "polygon":
        return polygon([(x * across, y * down) for x, y in points_of(value.get("points"))])
    turned = numbers([value.get("rotation") or 0], 1)[0]
    if kind == "ellipse":
        x, y, rx, ry = numbers([value.get(key) for key in ("x", "y", "radiusX", "radiusY")])
        return Ellipse(x * across, y * down, rx * across, ry * down, turned)
    x, y, width, height = numbers([value.get(key) for key in ("x", "y", "width", "height")])
    x0, y0, x1, y1 = x * across, y * down, (x + width) * across, (y + height) * down
    if not turned:
        return Rectangle(x0, y0, x1, y1)
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return Polygon((turned_around(corners, (x0, y0), turned),))  # around its first corner


def _brush(rle: object, size: tuple[int, int]) -> Bitmap:
    if not isinstance(rle, list) or not all(type(one) is int and 0 <= one < 256 for one in rle):
        raise BadShape("bad_shape", "rle must be a list of bytes")
    width, height = size
    if width * height > MAX_PIXELS:
        raise BadShape("bad_shape", f"a brush mask of {width} x {height} pixels is too large")
    values = unpacked(rle, width * height * CHANNELS)
    return bitmap(values.reshape(height, width, CHANNELS)[..., 3] > 0)


def unpacked(rle: Sequence[int], count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """`count` values of the packing of @thi.ng/rle-pack, which Label Studio uses.

    A head of 32 bits for the count, 5 for the bits of a value and four times 4 for the bits of a length; then runs: one
    bit (a repeated value or single ones), two for which of the four, the length, and the value or values.

    Raises:
        BadShape: another count, or an end before it is reached.
    """
    bits = "".join(f"{one:08b}" for one in rle)
    place = 0

    def take(number: int) -> int:
        nonlocal place
        place += number
        if place > len(bits):
            raise BadShape("bad_shape", "the packed brush mask ends too early")
        return int(bits[place - number : place], 2)

    stated = take(32)
    if stated != count:
        raise BadShape("bad_shape", f"a brush mask of {stated} values; {count} are needed (width x height x 4)")
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        repeated = take(1)
        end = start + 1 + take(sizes[take(2)])
        if repeated:
            values[start:end] = min(take(word), 255)
        else:
            for position in range(start, min(end, count)):
                values[position] = min(take(word), 255)
        start = end
    return values
