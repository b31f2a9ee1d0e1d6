"""JSON files of others, read with one clear message for whatever is wrong with them."""

import json
import math
from pathlib import Path
from typing import TypeGuard

from retrace.errors import UserError

Id = int | str
Rows = list[dict[str, object]]


def read(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        UserError: the file is missing, cannot be read or is no JSON.
    """
    try:
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    return content


def is_rows(value: object) -> TypeGuard[Rows]:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def is_id(value: object) -> TypeGuard[Id]:
    """Whether a value can be the id of an image or of a category."""
    return type(value) in (int, str)


def number(value: object) -> float:
    """A JSON number as a float; NaN for everything else and for what is not finite."""
    if type(value) not in (int, float):
        return math.nan
    assert isinstance(value, int | float)
    try:
        found = float(value)
    except OverflowError:  # JSON numbers have no bounds
        return math.nan
    return found if math.isfinite(found) else math.nan


def box(value: object) -> tuple[float, float, float, float] | None:
    """(x, y, width, height); None unless these are four finite numbers and no side is negative."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = (number(one) for one in value)
    if math.isnan(x + y + width + height) or width < 0 or height < 0:
        return None
    return x, y, width, height
