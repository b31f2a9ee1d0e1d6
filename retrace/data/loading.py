"""Images and masks for training and evaluation: decoded once, cached at working size, the same for any worker count.

A training sample is asked for by (epoch, index), so every random change of it follows from (seed, epoch, index) and
never from which worker made it or what was drawn before.
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from retrace.config.phases import SegmentationAugment
from retrace.data.hashing import BadImage, decode, decode_rgb, open_image, read_bytes
from retrace.data.manifest import Manifest
from retrace.data.transforms import augment
from retrace.errors import UserError
from retrace.programs import how_to_get
from retrace.seeds import derive


def read_image(manifest: Manifest, image_id: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """An image as RGB uint8 [H, W, 3], resized to `size` = (height, width) if given (bilinear, antialiased).

    What may be read is `dataset.hashing`'s policy, so pixels lie here as they did in `collect`. Raises `UserError`,
    also where the file's bytes are not those the manifest names.
    """
    path = manifest.image(image_id)
    try:
        pixels = decode_rgb(_recorded(path, manifest.records[image_id].sha256))
    except BadImage as error:
        raise _unusable(path, error.detail) from None
    if size is None or pixels.shape[:2] == tuple(size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def read_mask(manifest: Manifest, image_id: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """An index mask as uint8 [H, W], 255 = not scored; nearest neighbour when resized to (height, width).

    Raises `UserError`, also where the file's bytes are not those the manifest names.
    """
    path = manifest.mask(image_id)
    try:
        mask = open_image(_recorded(path, manifest.records[image_id].mask_sha256))
        decode(mask)
    except BadImage as error:
        raise _unusable(path, error.detail) from None
    if size is not None and mask.size != (size[1], size[0]):
        mask = mask.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(mask)


def _recorded(path: Path, sha256: str | None) -> bytes:
    """The bytes of a file. Stages depend on the manifest alone, so other bytes than it names must not be used."""
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadImage("other_bytes", "its bytes are not those that `collect` wrote down in manifest.jsonl")
    return content


def _unusable(path: Path, why: str) -> UserError:
    again = how_to_get(str(path), "dvc repro collect")
    return UserError(f"{path}: {why}; bring the collected file back with `dvc checkout collect` or {again}")


class Room:
    """Bytes that the caches of one process may take together; what does not fit is decoded again each time."""

    def __init__(self, limit: int):
        self.left = limit

    def take(self, count: int, size: int) -> int:
        """For how many of `count` samples of `size` bytes there is room, which is theirs from now on."""
        fitting = min(count, self.left // size)
        self.left -= fitting * size
        return fitting


class Cache:
    """Up to `count` uint8 samples of one shape, as `room` allows, in memory that forked loader workers share."""

    def __init__(self, count: int, shape: tuple[int, ...], room: Room):
        self._slots = room.take(count, int(np.prod(shape)))
        if self._slots:
            # anonymous shared memory: unlike /dev/shm it has no small fixed size in a container
            data = mmap.mmap(-1, self._slots * int(np.prod(shape)))
            self._data = np.frombuffer(data, np.uint8).reshape(self._slots, *shape)
            self._filled = np.frombuffer(mmap.mmap(-1, self._slots), np.uint8)

    def get(self, index: int) -> np.ndarray | None:
        """A copy of sample `index`, or None when it is not held."""
        return self._data[index].copy() if index < self._slots and self._filled[index] else None

    def put(self, index: int, sample: np.ndarray) -> None:
        """Hold `sample` if there is room for its index."""
        if index < self._slots:
            self._data[index] = sample
            self._filled[index] = 1


class SegmentationTraining(Dataset):
    """(epoch, index) -> (image uint8 [3, h, w], mask uint8 [h, w], id), augmented, at working size or crop size."""

    def __init__(
        self,
        manifest: Manifest,
        ids: list[str],
        size: tuple[int, int],
        changes: SegmentationAugment,
        seed: int,
        room: Room,
    ):
        self._manifest, self._ids, self._size, self._changes, self._seed = manifest, ids, size, changes, seed
        self._cache = Cache(len(ids), (*size, 4), room)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        epoch, index = key
        sample = self._cache.get(index)
        if sample is None:
            image = read_image(self._manifest, self._ids[index], self._size)
            mask = read_mask(self._manifest, self._ids[index], self._size)
            sample = np.dstack([image, mask])
            self._cache.put(index, sample)
        planes = torch.from_numpy(sample).permute(2, 0, 1)
        with single_thread():
            seed = derive(self._seed, "augment", epoch, index)
            changed, labels = augment(planes[:3], planes[3], self._changes, seed)
        return changed.contiguous(), labels.contiguous(), self._ids[index]


class SegmentationEvaluation(Dataset):
    """index -> (image uint8 [3, h, w] at working size, mask uint8 [H, W] at native size, id)."""

    def __init__(self, manifest: Manifest, ids: list[str], size: tuple[int, int], room: Room):
        self._manifest, self._ids, self._size = manifest, ids, size
        self._cache = Cache(len(ids), (*size, 3), room)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        image_id = self._ids[index]
        image = self._cache.get(index)
        if image is None:
            image = read_image(self._manifest, image_id, self._size).copy()
            self._cache.put(index, image)
        mask = read_mask(self._manifest, image_id)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask.copy()), image_id


def collate_training(samples: list[tuple[Tensor, Tensor, str]]) -> tuple[Tensor, Tensor, list[str]]:
    """-> (images uint8 [B, 3, h, w], masks uint8 [B, h, w], ids)."""
    images, masks, ids = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(masks), list(ids)


def collate_evaluation(samples: list[tuple[Tensor, Tensor, str]]) -> tuple[Tensor, list[Tensor], list[str]]:
    """-> (images uint8 [B, 3, h, w], masks as a list because native sizes differ, ids)."""
    images, masks, ids = zip(*samples, strict=True)
    return torch.stack(images), list(masks), list(ids)


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index): a permutation from (seed, epoch), every sample exactly once an epoch.

    The last batch is not a small rest: sizes differ by at most one, so that BatchNorm never sees a single sample when
    there are more. `batch_size` counts all processes together; each takes its share of every batch, so the number of
    devices does not change what is trained on.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        if count < 1:
            raise UserError("data: the training list is empty; check data.source and rebalance")
        self._count, self._seed, self._rank, self._world = count, seed, rank, world
        self._batches = -(-count // batch_size)
        if count // self._batches < world:
            raise UserError(f"batch_size = {batch_size} with {count} samples is too small for {world} processes")
        self._epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 1). Not called set_epoch: Fabric calls that with a count of its own."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.Generator(np.random.PCG64(derive(self._seed, "order", self._epoch)))
        order = random.permutation(self._count)
        for batch in np.array_split(order, self._batches):
            yield [(self._epoch, int(index)) for index in batch[self._rank :: self._world]]


def training_loader(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    workers: int,
    collate: Any,
    rank: int = 0,
    world: int = 1,
    device: str = "cpu",
) -> DataLoader:
    """A loader over `EpochBatches`; `dataset[(epoch, index)]` makes a sample. device: the kind that it feeds."""
    batches = EpochBatches(len(dataset), batch_size, seed, rank, world)  # type: ignore[arg-type]
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, **_workers(workers, device))


def evaluation_loader(
    dataset: Dataset,
    batch_size: int,
    workers: int,
    collate: Any,
    rank: int = 0,
    world: int = 1,
    device: str = "cpu",
) -> DataLoader:
    """A loader in list order; of several processes each gets every `world`-th sample, none twice."""
    share = range(rank, len(dataset), world)  # type: ignore[arg-type]
    return DataLoader(dataset, batch_size, sampler=share, collate_fn=collate, **_workers(workers, device))


def _workers(count: int, device: str) -> dict[str, Any]:
    # pinning memory opens a CUDA context, which nobody wants who computes on the CPU
    options: dict[str, Any] = {"num_workers": count, "pin_memory": device == "cuda"}
    # a generator of its own: how often the global one is asked for the workers' seeds depends on their number
    options["generator"] = torch.Generator()
    if count:
        options |= {"persistent_workers": True, "multiprocessing_context": "fork"}  # fork shares the cache
    return options


class single_thread:
    """One CPU thread inside the block: a worker has one, and the main process must compute the same bits."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
