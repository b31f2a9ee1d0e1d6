"""How this process treats memory it has freed, and what it says when there is none left."""

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from retrace import COLLECT_AFTER
from retrace.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's mallopt(3)


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation instead of giving it back to the system; does nothing without glibc.

    A training step frees and takes again the same tensors, tens of megabytes each. By default glibc returns them every
    time, and the system hands out the pages anew, filled with zeros, at about a tenth of the step's cost on a CPU.
    Results are the same to the last bit. From here on garbage is collected at Python's own pace again.
    """
    gc.set_threshold(*COLLECT_AFTER)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


# what PyTorch's allocators on a GPU and a CPU say, and CUDA's libraries; a library that finds no kernel for an
# operation ("unable to find an engine", CUDNN_STATUS_NOT_SUPPORTED) is not among them: a smaller batch would not help
EXHAUSTED = re.compile(r"out of memory|not enough memory|can't allocate memory|STATUS_ALLOC_FAILED", re.IGNORECASE)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether this error of PyTorch's says that an allocation failed."""
    return isinstance(error, RuntimeError) and EXHAUSTED.search(str(error)) is not None


def out_of_memory(error: BaseException, remedy: str) -> UserError:
    """What was asked, what the device has, what to set, and PyTorch's own words, in one line."""
    text = " ".join(str(error).split())
    asked = re.search(r"allocate ([\d.]+ [KMGT]?i?B|\d+ bytes)", text)
    has = re.search(r"total capacity of ([\d.]+ [KMGT]?i?B)", text)
    wanted = f": {asked[1]} more were asked for" if asked else ""
    card = f", and the GPU has {has[1]} in all" if has else ""
    return UserError(f"out of memory{wanted}{card}; {remedy}; PyTorch says: {text}")


def smaller_batch(key: str, batch: int, accumulate: int | None = None) -> str:
    """The remedy of a training: half the batch, and twice the batches per step where the loop can accumulate."""
    if batch == 1:
        return f"{key}.batch_size is 1 already: lower {key}.input_size or take a larger GPU"
    if accumulate is None:
        return f"set {key}.batch_size to {batch // 2} (now {batch})"
    return (
        f"set {key}.batch_size to {batch // 2} and {key}.accumulate to {accumulate * 2} (now {batch} and {accumulate})"
        ", which keeps the images per step"
    )


@contextmanager
def advice_when_out_of_memory(remedy: str) -> Iterator[None]:
    """Inside the block, running out of memory is a `UserError` with this remedy; other errors pass unchanged."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise out_of_memory(error, remedy) from None
