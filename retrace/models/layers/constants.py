"""Constant tensors on the device: made there once, because every copy from the host waits for the device."""

from collections.abc import Callable

import torch
from torch import Tensor


class Constants:
    """Tensors by key and device, made at their first use and kept."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, torch.device], Tensor] = {}

    def get(self, key: object, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key` on `device`; `make` gives it on the CPU. Nobody may write into it."""
        place = (key, device)
        if place not in self._made:
            with torch.inference_mode(False):  # such a tensor could not be used in a training later
                self._made[place] = make().to(device)
        return self._made[place]
