"""A training in forked processes of the test, so that it can be killed and nothing has to be imported again."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

LIMIT = 60  # seconds until a training has saved an epoch


def killed_at_any_moment(project: Path, main: Callable[[str], None], phase: str, times: int = 3) -> int:
    """Start `main(phase)` and kill it within 0.3 s of an epoch being saved, `times`; how many left a checkpoint."""
    generator = random.Random()  # really random: whatever moment it is, the result must not depend on it
    resumable = 0
    for _ in range(times):
        before, process = len(checkpoints(project)), start(project, main, phase)
        end = time.monotonic() + LIMIT
        while process.is_alive() and len(checkpoints(project)) <= before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.3))
        process.kill()
        process.join()
        resumable += bool(checkpoints(project))
    return resumable


def killed_while_it_writes(project: Path, main: Callable[[str], None], phase: str, name: str) -> None:
    """Start `main(phase)`, which dies in the middle of writing the checkpoint `name`."""

    def run(phase: str) -> None:
        from retrace.training import checkpoints

        whole = checkpoints.write_bytes

        def half(path: Path, content: bytes) -> None:
            if path.name != name:
                whole(path, content)
                return
            with open(path.with_name(f".{name}.half.tmp"), "wb", buffering=0) as stream:
                stream.write(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.write_bytes = half
        main(phase)

    process = start(project, run, phase)
    process.join(LIMIT)
    assert process.exitcode == -signal.SIGKILL


def start(project: Path, main: Callable[[str], None], phase: str) -> multiprocessing.Process:
    """`main(phase)` in a process of its own whose working folder is the project."""
    torch.set_num_threads(1)  # a thread pool does not survive a fork

    def run() -> None:
        os.chdir(project)
        main(phase)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def checkpoints(project: Path) -> list[Path]:
    """What interrupted trainings of a project can go on from."""
    return sorted(project.glob(".retrace/scratch/*/*/*.ckpt"))
