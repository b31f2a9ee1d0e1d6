"""What a user would run instead: loops in the style of torchvision's reference scripts, and Ultralytics' own command.

The loops do what those scripts do - PIL decoding and v2 transforms in a DataLoader with workers, contiguous tensors,
the loss read every step - with the same model as the libraries have it, and the same loss terms, optimizer settings,
batch and precision as our side.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from benchmarks.project import run
from retrace.config.phases import FabricPhase
from retrace.config.schema import Params
from retrace.config.yolo import UltralyticsPhase
from retrace.data.manifest import IGNORE, Manifest, read_manifest
from retrace.data.splits import read_list
from retrace.data.transforms import MEAN, STD
from retrace.models.build import build
from retrace.models.layers.depthwise import DepthwiseConv2d
from retrace.models.layers.grn import ResponseNorm
from retrace.models.layers.roi_align import RoIAlign
from retrace.models.layers.swap import swap
from retrace.resources import loader_workers

WORKERS = 2
# as any script on Linux; a benchmark process, itself spawned, would spawn them
FORK: dict[str, Any] = {"multiprocessing_context": "fork"}


class SegmentationFolder(Dataset):
    """Image and mask from disk, resized and normalized every time."""

    def __init__(self, manifest: Manifest, ids: list[str], size: tuple[int, int]):
        self._files = [(manifest.image(image_id), manifest.mask(image_id)) for image_id in ids]
        self._change = v2.Compose(
            [
                v2.ToImage(),
                v2.Resize(size, antialias=True),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self._files[index]
        return self._change(
            Image.open(image).convert("RGB"), tv_tensors.Mask(v2.functional.pil_to_tensor(Image.open(mask))[0])
        )


class DetectionFolder(Dataset):
    """Image from disk and its boxes; resizing and normalizing is the network's own business."""

    def __init__(self, manifest: Manifest, ids: list[str]):
        self._records = [manifest.records[image_id] for image_id in ids]
        self._files = [manifest.image(image_id) for image_id in ids]
        self._change = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        boxes = torch.tensor([box.xywh for box in self._records[index].boxes], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([box.label + 1 for box in self._records[index].boxes], dtype=torch.int64)
        return self._change(Image.open(self._files[index]).convert("RGB")), {"boxes": boxes, "labels": labels}


def _train(params: Params) -> tuple[Manifest, list[str]]:
    return read_manifest(Path("data", params.study, "raw")), read_list(Path("data", params.study, "splits"), "train")


def _optimizer(phase: FabricPhase, model: torch.nn.Module) -> torch.optim.Optimizer:
    given = phase.optimizer
    if given.name == "sgd":
        return torch.optim.SGD(model.parameters(), given.lr, given.momentum, weight_decay=given.weight_decay)
    return torch.optim.AdamW(model.parameters(), given.lr, weight_decay=given.weight_decay)


def as_the_libraries_have_it(network: torch.nn.Module) -> torch.nn.Module:
    """`network` with the libraries' own layers and without our hooks: a user would not have these."""
    for part in network.modules():
        if isinstance(part, UnetDecoder):
            for block in part.blocks:
                block._forward_pre_hooks.clear()
    return swap(network, _theirs)


def _theirs(layer: torch.nn.Module) -> torch.nn.Module | None:
    if isinstance(layer, ResponseNorm):
        theirs = GlobalResponseNorm(len(layer.weight), layer.eps, channels_last=layer.channel_dim == -1)
        theirs.load_state_dict(layer.state_dict())
        return theirs
    for ours, plain in ((DepthwiseConv2d, torch.nn.Conv2d), (RoIAlign, MultiScaleRoIAlign)):
        if isinstance(layer, ours):
            layer.__class__ = plain  # they add methods only
    return None


def references_segmentation(params: Params, phase: FabricPhase) -> Callable[[], None]:
    """One epoch of a loop like torchvision's references/segmentation/train.py."""
    dataset = SegmentationFolder(*_train(params), phase.input_size)
    loader = DataLoader(dataset, phase.batch_size, shuffle=True, num_workers=WORKERS, persistent_workers=True, **FORK)
    model = as_the_libraries_have_it(build(phase.model, params.classes))
    optimizer = _optimizer(phase, model)

    def epoch() -> None:
        model.train()
        for images, masks in loader:
            loss = F.cross_entropy(model(images), masks, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def references_detection(params: Params, phase: FabricPhase) -> Callable[[], None]:
    """One epoch of a loop like torchvision's references/detection/engine.py."""
    loader: Any = DataLoader(
        DetectionFolder(*_train(params)),
        phase.batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        **FORK,
        collate_fn=lambda samples: tuple(zip(*samples, strict=True)),
    )
    model: Any = as_the_libraries_have_it(build(phase.model, params.classes))
    optimizer = _optimizer(phase, model)

    def epoch() -> None:
        model.train()
        for images, targets in loader:
            loss = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def yolo_command(folder: Path, params: Params, name: str) -> Callable[[], None]:
    """`yolo train` with the phase's hyper-parameters on the same images, exported to the layout it reads."""
    phase = params.phases[name]
    assert isinstance(phase, UltralyticsPhase)
    manifest = read_manifest(folder / "data" / params.study / "raw")
    target = folder / "peer"
    for split in ("train", "val"):
        (target / "images" / split).mkdir(parents=True)
        (target / "labels" / split).mkdir(parents=True)
        for image_id in read_list(folder / "data" / params.study / "splits", split):
            record, image = manifest.records[image_id], manifest.image(image_id)
            shutil.copyfile(image, target / "images" / split / image.name)
            rows = []
            for box in record.boxes:
                x, y, w, h = box.xywh
                middle = ((x + w / 2) / record.width, (y + h / 2) / record.height)
                rows.append(f"{box.label} {middle[0]} {middle[1]} {w / record.width} {h / record.height}\n")
            (target / "labels" / split / f"{image.stem}.txt").write_text("".join(rows), encoding="utf-8")
    names = dict(enumerate(params.classes))
    data = {"path": str(target), "train": "images/train", "val": "images/val", "names": names}
    (target / "data.yaml").write_text(json.dumps(data), encoding="utf-8")  # JSON is YAML
    settings = phase.hyperparameters.model_dump()
    options = [f"{key}={value}" for key, value in sorted(settings.items())]
    fixed = [f"model={phase.model}.yaml", f"data={target / 'data.yaml'}", f"project={target / 'runs'}", "plots=False"]
    workers = loader_workers(params.machine, "cpu")
    machine = ["device=cpu", f"workers={workers}", "pretrained=False", "exist_ok=True"]
    threads = str(params.runtime.threads)
    quiet = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(target), "OMP_NUM_THREADS": threads}

    def command() -> None:
        run(folder, "yolo", "detect", "train", *fixed, *options, *machine, **quiet)

    return command
