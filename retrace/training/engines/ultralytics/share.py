"""A YOLO training by several processes: shares of every batch, and gradients, losses and detections put together.

Ultralytics' own start on several devices is not used: it repeats samples until all shares are equal, and knows nothing
of this kit's data and checkpoints. Instead each process runs Ultralytics' loop as if it were alone, on its share.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Sampler

from retrace.evaluation.scores.matching import Found
from retrace.training.processes import in_list_order


class Shares(Sampler[list[int]]):
    """Of each of `batches` the samples rank, rank + world, ...

    A batch smaller than `world` leaves some with nothing; they get its first sample, which must not count.
    """

    def __init__(self, batches: Any, rank: int, world: int):
        self._batches, self._rank, self._world = batches, rank, world

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch[self._rank :: self._world] or batch[:1]


def deal(fabric: Fabric, loader: Any, trains: bool) -> Any:
    """Ultralytics' `loader` for this process: its share of each training batch, or every `world`-th validation batch.

    Validation batches stay whole: their images are padded to one shape, and their loss is a mean.
    """
    rank, world = fabric.global_rank, fabric.world_size
    if world == 1:
        return loader
    endless = loader.batch_sampler
    if trains:
        object.__setattr__(loader, "batch_sampler", type(endless)(Shares(endless.sampler, rank, world)))
        return loader
    # not Ultralytics' loader, which looks for a next batch for ever where a process gets none
    return DataLoader(
        loader.dataset,
        batch_sampler=list(endless.sampler)[rank::world],
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        pin_memory=loader.pin_memory,
    )


def share_of(fabric: Fabric, samples: int, batch_size: int, index: int) -> tuple[int, int]:
    """(samples of batch `index` that this process has, samples in it); every batch but the last has `batch_size`."""
    whole = min(batch_size, samples - index * batch_size)
    return len(range(fabric.global_rank, whole, fabric.world_size)), whole


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the sum of all their gradients; where none has one, it stays None."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # a share without objects leaves the box branch without a gradient
    present = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    present = present.to(trained[0].device)
    dist.all_reduce(present, dist.ReduceOp.MAX)
    taken = [parameter for parameter, here in zip(trained, present.tolist(), strict=True) if here]
    if not taken:
        return
    for parameter in taken:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in taken])  # type: ignore[union-attr]
    dist.all_reduce(flat)
    for parameter, part in zip(taken, flat.split([parameter.numel() for parameter in taken]), strict=True):
        parameter.grad.copy_(part.view_as(parameter))  # type: ignore[union-attr]


@dataclass
class Scored:
    """What validation had of one batch."""

    losses: dict[str, np.ndarray]  # float32 scalars, means of the batch
    stats: dict[str, list[np.ndarray]]  # Ultralytics' own, one entry per image
    found: dict[str, Found]  # by image id


def put_together(fabric: Fabric, scored: list[Scored]) -> tuple[dict[str, float], dict[str, list], dict[str, Found]]:
    """(mean losses, stats, detections) of all validation batches, the same bits as in one process."""
    every = in_list_order(fabric, scored)
    sums: dict[str, Any] = {}
    for one in every:
        sums = {name: sums.get(name, np.float32(0)) + value for name, value in one.losses.items()}
    losses = {name: float(total / np.float32(len(every))) for name, total in sums.items()}
    stats = {key: [value for one in every for value in one.stats[key]] for key in every[0].stats}
    return losses, stats, {image_id: found for one in every for image_id, found in one.found.items()}
