"""From the parameters of a phase to a network with random weights; nothing is ever downloaded here."""

import importlib
from collections.abc import Sequence

from torch import nn

from retrace.config.network import Model
from retrace.errors import UserError
from retrace.models.layers import depthwise

# task, then the module in this room and its function: timm and what stands on it are only loaded where they are used
ARCHITECTURES: dict[str, tuple[str, str, str]] = {
    "unet": ("segmentation", "retrace.models.decoders", "unet"),
    "dpt": ("segmentation", "retrace.models.decoders", "dpt"),
    "unet_classic": ("segmentation", "retrace.models.segmentation", "unet_classic"),
    "deeplabv3": ("segmentation", "retrace.models.segmentation", "deeplabv3"),
    "fasterrcnn": ("detection", "retrace.models.detection", "fasterrcnn"),
}


def build(model: Model, task: str, classes: Sequence[str]) -> nn.Module:
    """A network for these classes, initialised from PyTorch's global generator (seed it first).

    Segmentation: a `Segmenter`, float [N, 3, H, W] -> logits [N, C, H, W]. Detection: see `retrace.models.detection`.
    Raises `UserError` for an unknown encoder.
    """
    made_for, module, builder = ARCHITECTURES[model.architecture]
    if made_for != task:
        allowed = ", ".join(name for name, (its_task, *_) in ARCHITECTURES.items() if its_task == task)
        raise UserError(f"model.architecture = {model.architecture!r} does {made_for}, not {task}; allowed: {allowed}")
    network = getattr(importlib.import_module(module), builder)(model, len(classes))
    network = depthwise.replace(network)
    if model.batchnorm_momentum is not None:
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = model.batchnorm_momentum
    return network
