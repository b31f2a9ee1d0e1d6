"""Blocks of documents that show a command and what it prints in a fresh clone, 80 columns wide."""

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import environment, git

COLUMNS = 80
# they only read, or write to the copy in which they run
ALLOWED = (
    *("retrace compare", "retrace why", "retrace plan", "retrace score", "retrace studies"),
    *("dvc exp show", "dvc exp run --queue"),
)
READ = (
    *(".dvc/config", "dvc.yaml", "dvc.lock", "params.yaml", "metrics.json"),
    *("metrics/*/*.json", "reports/*/*.json", "studies/*.yaml", "docs/score/*.json"),
)


def block(command: str) -> str:
    """The command and its output as a block of code.

    It runs where only committed files are, so the output does not depend on the caches of this machine.

    Raises:
        UserError: the command is none of `ALLOWED`, or it fails.
    """
    words = shlex.split(command)
    if not any(words[: len(start)] == start for start in map(str.split, ALLOWED)):
        raise UserError(f"`{command}`: documents show only what these commands print: {', '.join(ALLOWED)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _clone(Path.cwd(), folder)
        done = subprocess.run(
            [sys.executable, "-m", *words],
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


def _clone(project: Path, folder: Path) -> None:
    """Copies of the files that a clone has, committed; results per image and models are not among them."""
    sources = [path for pattern in READ for path in sorted(project.glob(pattern)) if path.is_file()]
    for source in sources:
        target = folder / source.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    git("init", "-q", "-b", "main", folder=folder)
    git("add", "-A", folder=folder)
    git("-c", "user.name=retrace", "-c", "user.email=retrace@example.org", "commit", "-qm", "results", folder=folder)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in environment().items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    code = str(Path(__file__).parents[3])
    return {**kept, "PYTHONPATH": code, "COLUMNS": str(COLUMNS), "TERM": "dumb", "PYTHONUTF8": "1"}
