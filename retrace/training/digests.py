"""Digests of what a training holds: equal digests mean equal bits."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from retrace.documents.hashes import SHORT

HEX = 32  # digits


def digest(*parts: bytes) -> str:
    """The first 32 hex digits of the sha256 of all bytes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:HEX]


def bytes_of(tensor: Tensor) -> bytes:
    """The values row by row, whatever the layout in memory and the device, with type and shape before them."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return f"{tensor.dtype} {list(tensor.shape)} ".encode() + flat.view(torch.uint8).numpy().tobytes()


def digest_of(value: object) -> str:
    """Of nested lists, tuples and mappings of tensors, texts and numbers, such as a batch."""
    if isinstance(value, Tensor):
        return digest(bytes_of(value))
    if isinstance(value, np.ndarray):
        return digest(f"{value.dtype} {value.shape} ".encode(), value.tobytes())
    if isinstance(value, Mapping):
        return digest(*(f"{key} {digest_of(value[key])} ".encode() for key in value))
    if isinstance(value, list | tuple):
        return digest(*(digest_of(part).encode() for part in value))
    return digest(repr(value).encode())


@dataclass(frozen=True)
class State:
    """The objects that decide how a training goes on.

    more: what else the next step depends on, for instance the scale of a gradient scaler.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None
    device: torch.device
    more: Callable[[], object]

    def names(self) -> list[str]:
        """One for every digest of a tensor; the same throughout the training."""
        average = [] if self.average is None else [f"average/{name}" for name in self.average.state_dict()]
        return [*self.model.state_dict(), *average, *(f"optimizer/{name}" for name, _ in self._stepped())]

    def digests(self) -> dict[str, str | None]:
        """The fields of `StateHashes`. Waits for the device."""
        model = _each(self.model.state_dict().items())
        average = {} if self.average is None else _each(self.average.state_dict().items())
        kept = [(name, self.optimizer.state.get(parameter, {})) for name, parameter in self._stepped()]
        optimizer = _each(kept)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        tensors = [*model.values(), *average.values(), *optimizer.values()]
        return {
            "model": digest_of(model),
            "average": digest_of(average) if average else None,
            "optimizer": digest_of([optimizer, rates, self.more()]),
            "generators": self._generators(),
            "tensors": "".join(full[:SHORT] for full in tensors),
        }

    def _stepped(self) -> Iterable[tuple[str, Tensor]]:
        """(name, parameter) of all that the optimizer changes, in the order of the network."""
        mine = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        return [(name, part) for name, part in self.model.named_parameters() if id(part) in mine]

    def _generators(self) -> str:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return digest_of(states)


def _each(named: Iterable[tuple[str, object]]) -> dict[str, str]:
    return {name: digest_of(value) for name, value in named}
