"""What every full-size training needs of a GPU, computed without one: `python -m benchmarks.gpu.computed`.

Writes studies/gpu.json: for every training and batch size the memory of a step and the images per
second of the network on a T4. `retrace doctor` and the tables of docs/gpu.md are made from it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from benchmarks.gpu.counting import MIB, Step, measure
from benchmarks.gpu.settings import NEEDS, STUDIES
from retrace.cli.use import render
from retrace.config.load import parse
from retrace.config.phases import DetectionPhase, SegmentationPhase
from retrace.config.pretrain import Mae
from retrace.config.schema import Params
from retrace.config.steps import Sgd
from retrace.config.yolo import UltralyticsPhase
from retrace.documents.gpu import SMALLEST, needed_gib
from retrace.files import read_json, write_json
from retrace.models.build import build
from retrace.models.detection import use_published
from retrace.models.mae import build_mae
from retrace.models.segmentation import freeze_encoder
from retrace.training import pretraining, segmentation
from retrace.training.loop import set_training
from retrace.training.losses import build_loss

STRIDE = 32  # torchvision pads a batch to multiples of it
PROPOSALS = 512  # per image, torchvision's default
OBJECTS = 8  # per image, for the assignment of anchors


class Half(nn.Module):
    """A network as Fabric runs it in mixed precision: half inside, float32 out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """The network's own inputs and output."""
        with torch.autocast("cpu", torch.bfloat16):
            output: Tensor = self.network(*inputs)
        return output.float()


def load_study(name: str) -> Params:
    """The full-size parameters of a study."""
    values = YAML(typ="safe", pure=True).load(render(name, demo=False))
    return parse(values, f"studies/{name}.yaml")


def of_mae(mae: Mae, batch: int, accumulate: int) -> Step:
    """A step of the pre-training."""
    network = build_mae(mae).train().to(memory_format=torch.channels_last)
    height, width = mae.input_size
    compute = pretraining.Loss(network.patch)

    def loss(model: nn.Module) -> Tensor:
        images = torch.empty(batch, 3, height, width, dtype=torch.uint8)
        masked = torch.zeros(batch, (height // network.patch) * (width // network.patch), dtype=torch.bool)
        return compute(Half(model), (images, masked, []))["loss"]

    return measure(network, loss, states(mae.optimizer), accumulate)


def of_segmentation(phase: SegmentationPhase, classes: tuple[str, ...], batch: int, accumulate: int) -> Step:
    """A step of a segmentation phase."""
    network = build(phase.model, classes).to(memory_format=torch.channels_last)
    if phase.freeze == "encoder":
        freeze_encoder(network)
    set_training(network)
    height, width = (phase.augment.crop, phase.augment.crop) if phase.augment.crop else phase.input_size
    compute = segmentation.Loss(build_loss(phase.loss, [1000] * len(classes)))

    def loss(model: nn.Module) -> Tensor:
        images = torch.empty(batch, 3, height, width, dtype=torch.uint8)
        masks = torch.empty(batch, height, width, dtype=torch.uint8)
        return compute(Half(model), (images, masks, []))["loss"]

    return measure(network, loss, states(phase.optimizer) + bool(phase.ema), accumulate)


def of_detection(phase: DetectionPhase, classes: tuple[str, ...], batch: int, accumulate: int) -> Step:
    """A step of Faster R-CNN at its largest images.

    What depends on the images' content cannot be traced: the proposals are as many as there may be, and the maps that
    RoIAlign and the assignment of anchors hold are added by their sizes.
    """
    network: Any = build(phase.model, classes)
    if phase.init == "pretrain":
        use_published(network, phase.model, whole_detector=True)
    network = network.train().to(memory_format=torch.channels_last)
    side = largest_side(phase)
    sampled = batch * (phase.model.box_batch_size_per_image or PROPOSALS)
    sizes: dict[str, int] = {}

    def loss(model: Any) -> Tensor:
        images = torch.empty(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            maps = model.backbone(images)
            scores, shifts = model.rpn.head(list(maps.values()))
            pooled = torch.empty(sampled, 256, 7, 7, dtype=torch.bfloat16, requires_grad=True)
            kinds, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
        sizes["maps"] = sum(part.numel() for part in maps.values())
        sizes["anchors"] = sum(part.numel() for part in scores)
        sizes["pooled"] = pooled.numel()
        parts = [part.float().sum() for part in (*scores, *shifts, kinds, boxes)]
        return torch.stack(parts).sum()

    step = measure(network, loss, states(phase.optimizer) + bool(phase.ema), accumulate)
    roi_align = 4 * sizes["maps"] + 8 * sizes["pooled"]  # float32 maps; pooled and its gradient
    anchors = sizes["anchors"] * 4 * (3 * 4 + OBJECTS)  # shifts, anchors and boxes; overlaps with the objects
    return Step(step.static_mib, step.peak_mib + round((roi_align + anchors) / MIB), step.seconds)


def of_yolo(phase: UltralyticsPhase, classes: tuple[str, ...], batch: int, accumulate: int) -> Step:
    """A step of YOLO. Its loss is small beside the network and is left out; the average keeps a copy of each weight."""
    from torch.utils._pytree import tree_leaves

    from retrace.models.yolo_network import build_yolo

    side = phase.hyperparameters.imgsz
    network = build_yolo(phase.model, classes).train()

    def loss(model: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(torch.empty(batch, 3, side, side))
        parts = [part.float().sum() for part in tree_leaves(outputs) if isinstance(part, Tensor)]
        return torch.stack(parts).sum()

    return measure(network, loss, (2 if "Adam" in phase.hyperparameters.optimizer else 1) + 1)


def states(optimizer: Any) -> int:
    """Numbers that an optimizer keeps for each trained one."""
    return 1 if isinstance(optimizer, Sgd) else 2


@dataclass(frozen=True)
class Plan:
    """A training: its step for (batch size, accumulate), both as published, and the input size, height and width."""

    step: Callable[[int, int], Step]
    batch: int
    accumulate: int
    size: list[int]
    accumulates: bool = True  # whether a smaller batch can be made up for by accumulating


def trainings(params: Params) -> dict[str, Plan]:
    """The pre-training and the phases of a study."""
    found: dict[str, Plan] = {}
    mae = params.pretrain.mae
    if params.pretrain.method == "mae" and mae is not None:
        step = partial(of_mae, mae)
        found["pretrain"] = Plan(step, mae.batch_size, 1, list(mae.input_size), accumulates=False)
    for name, phase in params.phases.items():
        found[name] = _of_phase(phase, params.classes)
    return found


def _of_phase(phase: Any, classes: tuple[str, ...]) -> Plan:
    if isinstance(phase, UltralyticsPhase):  # it accumulates by itself, up to `nbs` images
        side = phase.hyperparameters.imgsz
        step = partial(of_yolo, phase, classes)
        return Plan(step, phase.hyperparameters.batch, 1, [side, side], accumulates=False)
    if isinstance(phase, DetectionPhase):
        side = largest_side(phase)
        return Plan(partial(of_detection, phase, classes), phase.batch_size, phase.accumulate, [side, side])
    size = [phase.augment.crop] * 2 if phase.augment.crop else list(phase.input_size)
    return Plan(partial(of_segmentation, phase, classes), phase.batch_size, phase.accumulate, size)


def largest_side(phase: DetectionPhase) -> int:
    """Pixels of the largest images, padded."""
    return -(-max(phase.resize_range or (phase.model.min_size,)) // STRIDE) * STRIDE


def rows_of(study: str, small: float = SMALLEST) -> list[dict[str, Any]]:
    """Every training with the images of an optimizer step in one batch, in two, and so on until a card of `small` GiB
    has room for it."""
    params, rows = load_study(study), []
    for name, plan in trainings(params).items():
        whole = plan.batch * plan.accumulate
        batch = whole
        while batch:
            accumulate = whole // batch if plan.accumulates else 1
            step = plan.step(batch, accumulate)
            row = {
                "study": study,
                "training": name,
                "input_size": plan.size,
                "batch_size": batch,
                "accumulate": accumulate,
                "as_in_study": (batch, accumulate) == (plan.batch, plan.accumulate),
                "tensors_mib": step.total_mib,
                "needed_gib": round(needed_gib(step.total_mib), 2),
                "images_per_second": round(batch * accumulate / step.seconds, 1),
                "images": params.report.published_images.get("train"),
            }
            rows.append(row)
            print(row, flush=True)
            batch = batch // 2 if row["needed_gib"] > small else 0
    return rows


def main() -> None:
    """Compute every study, or those that are named."""
    names = sys.argv[1:] or list(STUDIES)
    kept = [row for row in read_json(NEEDS)["rows"] if row["study"] not in names] if NEEDS.exists() else []
    for study in names:
        kept = sorted([*kept, *rows_of(study)], key=lambda row: STUDIES.index(row["study"]))
        write_json(NEEDS, {"rate_of": "Tesla T4", "torch": torch.__version__.split("+")[0], "rows": kept})


if __name__ == "__main__":
    main()
