"""A training beside other programs: `python -m benchmarks.busy`.

Seconds of `python -m stages.pretrain` of a small `lanes` study, alone, beside 2 and 8 busy loops, and as two trainings
at once, with threads that sleep while they wait (`OMP_WAIT_POLICY=PASSIVE`, the default) and with threads that spin
(`ACTIVE`, what PyTorch's OpenMP does by itself). The fair share is what a scheduler would give a training whose
threads never wait: with t threads beside b busy loops on c cores, (t + b) / c times the time alone, if more than once.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import arguments, save
from benchmarks.project import parameters, project, run

THREADS = 2
POLICIES = ("PASSIVE", "ACTIVE")
LOADS = {"alone": 0, "2 busy loops": 2, "8 busy loops": 8}
TWICE = "two trainings at once"


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """This many processes that never stop computing."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start(folder: Path, policy: str) -> subprocess.Popen:
    """The pre-training, in the background."""
    shutil.rmtree(folder / "models", ignore_errors=True)
    command = [sys.executable, "-m", "stages.pretrain"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_WAIT_POLICY": policy}, **quiet)


def seconds(folders: list[Path], policy: str) -> float:
    """From the start to the end of the last training."""
    began = time.perf_counter()
    running = [start(folder, policy) for folder in folders]
    for process in running:
        if process.wait():
            raise RuntimeError(f"pretrain ended with exit code {process.returncode}")
    return time.perf_counter() - began


def main() -> None:
    """Time all loads under both policies, the policies in turn, and write benchmarks/results/busy.json."""
    parser = arguments(__doc__, repetitions=2)
    options = parser.parse_args()
    images = {"train": 8, "val": 4, "test": 4, "unlabeled": 8 if options.tiny else 64}
    values = parameters(
        "lanes",
        {
            "data": {"synthetic": images},
            "rebalance": {"min_val_instances": 0, "min_test_instances": 0},
            "pretrain": {"mae": {"epochs": 1 if options.tiny else 2}},
            "runtime": {"threads": THREADS},
        },
    )
    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    with project(values, "collect", "rebalance") as first, project(values) as second:
        run(second, sys.executable, "-m", "stages.collect")
        run(second, sys.executable, "-m", "stages.rebalance")
        measured: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.repetitions):
            for load, loops in LOADS.items():
                for policy in POLICIES:
                    with busy(loops):
                        measured.setdefault((load, policy), []).append(seconds([first], policy))
                    print(f"  {load}, {policy}: {measured[load, policy][-1]:.1f} s", flush=True)
            for policy in POLICIES:
                measured.setdefault((TWICE, policy), []).append(seconds([first, second], policy))
                print(f"  {TWICE}, {policy}: {measured[TWICE, policy][-1]:.1f} s", flush=True)
    for load in (*LOADS, TWICE):
        others = THREADS if load == TWICE else LOADS[load]
        fair = max(1.0, (THREADS + others) / cores)
        best = {policy: min(measured[load, policy]) for policy in POLICIES}
        alone = min(measured["alone", "PASSIVE"])
        rows.append({"load": load, "seconds": best, "fair": fair, "to_fair": best["PASSIVE"] / (fair * alone)})
    save("busy", options.tiny, rows, threads=THREADS, repetitions=options.repetitions)


if __name__ == "__main__":
    main()
