"""The independent units of images that no manifest describes: named by a file, or by a pattern of their names."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from retrace.errors import UserError
from retrace.statistics.bootstrap import Units

UNITS = ("image", "group")
ENDINGS = (".csv", ".json")
FORMS = "a .csv file with the columns image and group, a .json file that maps image to group, or a regular expression"


def units_of(images: Sequence[str], unit: str, groups: str | None) -> tuple[Units, str]:
    """The unit of each image, and what a unit is called.

    Args:
        images: names.
        unit: one of `UNITS`.
        groups: with `group`: a file of one of `ENDINGS`, or a regular expression whose first capture in a name is the
            group. An image that the expression does not match is a group of its own.

    Raises:
        UserError: the two do not fit, a file is damaged, or an image has no group.
    """
    if unit not in UNITS:
        raise UserError(f"--unit {unit!r}: no such unit; allowed: {', '.join(UNITS)}")
    if unit == "image":
        if groups is not None:
            raise UserError("--groups: only with --unit group; add it, or leave --groups out")
        return Units.each(len(images)), "image"
    if groups is None:
        raise UserError(f"--unit group: which images belong together is missing; add --groups with {FORMS}")
    if groups.lower().endswith(ENDINGS):
        return Units.named(_listed(images, Path(groups))), "group"
    return Units.named(_captured(images, groups)), "group"


def _captured(images: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--groups {pattern!r}: not a regular expression ({error}); allowed: {FORMS}") from None
    if compiled.groups < 1:
        raise UserError(f"--groups {pattern!r}: needs one capturing group, for example '^([^_]+)_'")
    matches = [compiled.search(name) for name in images]
    if not any(matches):
        raise UserError(f"--groups {pattern!r}: matches no image, e.g. not {images[0]!r}")
    names = []
    for name, match in zip(images, matches, strict=True):
        captured = match.group(1) if match is not None else None
        names.append(f"image {name}" if captured is None else f"group {captured}")
    return names


def _listed(images: Sequence[str], file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"--groups {file}: no such file; allowed: {FORMS}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--groups {file}: could not be read ({error})") from None
    known = _of_json(text, file) if file.suffix.lower() == ".json" else _of_csv(text, file)
    stems = {PurePosixPath(name).stem: group for name, group in known.items()}
    names, missing = [], []
    for name in images:
        group = known.get(name, stems.get(PurePosixPath(name).stem))
        if group is None:
            missing.append(name)
        else:
            names.append(group)
    if missing:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(f"--groups {file}: {len(missing)} of {len(images)} images have no group: {listed}; add them")
    return names


def _of_json(text: str, file: Path) -> Mapping[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--groups {file}: not valid JSON ({error})") from None
    if not isinstance(content, dict) or not all(type(group) in (str, int) for group in content.values()):
        raise UserError(f"--groups {file}: must map names of images to names of groups")
    return {name: str(group) for name, group in content.items()}


def _of_csv(text: str, file: Path) -> Mapping[str, str]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if rows.fieldnames is None or not {"image", "group"} <= set(rows.fieldnames):
        raise UserError(f"--groups {file}: the first line must name the columns image and group")
    known: dict[str, str] = {}
    for row in rows:
        name, group = row["image"], row["group"]
        if not name or not group:
            raise UserError(f"--groups {file}: line {rows.line_num}: image and group must both be there")
        if known.setdefault(name, group) != group:
            raise UserError(f"--groups {file}: line {rows.line_num}: {name} is in two groups; keep one")
    return known
