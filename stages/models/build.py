"""From the parameters of a phase to a network with random weights; nothing is ever downloaded here."""

from collections.abc import Callable, Sequence

from torch import nn

from stages.errors import UserError
from stages.models import detection, grn, segmentation
from stages.params.phases import Model

ARCHITECTURES: dict[str, tuple[str, Callable[[Model, int], nn.Module]]] = {
    "unet": ("segmentation", segmentation.unet),
    "dpt": ("segmentation", segmentation.dpt),
    "unet_classic": ("segmentation", segmentation.unet_classic),
    "deeplabv3": ("segmentation", segmentation.deeplabv3),
    "fasterrcnn": ("detection", detection.fasterrcnn),
}


def build(model: Model, task: str, classes: Sequence[str]) -> nn.Module:
    """A network for these classes, initialised from PyTorch's global generator (seed it first).

    Segmentation: a `Segmenter`, float [N, 3, H, W] -> logits [N, C, H, W]. Detection: see `stages.models.detection`.
    Raises `UserError` for an architecture that does not do `task` or an unknown encoder.
    """
    made_for, builder = ARCHITECTURES[model.architecture]
    if made_for != task:
        allowed = ", ".join(name for name, (its_task, _) in ARCHITECTURES.items() if its_task == task)
        raise UserError(f"model.architecture = {model.architecture!r} does {made_for}, not {task}; allowed: {allowed}")
    network = grn.replace(builder(model, len(classes)))
    if model.batchnorm_momentum is not None:
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = model.batchnorm_momentum
    return network
