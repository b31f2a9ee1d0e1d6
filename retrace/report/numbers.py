"""Printed numbers: each is read from a file through a `Ledger`, which records the file, the key and the format.

    ledger.num("metrics/lanes/baseline.json", "splits.test.mIoU.value")   ->  0.712

A key is a dotted path into JSON (`splits.test.per_class.Sky.IoU.value`, list items by index) or, for CSV,
`column[key column=value]` (`mIoU[epoch=9]`). `numbers.json` lists the printed numbers; `recheck` reads all of them
again and compares.
"""

import csv
import math
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrace.errors import UserError
from retrace.files import read_json

ABSENT = "–"  # printed for null: undefined, e.g. the IoU of a class that no image contains


@dataclass(frozen=True)
class Num:
    """One printed number and where it came from."""

    text: str
    file: str
    key: str
    format: str


Inline = tuple["str | Num", ...]  # a run of text with numbers in it


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
        raise UserError(f"{path}: no such file; run `dvc repro` (or `dvc pull`) first") from None


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
    """Reads numbers from files and records each number that is printed."""

    def __init__(self, root: Path = Path()) -> None:
        self._root = root  # files are named from here: the project's folder
        self._documents: dict[str, Any] = {}
        self.printed: dict[tuple[str, str, str], Num] = {}

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
        result = Num(show(self.value(file, key), format), file, key, format)
        self.printed[(file, key, format)] = result
        return result

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

    def index(self, numbers: Iterable[Num]) -> list[dict[str, str]]:
        """The rows of numbers.json: text, file, key and format of every number on the pages.

        Numbers that were looked up but not put on a page are left out.
        """
        keys = {(n.file, n.key, n.format) for n in numbers}
        listed = (self.printed[key] for key in sorted(self.printed) if key in keys)
        return [{"text": n.text, "file": n.file, "key": n.key, "format": n.format} for n in listed]


def recheck(index: Path, root: Path = Path(), skip: Container[str] = ()) -> list[str]:
    """Read every number of a `numbers.json` again from the files it names; returns one line per difference.

    Files are looked up below `root`; numbers read from a file in `skip` are left out.
    """
    ledger, wrong = Ledger(root), []
    for row in read_json(index):
        if row["file"] in skip:
            continue
        where = f"{row['file']}: {row['key']}"
        try:
            now = show(ledger.value(row["file"], row["key"]), row["format"])
        except KeyError:
            wrong.append(f"{where}: printed {row['text']}, but the file has no such key")
        except UserError as error:
            wrong.append(str(error))
        else:
            if now != row["text"]:
                wrong.append(f"{where}: printed {row['text']}, the file says {now}")
    return wrong


def plain(inline: Inline) -> str:
    """The text alone."""
    return "".join(part if isinstance(part, str) else part.text for part in inline)
