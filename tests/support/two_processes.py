"""Two real processes of one training on this machine (gloo), forked from a test so that nothing is imported again."""

import contextlib
import csv
import hashlib
import multiprocessing
import os
import pickle
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

LIMIT = 120  # seconds for both
PHASE = {"phase_defaults": {"fabric": {"epochs": 4, "batch_size": 4, "ema": 0.9, "accumulate": 2, "patience": 5}}}
TWO = {"machine": {"devices": 2}}
MESSAGE = re.compile(r"^error: .*$", re.M)


@dataclass(frozen=True)
class End:
    """How one process ended."""

    code: int | None  # None: it hung and was killed; negative: minus the signal
    value: Any  # what the function returned
    out: str
    err: str


def both(folder: Path, function: Callable[..., Any], *arguments: Any) -> list[End]:
    """Run `function(rank, *arguments)` in two processes as `torchrun` would start them, with `folder` to work in."""
    torch.set_num_threads(1)  # a thread pool does not survive a fork
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun keeps it, too
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_child, args=(folder, rank, store.port, function, arguments)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + LIMIT
    for process in processes:
        process.join(max(0.1, end - time.monotonic()))
    ends = []
    for rank, process in enumerate(processes):
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        texts = [(folder / f"{name}{rank}").read_text() for name in ("out", "err")]
        value = folder / f"value{rank}"
        ends.append(End(code, pickle.loads(value.read_bytes()) if value.exists() else None, *texts))
        for name in ("out", "err", "value"):
            (folder / f"{name}{rank}").unlink(missing_ok=True)
    return ends


def _child(folder: Path, rank: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with _redirected(folder, rank):
        code = 0
        try:
            (folder / f"value{rank}").write_bytes(pickle.dumps(function(rank, *arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 1
    os._exit(code)


@contextlib.contextmanager
def _redirected(folder: Path, rank: int) -> Iterator[None]:
    with open(folder / f"out{rank}", "w", buffering=1) as out, open(folder / f"err{rank}", "w", buffering=1) as err:
        os.dup2(out.fileno(), 1)  # what C++ writes, too
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = out, err
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The test's own process computes as each of the two does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def md5s(project: Path) -> dict[str, str]:
    """Of every file below models/<study>/<phase>/, by its path in the project."""
    files = [path for folder in sorted(project.glob("models/*/*/")) for path in sorted(folder.rglob("*"))]
    return {
        str(path.relative_to(project)): hashlib.md5(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


def history(project: Path, phase: str = "models/boxes/base") -> list[dict[str, str]]:
    """Rows of a phase's history.csv."""
    return list(csv.DictReader((project / phase / "history.csv").open()))
