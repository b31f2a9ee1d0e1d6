"""What data.yaml of a YOLO data set says: the class names and the keypoints of a row."""

from pathlib import Path
from typing import Any

from retrace.config.reading import yaml_mapping
from retrace.errors import UserError
from retrace.text_files import read_utf8


def read_data_yaml(path: Path, where: str) -> dict[str, Any]:
    """The mapping in data.yaml, which messages call `where`; `UserError` for another encoding or no mapping."""
    try:
        text = read_utf8(path, where)
    except OSError as error:
        raise UserError(f"{where}: could not be read ({error.strerror})") from None
    return yaml_mapping(text, where)


def names_of(content: dict[str, Any], where: str) -> dict[int, str]:
    """Class id -> name, of a list or of a map whose keys are whole numbers or text of digits.

    A name that YAML does not read as text (01, 1.10, null, true) is refused: what was written can no longer be told.
    """
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(
            f"{where}: names: must be a list of class names or a map of class id to name, not {names!r:.80}"
        )
    found: dict[int, str] = {}
    for key, name in names.items():
        number = _whole(key)
        if number is None:
            raise UserError(
                f"{where}: names: the class id {key!r:.80} must be a whole number from 0; "
                "write one `id: name` a line, with a blank behind the colon"
            )
        if number in found:
            raise UserError(f"{where}: names: the class id {number} is there twice; keep one")
        if not isinstance(name, str):
            raise UserError(
                f"{where}: names: {number}: YAML reads this name as {_kind(name)} ({name!r:.40}); put it in quotes, "
                f'as it is to be called: {number}: "..."'
            )
        found[number] = name
    count = content.get("nc")
    if count is not None and _whole(count) != len(found):
        raise UserError(f"{where}: nc = {count!r:.80}, but names has {len(found)} entries; make them agree")
    return found


def keypoints_of(content: dict[str, Any], where: str) -> tuple[int, int] | None:
    """`kpt_shape`: keypoints of a row and numbers of each (2: x, y; 3: and visibility); None: rows have none."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    numbers = [_whole(value) for value in shape] if isinstance(shape, list) and len(shape) == 2 else []
    count, values = numbers if len(numbers) == 2 else (None, None)
    if count is None or count < 1 or values is None or values not in (2, 3):
        raise UserError(f"{where}: kpt_shape = {shape!r:.80}: must be [keypoints, 2] or [keypoints, 3]")
    return count, values


def _whole(value: object) -> int | None:
    """A whole number from 0, or the text of one; None for all else."""
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        return int(value)
    return None


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
