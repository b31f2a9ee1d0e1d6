"""Check a committed report: numbers against their files, pages against report.json, that against the results.

A page is laid out again from report.json and must have the same bytes, so it cannot say anything else.
"""

import math
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrace.errors import UserError
from retrace.files import read_json
from retrace.programs import git, how_to_get
from retrace.provenance.md5 import changed, digest, listing
from retrace.provenance.verify.again import code_of, write_again
from retrace.report.document import AGAIN, NAME, Document, read
from retrace.report.numbers import Ledger
from retrace.report.sums import SUMS

STUDY = (NAME, "parameters.json", "derived.json", "provenance.json")  # not laid out from report.json
CLOSE = 1e-9  # relative: how far a number may be off where another machine computed it
SHADES = 8  # of 255: how far a pixel may be off where another machine draws the same picture
AROUND = 40  # characters shown before and after a difference


@dataclass(frozen=True)
class Checked:
    """Numbers that were compared, problems (one line each), numbers by file that is not here, and notes."""

    numbers: int
    wrong: list[str]
    unchecked: dict[str, int]
    notes: list[str]


def check(
    root: Path,
    name: str,
    clone: Path,
    *,
    results: bool = True,
    bundle: str | None = None,
    documents: Sequence[str] = STUDY,
    again: str = AGAIN,
    writers: Sequence[str] = (),
) -> Checked:
    """Check reports/<name> below `root`, a folder laid out like the project.

    Args:
        clone: folder of the commit, whose history may hold the code that wrote the report.
        results: whether all files that the report is computed from are below `root`.
        bundle: the recorded md5 of the study's bundle, where it is known.
        documents: files of the folder that report.json does not lay out.
        again: the command that writes this report.
        writers: code that writes it, besides what writes every report.

    Raises:
        UserError: report.json is missing or damaged.
    """
    folder = root / "reports" / name
    document = read(folder, again, f"reports/{name}/{NAME}")
    lines, unchecked = compare_numbers(root, document)
    wrong = [f"reports/{name}/{NAME}: {line}" for line in lines]
    for file in documents:
        if not (folder / file).is_file():
            wrong.append(f"reports/{name}/{file}: no such file; run {again} and commit what it writes")
    everything = how_to_get("", "dvc repro")
    notes = [] if results else [f"{name}: not computed again, because not all results are here ({everything})"]
    code = code_of(clone, f"reports/{name}", document.report.code, writers)
    if code is None:
        text = f"reports/{name}: written by report code that is not in this commit or the one that wrote it"
        if git("rev-parse", "--is-shallow-repository", folder=clone, check=False).strip() == "true":
            notes.append(f"{text} (git fetch --unshallow), so its pages were not compared")
        else:
            wrong.append(f"{text}; run {again}")
    else:
        with tempfile.TemporaryDirectory() as temporary:
            wrong += _laid_out(folder, Path(temporary, "pages"), code, documents, again)
            if results and not wrong:
                wrong += _computed(folder, Path(temporary, "results"), code, documents, bundle)
    total = len(document.numbers) - sum(unchecked.values()) - len(lines)
    return Checked(total, wrong, unchecked, notes)


def compare_numbers(root: Path, document: Document) -> tuple[list[str], dict[str, int]]:
    """Numbers that their files do not hold, and how many are in each file that is not here."""
    ledger, wrong, absent = Ledger(root), list[str](), Counter[str]()
    for number in document.numbers:
        if not (root / number.file).is_file():
            absent[number.file] += 1
            continue
        try:
            now = ledger.num(number.file, number.key, number.format)
            same, text = now.value == number.value, f"{now.value} ({now.text})"
        except (KeyError, TypeError, ValueError, UserError):  # an edited key, or a damaged file
            same, text = False, "nothing"
        if not same:
            wrong.append(f"{number.file}: {number.key}: printed {number.text} ({number.value}), the file says {text}")
    return wrong, dict(sorted(absent.items()))


def _laid_out(folder: Path, target: Path, code: Path, documents: Sequence[str], again: str) -> list[str]:
    """Pages, tables and figures that report.json does not give."""
    name = f"reports/{folder.name}"
    try:
        write_again("pages", code, folder, folder, target)
    except UserError as error:
        return [f"{name}: {error}; restore it (`git checkout -- {name}`) or run {again}"]
    wrong = []
    for file in changed(listing(folder) or {}, listing(target) or {}):
        old, new = folder / file, target / file
        if file in (*documents, SUMS) or (file.endswith(".png") and _same_picture(old, new)):
            continue
        if not old.is_file():
            wrong.append(f"{name}/{file}: no such file; run {again} and commit what it writes")
        elif not new.is_file():
            wrong.append(f"{name}/{file}: not a file of this report; delete it, or run {again}")
        else:
            wrong.append(f"{name}/{file}: not what {NAME} gives: {_edit(old.read_bytes(), new.read_bytes())}")
    return wrong


def _computed(folder: Path, target: Path, code: Path, documents: Sequence[str], bundle: str | None) -> list[str]:
    """Documents that the results do not give, with the first place in each."""
    name = f"reports/{folder.name}"
    try:
        write_again("results", code, folder.parents[1], folder, target)
    except UserError as error:
        return [f"{name}: cannot be computed again: {error}"]
    wrong = []
    for file in documents:
        old, new = folder / file, target / "report" / file
        if not file.endswith(".json"):
            if old.read_bytes() != new.read_bytes():
                text = _edit(old.read_bytes(), new.read_bytes())
                wrong.append(f"{name}/{file}: not what the results give: {text}")
            continue
        place = first_difference(read_json(old), read_json(new))
        if place:
            wrong.append(f"{name}/{file}: {place}")
    made = listing(target / "bundle")
    if bundle and made and not wrong and digest(made) != bundle:
        wrong.append(f"bundles/{folder.name}: recorded with md5 {bundle}, the results give {digest(made)}")
    return wrong


def first_difference(old: Any, new: Any, key: str = "", whose: str = "the results give") -> str:
    """`key: 'a', where <whose> 'b'` for the first place that differs; empty if none does."""
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        pairs = [(name, old[name], new[name]) for name in old]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(place), *both) for place, both in enumerate(zip(old, new, strict=True))]
    elif old == new or (_float(old) and _float(new) and math.isclose(old, new, rel_tol=CLOSE, abs_tol=CLOSE)):
        return ""
    else:
        one, other = _around(old, new) if isinstance(old, str) and isinstance(new, str) else (old, new)
        return f"{key or 'all of it'}: {_short(one)}, where {whose} {_short(other)}"
    for name, one, other in pairs:
        found = first_difference(one, other, f"{key}.{name}" if key else name, whose)
        if found:
            return found
    return ""


def _float(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(list(value) if isinstance(value, dict) else value)
    return text if len(text) <= 3 * AROUND else f"{text[: 3 * AROUND]} ..."


def _edit(old: bytes, new: bytes) -> str:
    """The first place where two texts differ, with what stands around it."""
    try:
        mine, theirs = old.decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return "other bytes"
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False), start=1):
        if one != other:
            return "line {}: {!r}, not {!r}".format(number, *_around(one, other))
    return f"{len(mine)} lines, not {len(theirs)}"


def _around(one: str, other: str) -> tuple[str, str]:
    """What stands in each text around their first difference."""
    both = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    start = max(next((place for place, (a, b) in both if a != b), shorter) - AROUND, 0)
    return one[start : start + 2 * AROUND], other[start : start + 2 * AROUND]


def _same_picture(one: Path, other: Path) -> bool:
    """Whether two PNG files show the same up to another machine's rounding; one changed byte breaks a checksum."""
    if not (one.is_file() and other.is_file() and _intact(one.read_bytes())):
        return False
    import numpy as np
    from PIL import Image

    try:
        pixels = [np.asarray(Image.open(path).convert("RGBA"), dtype=int) for path in (one, other)]
    except (OSError, SyntaxError, ValueError, zlib.error):
        return False
    return pixels[0].shape == pixels[1].shape and bool(np.abs(pixels[0] - pixels[1]).max() <= SHADES)


def _intact(content: bytes) -> bool:
    """Whether a file is a PNG whose chunks all have their checksums, to its last byte."""
    place = 8
    while content[:8] == b"\x89PNG\r\n\x1a\n" and place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        body, sum = content[place + 4 : place + 8 + size], content[place + 8 + size : place + 12 + size]
        if sum != struct.pack(">I", zlib.crc32(body)):
            return False
        place += 12 + size
    return place == len(content)
