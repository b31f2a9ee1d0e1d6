"""Which columns a row of a YOLO label file has, and what all rows together show of a wrong reading.

Detection: class x y width height. Segmentation: class x1 y1 x2 y2 x3 y3 ... Pose: a box and its keypoints, as many as
`kpt_shape` of data.yaml says. Predictions: a box and its confidence, tracks: and a number. Several of them have equally
many columns, and a pose or a track read as a polygon gives a box of its own invention.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

BOX = 4  # numbers behind the class id
CLOSED = "; polygons with their first corner repeated at the end are never mistaken for this"


@dataclass(frozen=True)
class Columns:
    """keypoints: (how many, numbers of each) in every row; None: rows are boxes or polygons."""

    keypoints: tuple[int, int] | None = None

    def is_polygon(self, values: Sequence[float]) -> bool:
        """Whether the numbers behind the class id are corners."""
        return self.keypoints is None and len(values) >= 6 and len(values) % 2 == 0

    def fault(self, values: Sequence[float]) -> str | None:
        """What is wrong with how many numbers there are behind the class id."""
        found = len(values) + 1
        if self.keypoints is not None:
            count, each = self.keypoints
            wanted = 1 + BOX + count * each
            if found == wanted:
                return None
            return f"{found} columns; with kpt_shape [{count}, {each}] in data.yaml a row has {wanted}"
        if len(values) == BOX or self.is_polygon(values):
            return None
        detail = f"{found} columns; a box has 5 (class x y width height), a polygon 7, 9, 11, ..."
        if len(values) == BOX + 1:
            kind = "a confidence" if 0 <= values[BOX] <= 1 else "the number of a track"
            detail += f"; the sixth looks like {kind}: export the labels without it, or cut the column off"
        elif len(values) > BOX and (len(values) - BOX) % 3 == 0:
            detail += f"; if these are {(len(values) - BOX) // 3} keypoints, state kpt_shape in data.yaml"
        return detail


@dataclass
class Seen:
    """All rows of a data set so far."""

    classes: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)  # of the rows with more numbers than a box
    tracks: bool = True  # whether each of these rows could be a box, a confidence and the number of a track
    pose2: bool = True  # ... a box and keypoints of two numbers each
    pose3: bool = True  # ... a box and keypoints of three numbers each

    def add(self, label: int, values: Sequence[float]) -> None:
        """Take note of a row: its class id and the numbers behind it."""
        self.classes.add(label)
        if not all(math.isfinite(value) for value in values):
            return
        if len(values) <= BOX + 1:
            return
        self.lengths.add(len(values))
        box, more = values[:BOX], values[BOX:]
        valid = _is_box(box)
        self.tracks = self.tracks and valid and len(more) == 2 and 0 <= more[0] <= 1 and _is_count(more[1])
        self.pose2 = self.pose2 and valid and len(more) >= 4 and len(more) % 2 == 0 and _inside(box, more, 2)
        self.pose3 = self.pose3 and valid and len(more) % 3 == 0 and _inside(box, more, 3)

    def doubts(self, names: dict[int, str]) -> Iterator[tuple[str, str]]:
        """Kinds for the problems table, and sentences: what shows that all rows were read wrongly."""
        last = max(names)
        from_zero = set(names) == set(range(last + 1))
        if from_zero and 0 not in self.classes and last + 1 in self.classes and max(self.classes) == last + 1:
            text = ", ".join(f"{key + 1}: {name}" for key, name in sorted(names.items())[:3])
            yield (
                "ids_from_one",
                f"the class ids of the labels go up to {last + 1} and are never 0, but names gives 0 to {last}: they "
                f"seem to count from 1; write names as a map ({{{text}{', ...' * (last > 2)}}}), or export again",
            )
        misread = self._misread()
        if misread is not None:
            yield "not_polygons", misread

    def _misread(self) -> str | None:
        """Why rows that are read as polygons are none; None if they can be. They all have equally many columns."""
        if len(self.lengths) != 1:
            return None
        columns = max(self.lengths) + 1
        if self.tracks and columns == 7:
            return (
                "every row of 7 columns looks like a box, a confidence and the number of a track (class x y width "
                f"height confidence id) and not like three corners: export the labels without the last two{CLOSED}"
            )
        each = 3 if self.pose3 else 2 if self.pose2 else 0
        if each and (columns - 1 - BOX) // each >= 1:
            count = (columns - 1 - BOX) // each
            return (
                f"every row of {columns} columns looks like a box with {count} keypoints and not like a polygon: add "
                f"`kpt_shape: [{count}, {each}]` to data.yaml to read the boxes{CLOSED}"
            )
        return None


def _is_box(values: Sequence[float]) -> bool:
    x, y, w, h = values
    return w > 0 and h > 0 and x - w / 2 >= -0.01 and x + w / 2 <= 1.01 and y - h / 2 >= -0.01 and y + h / 2 <= 1.01


def _is_count(value: float) -> bool:
    return value >= 0 and value.is_integer()


def _inside(box: Sequence[float], values: Sequence[float], each: int) -> bool:
    """Whether all visible keypoints lie in the box, a tenth of it around it included; (0, 0): one that is not seen."""
    x, y, w, h = box
    for start in range(0, len(values), each):
        point = values[start : start + each]
        if each == 3 and point[2] not in (0.0, 1.0, 2.0):
            return False
        seen = point[2] != 0 if each == 3 else tuple(point) != (0.0, 0.0)
        if seen and (abs(point[0] - x) > 0.6 * w or abs(point[1] - y) > 0.6 * h):
            return False
    return True
