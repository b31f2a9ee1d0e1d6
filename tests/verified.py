"""The smallest study with committed results, for the tests of `retrace verify` and `retrace why`."""

import os
import shutil
from pathlib import Path
from typing import Any

from tests.projects import make_project, run, tiny_params

THREADS = {"OMP_NUM_THREADS": "1"}
STATED = {"metric": "mIoU", "split": "test", "value": 0.25, "tolerance": 0.2, "seeds": [17, 18]}


def smallest(expected: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Parameters of a study with one phase and no pre-training."""
    values = tiny_params("lanes")
    values["phase"], values["pretrain"]["method"] = "baseline", "none"
    values["phases"] = {"baseline": values["phases"]["baseline"]}
    values["report"]["claims"], values["ablation"] = [], None  # both name phases that are gone
    values["expected"] = expected or []
    return values


def commit(project: Path, why: str) -> None:
    """Commit everything that Git sees."""
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", why, check=True)


def committed_project(target: Path, values: dict[str, Any]) -> Path:
    """A copy of this project in which the study was run and its results are committed."""
    project = make_project(target, values)
    run(project, "dvc", "repro", env=THREADS, check=True)
    commit(project, "results")
    return project


def copy_of(project: Path, target: Path) -> Path:
    """A second copy with history and cache, to be tampered with."""
    shutil.copytree(project, target, symlinks=True)
    return target


def retrace(project: Path, *words: str, temporary: Path | None = None):
    """Run the command of this project in a process of its own, 80 columns wide."""
    env = {**THREADS, "COLUMNS": "80", "TMPDIR": str(temporary or os.environ.get("TMPDIR", "/tmp"))}
    return run(project, "python", "-m", "stages.cli", *words, env=env)


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
