"""The smallest study with committed results, for the tests of `retrace verify` and `retrace why`."""

from pathlib import Path
from typing import Any

from retrace.files import write_json
from retrace.provenance.verify.pages import compare_numbers
from retrace.report.document import read
from tests.support.projects import run, tiny_params

STATED = {"metric": "mIoU", "split": "test", "value": 0.25, "tolerance": 0.2, "seeds": [17, 18]}


def smallest(expected: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Parameters of a study with one phase and no pre-training."""
    values = tiny_params("lanes")
    values["phase"], values["pretrain"]["method"] = "baseline", "none"
    values["phases"] = {"baseline": values["phases"]["baseline"]}
    values["report"]["claims"], values["ablation"] = [], None  # both name phases that are gone
    values["expected"] = expected or []
    return values


def as_process(project: Path, *words: str, temporary: Path):
    """Run the command of this project in a process of its own, 80 columns wide, with `temporary` as its TMPDIR."""
    env = {"COLUMNS": "80", "TMPDIR": str(temporary)}
    return run(project, "python", "-m", "retrace", *words, env=env)


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    """Replace the first `count` places of a text file."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def recheck(folder: Path) -> list[str]:
    """The numbers of a report that their files, below the current folder, do not hold; a line each."""
    return compare_numbers(Path(), read(folder))[0]


def printed(folder: Path) -> list[dict[str, str]]:
    """Text, file, key and format of every printed number of a report."""
    rows = read(folder).numbers
    return [{"text": row.text, "file": row.file, "key": row.key, "format": row.format} for row in rows]


def write_numbers(folder: Path, file: str, values: dict[str, float]) -> None:
    """A report.json without pages, whose numbers were read from `file` at the keys of `values`."""
    rows = [{"value": value, "file": file, "key": key, "format": "fraction"} for key, value in values.items()]
    facts = {"study": "lanes", "task": "segmentation", "demo": True, "code": "", "pages": []}
    write_json(folder / "report.json", {**facts, "numbers": rows})
