"""report.json: all that the pages of a report say and show, and where each number was read."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from retrace.errors import UserError
from retrace.files import read_json, sha256_of, write_bytes, write_text
from retrace.report.blocks import Page
from retrace.report.numbers import Ledger, Num

NAME = "report.json"
WRITERS = ("retrace/report/*.py", "retrace/report/templates/*", "retrace/statistics/*.py")
AGAIN = "`dvc repro report`"
WIDTH = 100  # columns of a line of report.json, where what it holds is not longer


@dataclass(frozen=True)
class Report:
    """One report. `code`: sha256 over the code that wrote it (`code_sum`)."""

    study: str
    task: str
    demo: bool
    code: str
    pages: tuple[Page, ...]


@dataclass(frozen=True)
class Document:
    """A report as it is stored, with its list of numbers."""

    report: Report
    numbers: tuple[Num, ...]


_REPORT, _NUMBERS = TypeAdapter(Report), TypeAdapter(list[Num])


def write(folder: Path, report: Report, ledger: Ledger) -> None:
    """Write report.json and the pictures of figures/ into `folder`."""
    places: dict[Num, int] = {}
    content = _REPORT.dump_python(report, mode="json", context=places)
    content["numbers"] = _NUMBERS.dump_python(list(places), mode="json")
    write_text(folder / NAME, laid_out(content) + "\n")
    for file, picture in ledger.pictures.items():
        write_bytes(folder / "figures" / file, picture)


def read(folder: Path, again: str = AGAIN, name: str | None = None) -> Document:
    """The report.json of a folder.

    Args:
        again: the command that writes it again.
        name: what the user calls the file, where it is read from a copy.

    Raises:
        UserError: the file is missing or damaged.
    """
    shown = name or (folder / NAME).as_posix()
    if not (folder / NAME).is_file():
        raise UserError(f"{shown}: no such file; run {again} and commit what it writes")
    content = read_json(folder / NAME)
    try:
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        numbers = _NUMBERS.validate_python(content.get("numbers"))
        for number in numbers:
            _printable(number)
        report = _REPORT.validate_python(content, context=numbers)
    except (ValidationError, ValueError) as error:
        problem = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            errors = error.errors()
            first = next((row for row in errors if row["type"] == "value_error"), errors[0])
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise UserError(
            f"{shown}: damaged: {problem}; restore it (`git checkout -- {shown}`) or write it again: {again}"
        ) from None
    return Document(report, tuple(numbers))


def _printable(number: Num) -> None:
    try:
        number.text  # noqa: B018
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{number.file}: {number.key}: {number.value!r} has no format {number.format!r}") from None


def laid_out(value: object, indent: str = "") -> str:
    """JSON with one row, cell or number per line, as long as it fits."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= WIDTH:
        return line
    inner = f"{indent} "
    if isinstance(value, dict):
        rows = [f"{json.dumps(key, ensure_ascii=False)}: {laid_out(item, inner)}" for key, item in value.items()]
    else:
        rows = [laid_out(item, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return start + "\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}{end}"


def code_sum(root: Path, *more: str) -> str:
    """sha256 over the code below `root` that writes reports: other code may say it differently."""
    files = sorted({path for pattern in (*WRITERS, *more) for path in root.glob(pattern)})
    rows = [(path.relative_to(root).as_posix(), sha256_of(path)) for path in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()
