"""Files that say which raw mask value means which class, so that nobody types the table.

`_classes.csv` of Roboflow ("Pixel Value, Class"), a `labels.txt` or `class_names.txt` with a name a line (LabelMe;
from 0, or from -1, which is not scored, where the first name is `__ignore__`), `names` of a data.yaml, `categories`
(COCO) or `labels` (Mapillary) of a JSON file.
"""

import csv
import io
import json
from pathlib import Path

from retrace.config import read_yaml
from retrace.data.manifest import IGNORE
from retrace.errors import UserError
from retrace.text_files import read_utf8

DEFAULT = "_classes.csv"
IGNORED = "__ignore__"  # LabelMe's name for pixels that are not scored
KINDS = ".csv, .txt, .yaml, .yml, .json"


def read_class_file(path: Path, shown: str) -> dict[int, str]:
    """Name by raw value; `__ignore__` of a text file stands at 255.

    Raises:
        UserError: the file is missing, of another kind, or damaged, or a value has two names.
    """
    if not path.is_file():
        raise UserError(
            f"{shown}: no such file; it is to say which class the values of the masks mean: correct "
            "data.source.class_file, or write out data.source.values"
        )
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        rows = _of_names(read_yaml(path, shown).get("names"), shown)
    elif suffix == ".csv":
        rows = _of_table(read_utf8(path, shown), shown)
    elif suffix == ".txt":
        rows = _of_lines(read_utf8(path, shown))
    elif suffix == ".json":
        rows = _of_json(read_utf8(path, shown), shown)
    else:
        raise UserError(f"{shown}: data.source.class_file must be one of {KINDS}")
    names: dict[int, str] = {}
    for value, name in rows:
        if names.setdefault(value, name) != name:
            raise UserError(f"{shown}: value {value} stands for both {names[value]!r} and {name!r}; keep one")
    if not names:
        raise UserError(f"{shown}: names no class")
    return names


def _of_table(text: str, shown: str) -> list[tuple[int, str]]:
    rows = []
    for number, row in enumerate(csv.reader(io.StringIO(text), skipinitialspace=True), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and not cells[0].isdecimal()):  # the header
            continue
        if len(cells) != 2 or not cells[0].isdecimal() or not cells[1]:
            raise UserError(f"{shown}: line {number}: {', '.join(cells)[:80]!r} must be a pixel value and a class")
        rows.append((int(cells[0]), cells[1]))
    return rows


def _of_lines(text: str) -> list[tuple[int, str]]:
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if names[:1] == [IGNORED]:
        return [(IGNORE, IGNORED), *enumerate(names[1:])]
    return list(enumerate(names))


def _of_names(names: object, shown: str) -> list[tuple[int, str]]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        type(key) is int and isinstance(name, str) for key, name in names.items()
    ):
        raise UserError(f"{shown}: names: must be a list of class names or a map of value to name, not {names!r:.80}")
    return sorted(names.items())


def _of_json(text: str, shown: str) -> list[tuple[int, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown}: not valid JSON ({error})") from None
    content = content if isinstance(content, dict) else {}
    rows: list[tuple[object, object]] = []
    if isinstance(content.get("categories"), list):  # COCO
        rows = [(row.get("id"), row.get("name")) for row in content["categories"] if isinstance(row, dict)]
    elif isinstance(content.get("labels"), list):  # Mapillary's config.json: the value is the place in the list
        labels = [row if isinstance(row, dict) else {} for row in content["labels"]]
        rows = [(value, row.get("readable") or row.get("name")) for value, row in enumerate(labels)]
    named = [(value, name) for value, name in rows if type(value) is int and isinstance(name, str)]
    if not rows or len(named) != len(rows):
        raise UserError(f"{shown}: needs 'categories' with id and name (COCO) or 'labels' with readable (Mapillary)")
    return named
