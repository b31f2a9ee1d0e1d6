"""Segmentation as a `Job`: batches of images and masks, the losses, and validation at the masks' own resolution."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from retrace.config.machine import InferencePrecision
from retrace.config.monitored import MONITORED
from retrace.config.phases import SegmentationPhase
from retrace.config.training import TrainingParams
from retrace.data.loading import (
    Room,
    SegmentationEvaluation,
    SegmentationTraining,
    collate_evaluation,
    collate_training,
    evaluation_loader,
    training_loader,
)
from retrace.data.manifest import IGNORE, Manifest
from retrace.data.transforms import MEAN, STD, normalize
from retrace.errors import UserError
from retrace.evaluation.scores.segmentation import as_numbers, confusion_matrix_torch, scores
from retrace.models.inference import computing_in, inference_precision
from retrace.models.layers.bilinear import resize
from retrace.resources import cache_bytes, loader_workers
from retrace.training.job import Job
from retrace.training.loop import Task
from retrace.training.losses import SegmentationLoss, build_loss, scored_weight
from retrace.training.processes import in_list_order, sum_of_all


def segmentation(
    params: TrainingParams, phase: SegmentationPhase, manifest: Manifest, lists: dict[str, list[str]], fabric: Fabric
) -> Job:
    """The job of one phase. lists: ids of "train" and "val". Raises `UserError` for images without a mask."""
    for name in ("train", "val"):
        bare = [image_id for image_id in lists[name] if manifest.records[image_id].mask is None]
        if bare:
            raise UserError(f"data/{params.study}/splits/{name}.txt: {bare[0]} has no mask; run `dvc repro rebalance`")
    place = (fabric.global_rank, fabric.world_size, fabric.device.type)
    workers, room = loader_workers(params.machine, fabric.device.type), Room(cache_bytes(params.machine))
    changes = SegmentationTraining(manifest, lists["train"], phase.input_size, phase.augment, params.seed, room)
    loader = training_loader(changes, phase.batch_size, params.seed, workers, collate_training, *place)
    held_out = SegmentationEvaluation(manifest, lists["val"], phase.input_size, room)
    validation = evaluation_loader(held_out, phase.batch_size, workers, collate_evaluation, *place)
    pixels = [
        sum(manifest.records[image_id].counts.get(name, 0) for image_id in lists["train"]) for name in params.classes
    ]
    focus = tuple(params.class_index(name) for name in params.report.focus_classes)
    precision = inference_precision(params.machine, fabric.device.type)
    validate = Validation(fabric, validation, params.classes, focus, precision)
    weigh = scored_weight(phase.loss, pixels)
    loss = Loss(build_loss(phase.loss, pixels))
    task = Task(loss, _files, validate, phase.monitor, lambda batch: weigh(batch[1]))
    return Job(loader, task, MEAN, STD)


class Loss:
    """compute_loss of the loop: (model, (images uint8 [B, 3, H, W], masks uint8 [B, H, W], ids)) -> named losses."""

    def __init__(self, loss: SegmentationLoss):
        self._loss = loss

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor, list[str]]) -> dict[str, Tensor]:
        images, masks, _ = batch
        return self._loss(model(network_input(images)), masks)


class Validation:
    """validate of the loop: the scores of `metrics.segmentation`, one IoU per class and the plain cross-entropy.

    Logits are upsampled to each mask's own size before they are compared, exactly as `evaluate` does.
    """

    def __init__(
        self,
        fabric: Fabric,
        loader: DataLoader,
        classes: tuple[str, ...],
        focus: tuple[int, ...],
        precision: InferencePrecision | None = None,
    ):
        self._fabric, self._classes, self._focus, self._precision = fabric, classes, focus, precision
        self._loader: Any = fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def __call__(self, model: nn.Module) -> dict[str, float | None]:
        count = len(self._classes)
        confusion: Any = torch.zeros(count, count, dtype=torch.int64, device=self._fabric.device)
        entropies: list[Tensor] = []
        for images, masks, _ in self._loader:
            with computing_in(self._precision, self._fabric.device.type):
                predicted = model(network_input(images)).float()
            for logits, mask in zip(predicted, masks, strict=True):
                native = logits[None]  # [1, C, h, w]
                if native.shape[-2:] != mask.shape:
                    native = resize(native, (mask.shape[0], mask.shape[1]))
                confusion += confusion_matrix_torch(mask, native[0].argmax(0), count)
                pixels = F.cross_entropy(native, mask[None].long(), ignore_index=IGNORE, reduction="none")
                entropies.append(pixels.sum())
        if self._fabric.world_size > 1:
            confusion = sum_of_all(self._fabric, confusion)
            entropies = in_list_order(self._fabric, [entropy.cpu() for entropy in entropies])
        entropy = torch.stack(entropies).sum() if entropies else torch.zeros(())
        return self._named(confusion, float(entropy))

    def _named(self, confusion: Tensor, entropy: float) -> dict[str, float | None]:
        values = as_numbers(scores(confusion.cpu().numpy(), self._focus))
        loss = entropy / max(1, int(confusion.sum()))
        named = {"val_loss": loss, **{name: values[name] for name in MONITORED["segmentation"][0]}}
        return named | {f"IoU/{name}": iou for name, iou in zip(self._classes, values["IoU"], strict=True)}


def network_input(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> normalized float32, channels last in memory, which convolutions prefer."""
    return normalize(images, MEAN, STD).contiguous(memory_format=torch.channels_last)


def _files(batch: tuple[Tensor, Tensor, list[str]]) -> list[str]:
    return batch[2]
