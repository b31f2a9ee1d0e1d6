"""Weights out to safetensors and back, and the transfer of starting weights with every tensor accounted for."""

import pickle
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor, nn

from retrace.config.network import MODELS, FasterRcnn, Model
from retrace.documents.start import START, Start
from retrace.errors import UserError
from retrace.files import read_json, sha256_of, write_bytes, write_json
from retrace.models import detection
from retrace.models.build import build
from retrace.models.segmentation import core, encoder_of

# `model` of model.json has every architecture's keys, in this order, also those that it does not use
NETWORK: dict[str, Any] = {
    "architecture": None,
    "encoder": None,
    "decoder_channels": None,
    "width": 64,
    "batchnorm_momentum": None,
    "trainable_layers": 3,
    "min_size": 800,
    "max_size": 1333,
    "max_detections": 100,
    "anchor_sizes": None,
    "box_batch_size_per_image": 512,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": None,
}
WEIGHTS, CONFIG = "weights.safetensors", "model.json"
COUNTER = "num_batches_tracked"  # frozen BatchNorm has none, and nothing depends on it
# the layers whose shape follows the number of classes, by the library's own names
CLASS_HEADS = (
    "classifier.4.",  # torchvision DeepLabV3
    "roi_heads.box_predictor.",  # torchvision Faster R-CNN
    "segmentation_head.",  # segmentation-models-pytorch
    "head.",  # the classic U-Net
)
# what a published classifier or network has beyond the encoder or our network
BEYOND_NETWORK = ("aux_classifier.",)
BEYOND_ENCODER = ("head.", "head_dist.", "fc.", "_fc.", "classifier.", "fc_norm.", "conv_head.", "bn2.", "norm_head.")
PREFIXES = ("", "features.", "backbone.", "encoder.", "encoder.model.", "model.")  # of an encoder inside a file


def save_model(
    folder: Path,
    module: nn.Module,
    model: Model,
    task: str,
    classes: Sequence[str],
    input_size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Write weights.safetensors (the library's own tensor names) and model.json, which rebuilds the network.

    input_size: (height, width) in pixels; mean, std: of RGB in 0...1, as the images were normalised in training.
    """
    write_tensors(folder / WEIGHTS, core(module).state_dict())
    config = {
        "engine": "fabric",
        "task": task,
        "classes": list(classes),
        "model": {**NETWORK, **model.model_dump(mode="json", exclude_none=True)},
        "input_size": list(input_size),
        "mean": list(mean),
        "std": list(std),
        "frozen_batchnorm": detection.frozen_eps(module),  # its eps; null where no BatchNorm is frozen
    }
    write_json(folder / CONFIG, config)


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network saved in `folder`, on the CPU and in eval, and its model.json. Draws no random numbers."""
    config = read_json(folder / CONFIG)
    with torch.random.fork_rng(devices=[]):
        module = build(_network(config["model"]), config["classes"])
    _load_phase(module, folder, config)
    return module.eval(), config


def _network(saved: dict[str, Any]) -> Model:
    """The parameters of a network from its model.json, without the keys that its architecture lacks."""
    own = MODELS[saved["architecture"]].model_fields
    return MODELS[saved["architecture"]](**{key: value for key, value in saved.items() if key in own})


def load_start(module: nn.Module, model: Model, folder: Path, phase: str) -> list[str]:
    """Give `module` the starting weights of `phase` from `folder` = models/<study>/<init>; returns lines for the user.

    folder: `none`, `pretrain` or another phase. Raises `UserError` naming the tensors that do not fit.
    """
    if (folder / CONFIG).exists():
        _load_phase(module, folder, read_json(folder / CONFIG))
        if isinstance(model, FasterRcnn):
            detection.freeze_blocks(module, model)
        return [f"{phase}: starts from {folder}"]
    start = Start.read(folder / START)
    if start.method == "none":
        return []
    path = start_file(folder, phase)
    if start.method == "mae":
        dropped = load_encoder(module, path)
        return [f"{phase}: encoder from {path}", *dropped]
    return [f"{phase}: starts from {path}", *load_published(module, model, path)]


def start_file(folder: Path, phase: str) -> Path:
    """The file of models/<study>/pretrain that `phase` starts from: its own key, else `all`; its sha256 is checked."""
    files = Start.read(folder / START).files
    entry = files.get(phase) or files.get("all")
    if entry is None:
        raise UserError(f"phases.{phase}.init = 'pretrain': pretrain.weights has neither {phase!r} nor 'all'; add one")
    path = folder / entry.file
    if not path.is_file() or sha256_of(path) != entry.sha256:
        raise UserError(f"{path}: missing or changed since `pretrain` wrote it; run `dvc repro pretrain`")
    return path


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors, atomically; the same tensors give the same bytes."""
    write_bytes(path, safetensors_save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file on the CPU; nothing but tensors is ever unpickled.

    A state dict inside a training checkpoint (`model`, `state_dict`, ...) is unwrapped, a `module.` prefix dropped.
    """
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".pth", ".pt"):
        raise UserError(f"{path}: weights must be a .safetensors, .pth or .pt file")
    try:
        if suffix == ".safetensors":
            value: Any = safetensors_load(path.read_bytes())
        else:
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a file of plain tensors ({_why(error)}); save its state dict: "
            "torch.save(model.state_dict(), file)"
        ) from None
    except Exception as error:  # a damaged or hostile file can fail the readers in any way
        raise UserError(f"{path}: cannot be read as weights ({_why(error)})") from None
    while isinstance(value, dict) and (inner := _wrapped(value)) is not None:
        value = inner
    if not isinstance(value, dict) or not value or not all(isinstance(item, Tensor) for item in value.values()):
        raise UserError(f"{path}: holds no state dict (a mapping of names to tensors)")
    if all(name.startswith("module.") for name in value):
        value = {name.removeprefix("module."): tensor for name, tensor in value.items()}
    return value


def load_encoder(module: nn.Module, path: Path) -> list[str]:
    """Copy a file's encoder into `module`'s, every tensor of both accounted for; returns a line on what was left out.

    Left out may be only a classifier's head. Raises `UserError` naming tensors that are missing, unknown or misshapen.
    """
    return _into_encoder(module, read_tensors(path), path)


def load_published(module: nn.Module, model: Model, path: Path) -> list[str]:
    """Copy a whole network or just an encoder from a file, whichever it holds; returns lines on what was left out.

    Left out may be the layers whose shape follows the number of classes, when the numbers differ, and torchvision's
    auxiliary classifier. A detector's backbone is then frozen as in torchvision (`detection.use_published`).
    """
    tensors = read_tensors(path)
    network = core(module)
    whole = bool(_named(tensors.keys()) & _named(network.state_dict()))
    said = _into_network(network, tensors, path) if whole else _into_encoder(module, tensors, path)
    if isinstance(model, FasterRcnn):
        detection.use_published(module, model, whole)
    return said


def _why(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _named(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith(CLASS_HEADS)}


def _wrapped(value: dict) -> dict | None:
    found = [value[key] for key in ("state_dict", "model_state_dict", "model") if isinstance(value.get(key), dict)]
    return found[0] if found else None


def _load_phase(module: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    if config["frozen_batchnorm"] is not None:
        detection.freeze_batchnorm(module, config["frozen_batchnorm"])
    path = folder / WEIGHTS
    network = core(module)
    _copy(network.state_dict(), read_tensors(path), path, "this network")


def _into_network(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    own = network.state_dict()
    misfits = [name for name in tensors if name.startswith(CLASS_HEADS) and _shape(own, name) != tensors[name].shape]
    heads = tuple(sorted({name.rsplit(".", 1)[0] + "." for name in misfits if name in own}))
    beyond = tuple(prefix for prefix in BEYOND_NETWORK if not any(name.startswith(prefix) for name in own))
    dropped = [name for name in tensors if name.startswith((*heads, *beyond))]
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    needed = {name: tensor for name, tensor in own.items() if not name.startswith(heads)} if heads else own
    _copy(needed, kept, path, "this network")
    return _left_out(path, dropped)


def _into_encoder(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    own = {_plain(name): tensor for name, tensor in _encoder_state(module).items()}

    def stripped(prefix: str) -> dict[str, Tensor]:
        return {_plain(name.removeprefix(prefix)): tensor for name, tensor in tensors.items()}

    everything = max((stripped(prefix) for prefix in PREFIXES), key=lambda names: len(own.keys() & names.keys()))
    dropped = [name for name in everything if name not in own and name.startswith(BEYOND_ENCODER)]
    kept = {name: tensor for name, tensor in everything.items() if name not in dropped}
    _copy(own, kept, path, "this network's encoder")
    return _left_out(path, dropped)


def _encoder_state(module: nn.Module) -> dict[str, Tensor]:
    encoder = encoder_of(module)
    encoder = getattr(encoder, "model", encoder)  # timm's module inside segmentation-models-pytorch's
    return getattr(encoder, "body", encoder).state_dict()  # torchvision's backbone inside its feature pyramid


def _plain(name: str) -> str:
    """timm's feature extractors write stages_0.x for stages.0.x."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name)


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _copy(own: dict[str, Tensor], given: dict[str, Tensor], path: Path, what: str) -> None:
    """Copy `given` into `own` (both by name) if they agree in every name and shape; a `UserError` otherwise."""
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    unknown = [name for name in given if name not in own and not name.endswith(COUNTER)]
    shared = [name for name in own if name in given]
    shapes = [
        f"{name} ({list(given[name].shape)} in the file, {list(own[name].shape)} in the network)"
        for name in shared
        if given[name].shape != own[name].shape
    ]
    faults = [("missing", missing), ("not known", unknown), ("of another shape", shapes)]
    if missing or unknown or shapes:
        text = "; ".join(f"{len(names)} {fault}: {_list(names)}" for fault, names in faults if names)
        raise UserError(f"{path}: does not fit {what}. Tensors {text}. Give a file made with the same model.encoder")
    with torch.no_grad():
        for name in shared:
            own[name].copy_(given[name])


def _list(names: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"


def _left_out(path: Path, names: Sequence[str]) -> list[str]:
    return [f"{path}: left out {_list(names, 8)} (made for other classes)"] if names else []
