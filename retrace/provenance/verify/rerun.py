"""Run stages in a clone without any cache, and write their output to a log file."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import DVC, environment
from retrace.progress import bars

FORCE = ("--force", "--no-run-cache", "--no-commit")  # without --force DVC would restore a known result (run-cache)


def rerun(root: Path, log: Path, title: str, stages: int, arguments: Sequence[Sequence[str]]) -> None:
    """`dvc repro` in `root` once for each of `arguments`, one after the other; output is appended to `log`.

    Args:
        stages: how many stages will run in all, for the progress bar.

    Raises:
        UserError: a stage failed; the message names it and the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as stream, bars() as progress:
        task = progress.add_task(title, total=stages, info="")
        running = ""
        for words in arguments:
            with _started(root, words) as process:
                for line in process.stdout or ():
                    stream.write(line)
                    stream.flush()
                    if line.startswith("Running stage '"):
                        progress.advance(task, 1 if running else 0)
                        running = line.split("'")[1]
                        progress.update(task, info=running)
            if process.returncode:
                raise UserError(f"the rerun failed at {running or 'its start'}; see its output in {log}")


@contextmanager
def _started(root: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The running command; it has ended when the block is left, also by an interrupt."""
    process = subprocess.Popen(
        [*DVC, "repro", *FORCE, *words],
        cwd=root,
        env=environment(),
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
