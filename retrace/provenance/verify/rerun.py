"""Run stages in a clone without any cache, and write their output to a log file."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import DVC, environment
from retrace.progress import bars

FORCE = ("--force", "--no-run-cache", "--no-commit")  # without --force DVC would restore a known result (run-cache)


class StageFailed(UserError):
    """A stage of the rerun failed, after those that are `finished`."""

    def __init__(self, message: str, stage: str, finished: Sequence[str]):
        super().__init__(message)
        self.stage, self.finished = stage, tuple(finished)


def rerun(
    root: Path, log: Path, title: str, stages: int, arguments: Sequence[Sequence[str]], compare: Path | None = None
) -> None:
    """`dvc repro` in `root` once for each of `arguments`, one after the other; output is appended to `log`.

    Args:
        stages: how many stages will run in all, for the progress bar.
        compare: folder of what the trainings are compared with, see `comparison`.

    Raises:
        StageFailed: a stage failed; the message names it and the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as stream, bars() as progress:
        task = progress.add_task(title, total=stages, info="")
        begun: list[str] = []
        for words in arguments:
            with _started(root, words, compare) as process:
                for line in process.stdout or ():
                    stream.write(line)
                    stream.flush()
                    if line.startswith("Running stage '"):
                        progress.advance(task, 1 if begun else 0)
                        begun.append(line.split("'")[1])
                        progress.update(task, info=begun[-1])
            if process.returncode:
                *finished, stage = begun or [""]
                message = f"the rerun failed at {stage or 'its start'}; see its output in {log}"
                raise StageFailed(message, stage, finished)


@contextmanager
def _started(root: Path, words: Sequence[str], compare: Path | None) -> Iterator[subprocess.Popen[str]]:
    """The running command; it has ended when the block is left, also by an interrupt."""
    process = subprocess.Popen(
        [*DVC, "repro", *FORCE, *words],
        cwd=root,
        env=compared_environment(compare),
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


def compared_environment(compare: Path | None) -> dict[str, str]:
    """For a stage whose training is compared with what the folder `compare` holds."""
    from retrace.training.record import COMPARE  # loads torch

    kept = {key: value for key, value in environment().items() if key != COMPARE}
    return kept if compare is None else {**kept, COMPARE: str(compare.absolute())}
