"""One predictor for every engine, on the shipped files: images in, masks or boxes at the images' own resolution out.

predictor = load_predictor(Path("models/lanes/baseline"), device)
masks = predictor.predict([image])      # segmentation: uint8 [H, W] each
detections = predictor.predict([image]) # detection: `Detections` each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import nn

from retrace import nvidia
from retrace.config.machine import InferencePrecision
from retrace.config.training import TrainingParams
from retrace.data.transforms import normalize
from retrace.errors import UserError
from retrace.files import read_json
from retrace.models.inference import computing_in
from retrace.models.layers.bilinear import resize
from retrace.models.weights import load_model
from retrace.programs import how_to_get

SCORE_FLOOR = 0.001  # every engine keeps detections down to this confidence, as COCO scoring of the whole curve needs
WEIGHTS = {"fabric": "weights.safetensors", "ultralytics": "best.pt"}  # the shipped file of each engine


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, by falling confidence."""

    boxes: np.ndarray  # float64 [K, 4]: (x1, y1, x2, y2), pixels of the original image
    scores: np.ndarray  # float64 [K], 0 ... 1
    labels: np.ndarray  # int64 [K], class indices


class Predictor(Protocol):
    """What `load_predictor` returns. `config` is model.json; `parameters` counts the network's numbers."""

    config: dict[str, Any]
    parameters: int

    def predict(self, images: Sequence[np.ndarray]) -> list[Any]:
        """RGB uint8 images [H, W, 3] of any sizes -> one mask uint8 [H, W] or one `Detections` each."""
        ...


def choose_device(name: str, devices: int = 1) -> torch.device:
    """`machine.device` as a torch device; `auto` takes cuda, then mps, then cpu.

    devices: how many of the kind will be used. Raises `UserError` for a kind that is absent, and, unless `cpu` is asked
    for, where there is an NVIDIA device that torch cannot use: hours on the CPU would be a surprise.
    """
    found = nvidia.hindrance(devices) if name in ("auto", "cuda") else None
    if found and not (name == "auto" and found.deliberate):
        ways = ", or ".join([*found.remedies, "set machine.device: cpu in params.yaml to compute on the CPU"])
        raise UserError(
            f"machine.device = {name!r}: torch cannot use this machine's NVIDIA device: {found.cause}; {ways}"
        )
    if name == "cpu":
        return torch.device(name)  # without a look at CUDA, which starts its driver
    present = {"cuda": nvidia.sees_cuda(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present.get(name, False):
        allowed = ", ".join(kind for kind, there in present.items() if there)
        raise UserError(f"machine.device = {name!r}: this machine has none; allowed here: auto, {allowed}")
    return torch.device(name)


class Device(NamedTuple):
    """A device as logs name it, and what else its results depend on; all but `device` is None without CUDA."""

    device: str  # its kind
    device_name: str | None = None
    capability: str | None = None  # e.g. "7.5"
    driver: str | None = None  # version
    cuda: str | None = None  # version
    cudnn: str | None = None  # version
    tf32: str | None = None  # what may compute float32 in TF32, which cards before 8.0 lack


def describe_device(device: torch.device) -> Device:
    """The device, its name, and the versions and settings that decide its arithmetic."""
    if device.type != "cuda":
        return Device(device.type)
    major, minor = torch.cuda.get_device_capability(device)
    return Device(
        device.type,
        torch.cuda.get_device_name(device),
        f"{major}.{minor}",
        nvidia.driver().version or None,
        torch.version.cuda,
        str(torch.backends.cudnn.version()),
        _tf32() if major >= 8 else "none",
    )


def _tf32() -> str:
    allowed = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    return ", ".join(name for name, on in allowed.items() if on) or "none"


def load_predictor(folder: Path, device: torch.device, precision: InferencePrecision | None = None) -> Predictor:
    """The shipped model of models/<study>/<phase>, read back from disk; `UserError` for missing or damaged files.

    precision: see `retrace.models.inference`; None: 32-true.
    """
    config = read_json(folder / "model.json")
    path = folder / WEIGHTS[config["engine"]]
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}")
    if config["engine"] == "ultralytics":
        return YoloPredictor(path, device, config, precision)
    network, _ = load_model(folder)
    network = network.eval().requires_grad_(False).to(device)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)  # as it was trained
    kind = SegmentationPredictor if config["task"] == "segmentation" else TorchvisionPredictor
    return kind(network, device, config, precision)


def require_same_classes(predictor: Predictor, params: TrainingParams, folder: Path) -> None:
    """Refuse weights whose class numbers mean something else than params.yaml's: names and colors would be wrong."""
    config = predictor.config
    for key, here in (("task", params.task), ("classes", list(params.classes))):
        if config[key] != here:
            raise UserError(
                f"{folder}: was trained for other {key}: {_said(config[key])}; params.yaml has {_said(here)}: "
                "put that back, or run `dvc repro`"
            )


def _said(value: str | list[str]) -> str:
    text = value if isinstance(value, str) else f"{', '.join(value)} ({len(value)})"
    return text if len(text) <= 200 else f"{text[:190]}... ({len(value)})"


class SegmentationPredictor:
    """Any network with normalized [N, 3, h, w] -> logits [N, C, h, w]."""

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        config: dict[str, Any],
        precision: InferencePrecision | None = None,
    ):
        self.network, self.device, self.config, self.precision = network, device, config, precision
        self.parameters = count_parameters(network)

    @torch.inference_mode()
    def logits(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Float32 [N, C, h, w] at the working size (`input_size`)."""
        height, width = self.config["input_size"]
        sized = [_resized(image, height, width) for image in images]
        batch = torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).to(self.device)  # [N, 3, h, w]
        mean, std = tuple(self.config["mean"]), tuple(self.config["std"])
        with computing_in(self.precision, self.device.type):
            return self.network(normalize(batch, mean, std)).float()

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """RGB uint8 [H, W, 3] each -> class index uint8 [H, W] each: logits are upsampled, then compared."""
        return [to_mask(logits, image.shape[:2]) for logits, image in zip(self.logits(images), images, strict=True)]


class TorchvisionPredictor:
    """A torchvision detector: it resizes and normalizes by itself and numbers its classes from 1 (0 = background)."""

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        config: dict[str, Any],
        precision: InferencePrecision | None = None,
    ):
        network.roi_heads.score_thresh = SCORE_FLOOR  # type: ignore[union-attr]
        self.network, self.device, self.config, self.precision = network, device, config, precision
        self.parameters = count_parameters(network)

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """RGB uint8 [H, W, 3] each -> boxes in pixels of that image."""
        found: list[Detections] = []
        for same in _by_shape(images):
            batch = [torch.tensor(image).permute(2, 0, 1).to(self.device).float() / 255 for image in same]
            with computing_in(self.precision, self.device.type):
                results = self.network(batch)
            found += [_detections(one["boxes"], one["scores"], one["labels"] - 1) for one in results]
        return found


class YoloPredictor:
    """`best.pt` through Ultralytics, with every option that changes a result given and nothing written or fetched."""

    def __init__(
        self, path: Path, device: torch.device, config: dict[str, Any], precision: InferencePrecision | None = None
    ):
        from retrace.compat.ultralytics import ultralytics

        self.device, self.config = device, config
        self._yolo = ultralytics().YOLO(str(path), task="detect", verbose=False)
        self.parameters = count_parameters(self._yolo.model)
        self._options = {
            "imgsz": list(config["input_size"]),
            "conf": SCORE_FLOOR,
            "iou": config["iou"],
            "max_det": config["max_det"],
            "device": str(device),
            "quantize": 16 if precision == "16-mixed" else None,
            "channels_last": device.type == "cuda" or None,  # None: Ultralytics' own default
            "rect": True,
            "augment": False,
            "agnostic_nms": False,
            "classes": None,
            "compile": False,
            "save": False,
            "save_txt": False,
            "show": False,
            "visualize": False,
            "verbose": False,
        }

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """RGB uint8 [H, W, 3] each -> boxes in pixels of that image."""
        found: list[Detections] = []
        for same in _by_shape(images):
            bgr = [np.ascontiguousarray(image[..., ::-1]) for image in same]
            for result in self._yolo.predict(bgr, **self._options):
                found.append(_detections(result.boxes.xyxy, result.boxes.conf, result.boxes.cls))
        return found


def to_mask(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits float [C, h, w] -> class index uint8 [H, W] at `size`, by bilinear upsampling, then argmax."""
    native = logits[None]
    if tuple(logits.shape[-2:]) != tuple(size):
        native = resize(native, (size[0], size[1]))
    return native[0].argmax(0).to(torch.uint8).cpu().numpy()


def count_parameters(network: nn.Module) -> int:
    """Numbers the network has learned (buffers such as BatchNorm statistics are not counted)."""
    return sum(parameter.numel() for parameter in network.parameters())


def _by_shape(images: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Runs of images of one shape: both detection libraries pad a mixed batch, and padding changes what is found."""
    for _, same in groupby(images, key=lambda image: image.shape):
        yield list(same)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # as `dataset.loading.read_image` does for training
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _detections(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> Detections:
    values = [part.detach().cpu().double().numpy() for part in (boxes, scores)]
    order = np.argsort(-values[1], kind="stable")
    return Detections(values[0].reshape(-1, 4)[order], values[1][order], labels.cpu().numpy().astype(np.int64)[order])
