"""Blocks of documents that show a command and what it prints in a fresh clone, 80 columns wide."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import environment

COLUMNS = 80
PRINTING = ("compare", "why", "plan", "studies")  # commands that read committed results only and write nothing
READ = ("dvc.yaml", "dvc.lock", "params.yaml", "metrics.json", "metrics", "reports", "studies")


def block(command: str) -> str:
    """The command and its output as a block of code.

    It runs where only committed files are, so the output does not depend on the caches of this machine.

    Raises:
        UserError: the command is none of `retrace compare`, `why`, `plan` and `studies`, or it fails.
    """
    words = shlex.split(command)
    if words[:1] != ["retrace"] or words[1:2] == [] or words[1] not in PRINTING:
        allowed = ", ".join(f"retrace {name}" for name in PRINTING)
        raise UserError(f"`{command}`: documents show only what these print: {allowed}")
    with tempfile.TemporaryDirectory() as folder:
        _committed(Path.cwd(), Path(folder))
        done = subprocess.run(
            [sys.executable, "-m", "retrace", *words[1:]],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise UserError(f"`{command}` in a document failed: {done.stderr.strip()}")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(["```", f"$ {command}", *lines, "```"])


def _committed(project: Path, folder: Path) -> None:
    """Links to the files that a clone has; results per image and models are not among them."""
    for name in READ:
        source = project / name
        if name == "metrics":
            for path in sorted(source.glob("*/*.json")):
                target = folder / path.relative_to(project)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path)
        elif source.exists():
            (folder / name).symlink_to(source)


def _environment() -> dict[str, str]:
    code = Path(__file__).parents[3]
    kept = {key: value for key, value in environment().items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "PYTHONPATH": str(code), "COLUMNS": str(COLUMNS), "TERM": "dumb", "PYTHONUTF8": "1"} | {
        key: os.environ[key] for key in ("HOME",) if key in os.environ
    }
