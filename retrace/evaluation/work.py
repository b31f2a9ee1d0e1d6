"""What scoring a split needs, whatever the task: the images in order, a way to predict, and a folder to write to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from retrace.allocator import advice_when_out_of_memory
from retrace.config.schema import Params
from retrace.data.loading import evaluation_loader, read_image, read_mask
from retrace.data.manifest import Manifest
from retrace.data.units import unit_kind, unit_names
from retrace.documents.error_pictures import ErrorPicture
from retrace.documents.samples import Sample
from retrace.documents.scores import Split
from retrace.files import write_text
from retrace.progress import track
from retrace.resources import loader_workers
from retrace.seeds import derive
from retrace.statistics.bootstrap import Units

Item = tuple[np.ndarray, np.ndarray | None, str]  # RGB uint8 [H, W, 3], mask uint8 [H, W] or None, id
# the scores of a split, rows of samples.json, rows of errors.json
Scored = tuple[Split, list[Sample], list[ErrorPicture]]


class Images(Dataset):
    """index -> `Item`, at the image's own resolution."""

    def __init__(self, manifest: Manifest, ids: list[str]):
        self._manifest, self._ids = manifest, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Item:
        image_id = self._ids[index]
        masked = self._manifest.records[image_id].mask is not None
        mask = read_mask(self._manifest, image_id) if masked else None
        return read_image(self._manifest, image_id), mask, image_id


@dataclass(frozen=True)
class Work:
    """`predict` takes RGB images and returns a mask (or detections) each; `folder` is metrics/<study>/<phase>."""

    params: Params
    phase: str
    manifest: Manifest
    predict: Callable[[Sequence[np.ndarray]], list[Any]]
    folder: Path
    train: Sequence[str]  # ids of the training images, from which the floor is learned
    device: str = "cpu"  # kind of the device that predicts

    def predictions(self, ids: list[str], description: str) -> Iterator[tuple[Item, Any]]:
        """Every image with its prediction, in the order of `ids`, predicted `evaluate.batch_size` at a time."""
        size, workers = self.params.evaluate.batch_size, loader_workers(self.params.machine, self.device)
        loader = evaluation_loader(Images(self.manifest, ids), size, workers, collate=list)
        for batch in track(loader, description, total=len(loader)):
            remedy = f"set evaluate.batch_size to {max(1, size // 2)} (now {size})"
            with advice_when_out_of_memory(remedy):
                predictions = self.predict([image for image, _, _ in batch])
            yield from zip(batch, predictions, strict=True)

    def units(self, split: str, ids: list[str]) -> tuple[Units, str]:
        """The independent units of the images, and what they are called: see `data.units`.

        Also written to units_<split>.txt: a name for every image.
        """
        names = unit_names(
            self.manifest.records, ids, self.params.evaluate.unit, self.params.rebalance.duplicate_distance
        )
        write_text(self.folder / f"units_{split}.txt", "".join(f"{name}\n" for name in names))
        return Units.named(names), unit_kind(self.manifest.records, names, ids)

    def bootstrap_seed(self, split: str) -> int:
        """The same for every phase, so that phases are compared on the same resamples."""
        return derive(self.params.seed, "bootstrap", split)
