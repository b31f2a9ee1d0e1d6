"""From the parameters of a phase to a network with random weights; nothing is ever downloaded here."""

import importlib
from collections.abc import Sequence

from torch import nn

from retrace.config.network import Model
from retrace.models.layers import BATCH_NORMS, depthwise

# the module and its function: timm and what stands on it are only loaded where they are used
ARCHITECTURES: dict[str, tuple[str, str]] = {
    "unet": ("retrace.models.decoders", "unet"),
    "dpt": ("retrace.models.decoders", "dpt"),
    "unet_classic": ("retrace.models.segmentation", "unet_classic"),
    "deeplabv3": ("retrace.models.segmentation", "deeplabv3"),
    "fasterrcnn": ("retrace.models.detection", "fasterrcnn"),
}


def build(model: Model, classes: Sequence[str]) -> nn.Module:
    """A network for these classes, initialised from PyTorch's global generator (seed it first).

    Segmentation: a `Segmenter`, float [N, 3, H, W] -> logits [N, C, H, W]. Detection: see `retrace.models.detection`.
    Raises `UserError` for an unknown encoder.
    """
    module, builder = ARCHITECTURES[model.architecture]
    network = getattr(importlib.import_module(module), builder)(model, len(classes))
    network = depthwise.replace(network)
    if model.batchnorm_momentum is not None:
        for part in network.modules():
            if isinstance(part, BATCH_NORMS):
                part.momentum = model.batchnorm_momentum
    return network
