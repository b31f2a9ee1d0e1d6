"""Random numbers that depend on what they are for - (seed, epoch, index) - and never on order, workers or threads."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from retrace.config.machine import Runtime


def derive(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. `derive(seed, "augment", epoch, index)`; equal on every machine."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators (all devices) for what draws from them, e.g. dropout."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside the block PyTorch's global CPU generator draws from `seed`; after it, it goes on as if nothing had been.

    `torch.manual_seed` would also seed the accelerators, whose generators must not see how many samples this process
    makes: with loader workers it makes none.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def make_deterministic(runtime: Runtime) -> None:
    """Fixed CPU threads and instructions, deterministic kernels only: an operation without one is an error.

    Raises `UserError` on an x86-64 processor that cannot compute what `runtime.numerics` asks for.
    """
    import os

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import cv2
    import torch

    from retrace import numerics

    numerics.use(runtime.numerics)
    cv2.setNumThreads(0)
    torch.set_num_threads(runtime.threads)
    torch.use_deterministic_algorithms(True)
    # filling fresh memory only serves code that reads it uninitialized, and took 19 % of a training step on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
