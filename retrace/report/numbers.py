"""Printed numbers: each is read from a file through a `Ledger`, which records the file, the key and the format.

    ledger.num("metrics/lanes/baseline.json", "splits.test.mIoU.value")   ->  0.712

A key is a dotted path into JSON (`splits.test.per_class.Sky.IoU.value`, list items by index) or,
for CSV, `column[key column=value]` (`mIoU[epoch=9]`). report.json lists the printed numbers once;
its texts and cells refer to them by position.
"""

import csv
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, JsonValue, PlainSerializer, ValidationInfo
from pydantic_core.core_schema import SerializationInfo

from retrace.errors import UserError
from retrace.files import read_json
from retrace.programs import how_to_get

ABSENT = "–"  # printed for null: undefined, e.g. the IoU of a class that no image contains


@dataclass(frozen=True)
class Num:
    """One printed number and where it came from. `value` is what the file holds, null included."""

    value: JsonValue = field(compare=False)  # may be a list, which has no hash
    file: str
    key: str
    format: str

    @property
    def text(self) -> str:
        """As it is printed."""
        return show(self.value, self.format)


def _listed(place: object, info: ValidationInfo) -> object:
    if isinstance(place, Num) or info.context is None:
        return place
    if type(place) is not int or not 0 <= place < len(info.context):
        raise ValueError(f"{place!r} is neither text nor the position of a number")
    return info.context[place]


def _place(number: Num, info: SerializationInfo) -> int:
    places: dict[Num, int] | None = info.context
    assert places is not None
    return places.setdefault(number, len(places))


# in report.json a number stands where it is printed as its position in the list of numbers
Part = str | Annotated[Num, BeforeValidator(_listed), PlainSerializer(_place)]
Inline = tuple[Part, ...]  # a run of text with numbers in it


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _size(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)


def _points(decimals: int) -> Callable[[Any], str]:
    return lambda value: f"{round(100 * value, decimals) + 0.0:+.{decimals}f}"  # + 0.0: no negative zero


def _given(value: float) -> str:
    """With the digits as given, and commas between thousands."""
    return f"{value:,.12g}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "fraction": lambda value: f"{value:.3f}",
    "fraction2": lambda value: f"{value:.2f}",
    "fraction4": lambda value: f"{value:.4f}",
    "signed": lambda value: f"{value:+.3f}",
    "points": _points(1),
    "points2": _points(2),
    "points3": _points(3),
    "percent": lambda value: f"{100 * value:.1f} %",
    "loss": lambda value: f"{value:.4g}",
    "count": lambda value: f"{value:,.0f}",
    "decimal": lambda value: f"{value:.1f}",
    "duration": _duration,
    "size": _size,
    "plain": _plain,
    "given": _given,
    "cosine": lambda value: "cosine" if value else "linear",  # Ultralytics' cos_lr
    "mixed": lambda value: "16-mixed" if value else "32-true",  # Ultralytics' amp
    "layers": lambda value: f"first {value} layers" if value else "none",  # Ultralytics' freeze
}


def show(value: Any, format: str) -> str:
    """The text of a value; null and non-finite numbers become an en dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ABSENT
    return FORMATS[format](value)


def _fine_enough(node: dict[str, Any]) -> str:
    bounds = [node[end] for end in ("low", "high") if node.get(end)]  # an exact 0 is one in any format
    names = ("points", "points2", "points3")[: 2 if (node["low"] or 0) <= 0 <= (node["high"] or 0) else 3]
    return next((name for name in names if all(float(show(bound, name)) for bound in bounds)), names[-1])


def resolve(document: Any, key: str) -> Any:
    """The value at a dotted path. Names that contain dots (class names) are tried longest first.

    Raises:
        KeyError: there is no value at this path.
    """
    if key == "":
        return document
    if isinstance(document, list):
        index, _, rest = key.partition(".")
        if not index.isdigit() or int(index) >= len(document):
            raise KeyError(key)
        return resolve(document[int(index)], rest)
    if not isinstance(document, dict):
        raise KeyError(key)
    for name in sorted((n for n in document if key == n or key.startswith(n + ".")), key=len, reverse=True):
        try:
            return resolve(document[name], key[len(name) + 1 :])
        except KeyError:
            continue
    raise KeyError(key)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line; a missing file is a `UserError`."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}") from None


def number(text: str | None) -> float | None:
    """A CSV cell as a number; empty, missing, NaN or not a number: None."""
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _same(cell: str, wanted: str) -> bool:
    left, right = number(cell), number(wanted)
    return cell == wanted or (left is not None and left == right)


def _from_csv(rows: list[dict[str, str]], key: str) -> float | None:
    match = re.fullmatch(r"(.+)\[(.+)=(.+)\]", key)
    if match is None:
        raise KeyError(key)
    column, where, wanted = match.groups()
    for row in rows:
        if column in row and _same(row.get(where) or "", wanted):
            return number(row[column])
    raise KeyError(key)


class Ledger:
    """Reads the numbers of a report from their files, and keeps its pictures."""

    def __init__(self, root: Path = Path()) -> None:
        self._root = root  # files are named from here: the project's folder
        self._documents: dict[str, Any] = {}
        self.pictures: dict[str, bytes] = {}  # contents, by file below figures/

    def add(self, file: str, document: Any) -> None:
        """Register a document that the report is about to write to `file`."""
        self._documents[file] = document

    def value(self, file: str, key: str) -> Any:
        """The raw value at `key` of `file`.

        Raises:
            KeyError: the file has no such key.
            UserError: the file is missing or damaged.
        """
        if file not in self._documents:
            path = self._root / file
            self._documents[file] = read_csv(path) if path.suffix == ".csv" else read_json(path)
        document = self._documents[file]
        return _from_csv(document, key) if file.endswith(".csv") else resolve(document, key)

    def num(self, file: str, key: str, format: str = "fraction") -> Num:
        """A number to print. Raises as `value` does."""
        return Num(self.value(file, key), file, key, format)

    def interval(self, file: str, key: str, format: str = "fraction") -> Inline:
        """`0.712 [0.655, 0.764]` from {"value", "low", "high"}; a bare number or null prints alone.

        `points` get more decimals where a bound close to 0 would print as 0, so that a reader sees whether 0 is inside.
        """
        node = self.value(file, key)
        if not isinstance(node, dict):
            return (self.num(file, key, format),)
        if format == "points":
            format = _fine_enough(node)
        value = self.num(file, f"{key}.value", format)
        if node.get("low") is None or node.get("high") is None:
            return (value,)
        low, high = (self.num(file, f"{key}.{end}", format) for end in ("low", "high"))
        return (value, " [", low, ", ", high, "]")

    def picture(self, file: str, content: bytes) -> str:
        """Keep a picture of the report, figures/<file>; returns its sha256."""
        self.pictures[file] = content
        return hashlib.sha256(content).hexdigest()


def plain(inline: Inline) -> str:
    """The text alone."""
    return "".join(part if isinstance(part, str) else part.text for part in inline)
