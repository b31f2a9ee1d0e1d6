"""Images and boxes for training and validating torchvision's detectors, the same for any number of workers.

Boxes are (x1, y1, x2, y2) in pixels of the image they come with; labels count from 1, because 0 is the background.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from retrace.config.phases import Augment
from retrace.data.loading import Cache, Room, read_image, single_thread
from retrace.data.manifest import Manifest
from retrace.data.transforms import jitter
from retrace.documents.manifest import Record
from retrace.seeds import derive, drawn_from

Target = dict[str, Tensor]  # boxes float32 [N, 4], labels int64 [N]


def fitted(record: Record, limit: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image scaled down, never up, to lie within `limit`, its proportions kept.

    The smaller number of `limit` is of the image's shorter side: upright images lose no more than wide ones.
    """
    ratio = min(1.0, _ratio(record, limit))
    return max(1, round(record.height * ratio)), max(1, round(record.width * ratio))


def taken(record: Record, shorter: int, longest: int) -> tuple[int, int]:
    """(height, width) to which the network's own resizing brings an image, up or down; shorter <= longest."""
    ratio = _ratio(record, (shorter, longest))
    return max(1, round(record.height * ratio)), max(1, round(record.width * ratio))


def _ratio(record: Record, limit: tuple[int, int]) -> float:
    """The largest scale at which the image's shorter and longer side lie within those of `limit`."""
    short, long = sorted((record.height, record.width))
    return min(min(limit) / short, max(limit) / long)


def shrunk(records: Iterable[Record], limit: tuple[int, int], shorter: int, longest: int) -> list[Record]:
    """The images of which `limit` keeps fewer pixels than they have and the network takes."""
    return [record for record in records if _ratio(record, limit) < min(1.0, _ratio(record, (shorter, longest)))]


def target_of(record: Record, size: tuple[int, int]) -> Target:
    """The boxes of an image at `size` = (height, width). Crowd regions are left out: they are no single objects."""
    boxes = [box for box in record.boxes if not box.crowd]
    corners = np.array([box.xywh for box in boxes], dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners *= np.array([size[1] / record.width, size[0] / record.height] * 2)
    labels = torch.tensor([box.label + 1 for box in boxes], dtype=torch.int64)
    return {"boxes": torch.from_numpy(corners).float(), "labels": labels}


class Pictures:
    """Decoded images within `limit` (see `fitted`), held in a bounded cache that loader workers share."""

    def __init__(self, manifest: Manifest, ids: list[str], limit: tuple[int, int], room: Room):
        self._manifest, self._ids, self._limit = manifest, ids, limit
        sizes = [fitted(manifest.records[image_id], limit) for image_id in ids]
        self._most = max((height * width * 3 for height, width in sizes), default=1)  # bytes of an image
        self._cache = Cache(len(ids), (self._most,), room)

    def get(self, index: int) -> np.ndarray:
        """RGB uint8 [h, w, 3], see `fitted`."""
        height, width = fitted(self._manifest.records[self._ids[index]], self._limit)
        held = self._cache.get(index)
        if held is not None:
            return held[: height * width * 3].reshape(height, width, 3)
        image = read_image(self._manifest, self._ids[index], (height, width))
        padded = np.zeros(self._most, np.uint8)
        padded[: image.size] = image.reshape(-1)
        self._cache.put(index, padded)
        return image


class DetectionTraining(Dataset):
    """(epoch, index) -> (image uint8 [3, h, w], target, id), changed at random and resized for the network.

    size: images are cached within it, see `fitted`. shorter: the range of the shorter side, pixels; longest: limit
    of the longer side.
    """

    def __init__(
        self,
        manifest: Manifest,
        ids: list[str],
        size: tuple[int, int],
        changes: Augment,
        shorter: tuple[int, int],
        longest: int,
        seed: int,
        room: Room,
    ):
        self._manifest, self._ids, self._seed = manifest, ids, seed
        self._pictures = Pictures(manifest, ids, size, room)
        self._pipeline = v2.Compose(_steps(changes, shorter, longest))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Target, str]:
        epoch, index = key
        image_id = self._ids[index]
        image = torch.tensor(self._pictures.get(index)).permute(2, 0, 1)
        target = target_of(self._manifest.records[image_id], (image.shape[1], image.shape[2]))
        with single_thread(), drawn_from(derive(self._seed, "augment", epoch, index)):
            changed, target = self._pipeline(tv_tensors.Image(image), wrap(target, image))
        return changed.as_subclass(Tensor).contiguous(), unwrap(target), image_id


class DetectionValidation(Dataset):
    """index -> (image uint8 [H, W, 3] at native size, index)."""

    def __init__(self, manifest: Manifest, ids: list[str], size: tuple[int, int], room: Room):
        self._manifest, self._ids, self._size = manifest, ids, size
        self._pictures = Pictures(manifest, ids, size, room)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        record = self._manifest.records[self._ids[index]]
        native = fitted(record, self._size) == (record.height, record.width)
        image = self._pictures.get(index) if native else read_image(self._manifest, record.id)
        return torch.tensor(image), index


def wrap(target: Target, image: Tensor) -> dict[str, Any]:
    """The target with boxes that `torchvision.transforms.v2` moves along with `image` [3, H, W]."""
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(image.shape[-2], image.shape[-1]))
    return {**target, "boxes": boxes}


def unwrap(target: dict[str, Any]) -> Target:
    """Plain tensors again, without boxes that have shrunk to nothing in float32."""
    boxes = target["boxes"].as_subclass(Tensor)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {"boxes": boxes[keep], "labels": target["labels"][keep]}


def collate(samples: list[tuple]) -> tuple[list, ...]:
    """Lists, because sizes differ: (images, targets, ids) or (images, indices)."""
    return tuple(list(column) for column in zip(*samples, strict=True))


def _steps(changes: Augment, shorter: tuple[int, int], longest: int) -> list[v2.Transform]:
    steps: list[v2.Transform] = []
    if changes.flip:
        steps.append(v2.RandomHorizontalFlip(changes.flip))
    if changes.color:
        steps.append(jitter(changes.color))
    steps.append(v2.RandomShortestSize(list(range(shorter[0], shorter[1] + 1)), longest, antialias=True))
    return steps
