"""Digests of what a training holds: equal digests mean equal bits."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from retrace.documents.hashes import SHORT

HEX = 32  # digits
Piece = bytes | memoryview


def digest(pieces: Iterable[Piece]) -> str:
    """The first 32 hex digits of the sha256 of all bytes."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()[:HEX]


def digest_of(value: object) -> str:
    """Of tensors, arrays, texts, numbers, and lists, tuples and mappings of them, such as a batch.

    A tensor counts by type, shape and values row by row, whatever its layout in memory and its device.
    """
    return digest(_pieces(value))


def _pieces(value: object) -> Iterator[Piece]:
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)} ".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} ".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)} ".encode()
        for key, part in value.items():
            yield from _pieces(key)
            yield from _pieces(part)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)} ".encode()
        for part in value:
            yield from _pieces(part)
    else:
        text = repr(value).encode()
        yield f"{len(text)} ".encode() + text


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
    # hashlib lets other threads run; tensors are laid out in this one, which has PyTorch's threads
    names, pieces = [], []
    for name, value in named:
        names.append(name)
        pieces.append(list(_pieces(value)))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return dict(zip(names, pool.map(digest, pieces), strict=True))
