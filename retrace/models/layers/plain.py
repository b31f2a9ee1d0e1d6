"""PyTorch's and torchvision's own kernels where they are deterministic although the general switch takes others.

Under `torch.use_deterministic_algorithms` a GPU runs RoIAlign and bilinear resizing in Python, because the gradients
of their kernels are not deterministic. Their forward passes are: with a gradient of our own, or with none, the kernels
serve.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Inside the block operations take their fastest kernels; only for forward passes known to be deterministic."""
    asked = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warns)
