"""The rows of YOLO segmentation labels: `class x1 y1 x2 y2 x3 y3 ...`, corners as shares of the image.

A row is one polygon; an object with a hole or of several parts is one line that goes to and fro, as Ultralytics'
converter writes it, and what it encloses twice is left out.
"""

from collections.abc import Mapping
from pathlib import Path

from retrace.data.formats.annotated import Shape
from retrace.data.formats.boxes import read_annotations
from retrace.data.formats.listing import shown
from retrace.data.formats.problems import Problems
from retrace.data.formats.yolo_rows import Seen
from retrace.data.shapes import Polygon
from retrace.text_files import NotUtf8, decoded


def shapes_of(
    file: Path, image: str, root: Path, size: tuple[int, int], names: Mapping[int, str], seen: Seen, problems: Problems
) -> list[Shape]:
    """The polygons of a label file in pixels; what is wrong with a row becomes a problem of the image.

    seen: takes note of the class ids.
    """
    shapes: list[Shape] = []
    try:
        lines = decoded(read_annotations(file, image, problems) or b"").splitlines()
    except NotUtf8 as error:
        problems.add("encoding", image, f"{shown(file, root)}: {error}")
        return shapes
    for number, line in enumerate(lines, start=1):
        where, fields = f"{shown(file, root)} line {number}", line.split()
        if not fields:
            continue
        try:
            label, values = float(fields[0]), [float(value) for value in fields[1:]]
        except ValueError:
            problems.add("bad_row", image, f"{where}: {line.strip()[:80]!r} is not `class x1 y1 x2 y2 x3 y3 ...`")
            continue
        if label.is_integer():
            seen.add(int(label), ())
        if label not in names:  # 0.0 is 0 too: some exporters write it
            detail = f"{where}: class id {fields[0]}; data.yaml has the ids {', '.join(map(str, sorted(names)))}"
            problems.add("class_out_of_range", image, detail)
        elif len(values) == 4:
            detail = f"{where}: a box has no outline; segmentation needs polygons (task: detection reads boxes)"
            problems.add("box_row", image, detail)
        elif len(values) < 6 or len(values) % 2:
            detail = f"{where}: {len(fields)} columns; a polygon has 7, 9, 11, ... (class x1 y1 x2 y2 x3 y3 ...)"
            problems.add("bad_row", image, detail)
        else:
            xs, ys = (x * size[0] for x in values[0::2]), (y * size[1] for y in values[1::2])
            outline = Polygon((tuple(zip(xs, ys, strict=True)),))
            shapes.append(Shape(names[int(label)], outline, where))
    return shapes
