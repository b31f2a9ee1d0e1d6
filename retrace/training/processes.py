"""Several processes that train one model: numbers shared among them, and one end for all when one of them fails.

Fabric's DDP averages gradients over processes. Here is what that leaves open: the weight of unequal shares, exact
sums, the same buffers everywhere, and a failure that is reported once and leaves nobody waiting.
"""

import atexit
import functools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from retrace.allocator import ran_out_of_memory
from retrace.errors import FailedElsewhere, FailedHere, UserError

ASSEMBLY = 300.0  # seconds that the first process waits for the last: loading torch from a shared disk is slow
PERIOD = 1.0  # seconds between two looks at the process that started this one
STORE_TIMEOUT = timedelta(seconds=10)


def weight_of_share(fabric: Fabric, amount: Tensor) -> Tensor:
    """world * amount / (sum of all processes' amounts), a scalar; 0 where nobody has any.

    With amount = what a loss is averaged over, the mean over processes of weight * loss is the loss of the whole batch.
    """
    total = amount.detach().double().clone()
    dist.all_reduce(total)
    return (fabric.world_size * amount / total.clamp(min=torch.finfo(torch.float64).tiny)).float()


def mean_of_all(fabric: Fabric, values: Tensor) -> Tensor:
    """The elementwise mean over the processes, the same bits on each of them."""
    if fabric.world_size == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / fabric.world_size


def sum_of_all(fabric: Fabric, values: Tensor) -> Tensor:
    """The elementwise sum over the processes."""
    if fabric.world_size == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def of_all(fabric: Fabric, value: Any) -> list[Any]:
    """`value` of every process, in the order of their ranks."""
    if fabric.world_size == 1:
        return [value]
    parts: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(parts, value)
    return parts


def in_list_order(fabric: Fabric, values: list[Any]) -> list[Any]:
    """What each process has for its samples rank, rank + world, ... of a list, put together in the list's order."""
    parts = of_all(fabric, values)
    return [part[row] for row in range(len(parts[0])) for part in parts if row < len(part)]


def align_buffers(fabric: Fabric, module: nn.Module) -> None:
    """Give every process the first one's buffers (running statistics of BatchNorm), which are those that are kept."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def require_equal(fabric: Fabric, mark: str) -> None:
    """Raise `UserError` unless `mark`, a hash of parameters, data and code, is the same for every process."""
    marks = of_all(fabric, (mark, os.uname().nodename))
    other = next((host for one, host in marks if one != marks[0][0]), None)
    if other is not None:
        raise UserError(
            f"{other} has other parameters, data, starting weights, code or requirements/runtime.txt than "
            f"{marks[0][1]}; bring the same Git commit and the same data to every machine"
        )


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """A failure inside the block on any process ends all of them, and only the first to fail reports it.

    Raises on the process that failed first `FailedHere` in place of a `UserError`, and anything else unchanged; on
    the others `FailedElsewhere` with the first one's message. May be nested. Does nothing with one process.
    """
    with _together(fabric.global_rank, fabric.world_size):
        yield


@contextmanager
def together_from_the_start() -> Iterator[None]:
    """As `together`, before there is a Fabric: a process that `torchrun` started knows its rank already."""
    joined = dist.is_torchelastic_launched()
    with _together(int(os.environ["RANK"]) if joined else 0, int(os.environ["WORLD_SIZE"]) if joined else 1):
        yield


@contextmanager
def _together(own: int, world: int) -> Iterator[None]:
    if world == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        atexit.unregister(_leave)
        atexit.register(_leave)
        lost = not isinstance(error, UserError) and _connection_lost(error)
        text = LOST if lost else (str(error) or type(error).__name__)
        rank, said = _first_failure(own, text)
        if rank != own:
            raise FailedElsewhere(said) from None
        if lost or isinstance(error, UserError):
            raise FailedHere(text) from None
        raise


LOST = (
    "the connection to another process of this training was lost: it was killed or its machine is gone; "
    "run the same command again to go on from the last complete epoch"
)


def join_others() -> None:
    """For a process that `torchrun` started, before the group is: everything by which they end together.

    It ends when the one that started it is gone, SIGTERM becomes an error that `together` sees, and the place where
    the first failure is entered is reached before anybody can fail.
    """
    _store()
    parent, own = os.getppid(), os.getpid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PERIOD)
        os._exit(1)  # nobody is left to report to, and the main thread may be waiting for another process

    def stop(*_: Any) -> None:
        if os.getpid() != own:  # a loader worker
            os._exit(1)
        raise UserError("ended by SIGTERM; run the same command again to go on from the last complete epoch")

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
    signal.signal(signal.SIGTERM, stop)


def await_others() -> None:
    """Return once every process has come this far, so that none waits half an hour for a group that cannot form.

    Raises `FailedElsewhere` when one of them has failed, `UserError` when one has not come within `ASSEMBLY` seconds.
    """
    here, world, end = _key("here"), int(os.environ["WORLD_SIZE"]), time.monotonic() + ASSEMBLY
    present = _store().add(here, 1)
    while present < world:
        if _store().check([_key("failure")]):
            raise FailedElsewhere("another process failed before the training began")
        if time.monotonic() > end:
            raise UserError(
                f"{present} of {world} processes came within {ASSEMBLY:.0f} s; look at what the others printed, and "
                "check that every machine has the same Git commit, environment or image, data and `machine` block"
            )
        time.sleep(0.05)
        present = _store().add(here, 0)


def _key(name: str) -> str:
    return f"retrace/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _first_failure(rank: int, text: str) -> tuple[int, str]:
    """Enter `text` as the failure that ended the training unless there is one; returns that one and its rank."""
    try:
        entered = _store().compare_set(_key("failure"), "", f"{rank} {text}").decode()
    except (RuntimeError, ValueError):  # the process that kept the store has gone, so it failed before
        return -1, LOST
    first, _, said = entered.partition(" ")
    return int(first), said


@functools.cache
def _store() -> dist.TCPStore:
    return dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=STORE_TIMEOUT)


# what NCCL and the store say of a process that is gone or does not answer; of a wrong use of NCCL ("ncclInvalidUsage",
# two processes on one device) or a lack of memory they say something else
GONE = re.compile(
    r"ncclRemoteError|ncclSystemError|remote process|Connection (reset|closed|refused)|Broken pipe|socket|timed? ?out",
    re.IGNORECASE,
)


def _connection_lost(error: Exception) -> bool:
    """Whether gloo, NCCL or the store has lost another process."""
    if not isinstance(error, RuntimeError) or ran_out_of_memory(error):
        return False
    text = str(error)
    if isinstance(error, dist.DistBackendError) or "nccl" in text.lower():
        return GONE.search(text) is not None
    return isinstance(error, dist.DistError) or "gloo" in text


def _leave() -> None:
    # before the exit handlers that would close the process group, which can wait for processes that are gone
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
