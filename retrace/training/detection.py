"""Detection by torchvision's Faster R-CNN as a `Job`: batches of images and boxes, the summed losses, COCO scores."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from retrace.compat.torchvision import skip_resize
from retrace.config.machine import InferencePrecision
from retrace.config.phases import DetectionPhase
from retrace.config.training import TrainingParams
from retrace.data.detection_loading import (
    DetectionTraining,
    DetectionValidation,
    Target,
    collate,
    fitted,
    shrunk,
    taken,
)
from retrace.data.loading import Room, evaluation_loader, training_loader
from retrace.data.manifest import Manifest
from retrace.data.transforms import MEAN, STD
from retrace.documents.manifest import Record
from retrace.errors import UserError
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import Found, Truth, rounded, truth_of
from retrace.models.inference import inference_precision
from retrace.models.predict import TorchvisionPredictor
from retrace.resources import cache_bytes, loader_workers
from retrace.training.job import Job
from retrace.training.loop import Task
from retrace.training.processes import of_all

Batch = tuple[list[Tensor], list[Target], list[str]]


def detection(
    params: TrainingParams, phase: DetectionPhase, manifest: Manifest, lists: dict[str, list[str]], fabric: Fabric
) -> Job:
    """The job of one phase. lists: ids of "train" and "val". Raises `UserError` where no image has an object."""
    if not any(not box.crowd for image_id in lists["train"] for box in manifest.records[image_id].boxes):
        raise UserError(f"data/{params.study}/splits/train.txt: no image has an object to learn from")
    if fabric.device.type != "cpu":
        # no list says that every operation of the detector has a deterministic kernel; PyTorch warns of others
        torch.use_deterministic_algorithms(True, warn_only=True)
    device, size = fabric.device.type, phase.input_size
    place = (fabric.global_rank, fabric.world_size, device)
    workers, room = loader_workers(params.machine, device), Room(cache_bytes(params.machine))
    shorter = phase.resize_range or (phase.model.min_size, phase.model.min_size)
    longest = longest_side(phase)
    records = [manifest.records[image_id] for image_id in lists["train"]]
    if fabric.is_global_zero and (said := shrinking(records, size, shorter[1], longest)):
        print(said, file=sys.stderr)
    samples = DetectionTraining(manifest, lists["train"], size, phase.augment, shorter, longest, params.seed, room)
    loader = training_loader(samples, phase.batch_size, params.seed, workers, collate, *place)
    held_out = DetectionValidation(manifest, lists["val"], size, room)
    validation = evaluation_loader(held_out, phase.batch_size, workers, collate, *place)
    truths = [truth_of(manifest.records[image_id]) for image_id in lists["val"]]
    precision = inference_precision(params.machine, device)
    validate = Validation(fabric, validation, truths, params.classes, precision)
    return Job(loader, Task(compute_loss, _files, validate, phase.monitor, _images), MEAN, STD)


def longest_side(phase: DetectionPhase) -> int:
    """The limit of the longer side in training, pixels.

    `model.max_size` belongs to `model.min_size`. A larger `resize_range` takes a limit larger in proportion: with the
    same limit all photographs wider than 5:3 would be trained at one size.
    """
    if phase.resize_range is None:
        return phase.model.max_size
    most = phase.resize_range[1]
    return max(most, round(phase.model.max_size * most / phase.model.min_size))


def shrinking(records: Sequence[Record], limit: tuple[int, int], shorter: int, longest: int) -> str:
    """A warning where `input_size` takes pixels from images that the network would use; empty where it does not."""
    lost = shrunk(records, limit, shorter, longest)
    if not lost:
        return ""
    worst = max(lost, key=lambda record: record.height * record.width)
    kept, used = fitted(worst, limit), taken(worst, shorter, longest)
    return (
        f"warning: input_size = {list(limit)} shrinks {len(lost):,} of {len(records):,} train images below what the "
        f"network takes: {worst.id} of {worst.width}x{worst.height} is kept at {kept[1]}x{kept[0]} and trained at up "
        f"to {used[1]}x{used[0]}; set input_size to {[shorter, longest]}"
    )


def compute_loss(model: Any, batch: Batch) -> dict[str, Tensor]:
    """compute_loss of the loop: the sum of torchvision's four losses, and each of them."""
    images, targets, _ = batch
    network = getattr(model, "module", model)
    skip_resize(network)  # the loader has resized the images; torchvision would undo it
    exact = dict(enumerate(targets)).values()  # not a list: inside one, Fabric would round the boxes to half precision
    losses = model([image.float() / 255 for image in images], exact)
    parts = {name.removeprefix("loss_"): value for name, value in losses.items()}
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


class Validation:
    """validate of the loop: AP50, AP and the other COCO scores of what the predictor of `evaluate` finds."""

    def __init__(
        self,
        fabric: Fabric,
        loader: DataLoader,
        truths: list[Truth],
        classes: tuple[str, ...],
        precision: InferencePrecision | None = None,
    ):
        self._fabric, self._loader, self._truths, self._classes = fabric, loader, truths, classes
        self._precision = precision

    def __call__(self, model: nn.Module) -> dict[str, float | None]:
        predictor = TorchvisionPredictor(model, self._fabric.device, {}, self._precision)
        found: dict[int, Found] = {}
        for images, indices in self._loader:
            with torch.autocast(self._fabric.device.type, enabled=False):  # not as the training
                predictions = predictor.predict([image.numpy() for image in images])
            found |= {index: rounded(one) for index, one in zip(indices, predictions, strict=True)}
        found = {index: one for part in of_all(self._fabric, found) for index, one in part.items()}
        scores = coco_scores(self._truths, [found[index] for index in range(len(self._truths))], self._classes)
        return {name: None if math.isnan(value) else value for name, value in scores.items()}


def _images(batch: Batch) -> Tensor:
    # the region proposal network's losses are means over so many anchors of every image
    return torch.full((), len(batch[0]), device=batch[0][0].device)  # filled there, not copied


def _files(batch: Batch) -> list[str]:
    return batch[2]
