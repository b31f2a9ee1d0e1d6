"""Private interfaces of torchvision."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def skip_resize(network: Any) -> None:
    """Let a detector train on images as they come. The public arguments only say which size it resizes to."""
    network.transform._skip_resize = True


def resolution_changes(layers: Sequence[nn.Module]) -> list[int]:
    """Where in a MobileNetV3's layers the resolution halves. Which layers those are is recorded nowhere else."""
    return [index for index, layer in enumerate(layers) if getattr(layer, "_is_cn", False)]


def roi_align_backward(grad: Tensor, rois: Tensor, scale: float, samples: int, shape: torch.Size) -> Tensor:
    """Gradient [N, C, H, W] of a map from that of its boxes, [K, C, h, w]; rois [K, 5]: image, corners.

    `roi_align`, the public function, would have to repeat the forward pass for autograd to know the gradient.
    """
    sizes = (*grad.shape[2:], *shape)
    return torch.ops.torchvision._roi_align_backward(grad, rois, scale, *sizes, samples, False)
