"""The smallest study with committed results, for the tests of `retrace verify` and `retrace why`."""

from pathlib import Path
from typing import Any

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
