"""Bilinear resizing with a deterministic and fast gradient on a GPU; on a CPU it is torch's own.

The gradient of torch's CUDA kernel is not deterministic, and under deterministic algorithms torch takes a version in
Python, forward and backward. Resizing is one weight per pair of rows and one per pair of columns, so here both passes
are two matrix products, and without gradients the kernel itself runs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPPPooling

from retrace.models.layers.constants import Constants
from retrace.models.layers.plain import plain_kernels
from retrace.models.layers.swap import swap

_MATRICES = Constants()


def resize(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """`F.interpolate(x, size, mode="bilinear", align_corners)` of float [N, C, h, w]: [N, C, H, W]."""
    if x.device.type == "cpu":
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
    if not (torch.is_grad_enabled() and x.requires_grad):
        with plain_kernels():
            return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
    if x.shape[-2:] == (1, 1):
        return x.expand(-1, -1, *size)
    return by_products(x, size, align_corners)


def by_products(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """As `resize`, by matrix products."""
    rows = _matrix(x.shape[-2], size[0], align_corners, x)
    columns = _matrix(x.shape[-1], size[1], align_corners, x)
    with torch.autocast(x.device.type, enabled=False):  # in the type of x, as the kernel
        return torch.matmul(torch.matmul(rows, x), columns.T)


def _matrix(old: int, new: int, align_corners: bool, like: Tensor) -> Tensor:
    """[new, old]: the share of each old pixel in each new one, along one axis."""

    def make() -> Tensor:
        at = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5
        if align_corners:
            at = torch.arange(new, dtype=torch.float64) * ((old - 1) / max(new - 1, 1))
        at = at.clamp(0, old - 1)
        return (1 - (at[:, None] - torch.arange(old)).abs()).clamp(min=0).to(like.dtype)

    return _MATRICES.get((old, new, align_corners, like.dtype), like.device, make)


class Upsample(nn.Upsample):
    """torch's layer for bilinear enlarging by a whole factor."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, h * factor, w * factor]."""
        factor = int(self.scale_factor)  # type: ignore[arg-type]
        return resize(x, (x.shape[-2] * factor, x.shape[-1] * factor), bool(self.align_corners))


class ImagePooling(nn.Sequential):
    """torchvision's `ASPPPooling` (DeepLabV3's image-level features), its layers kept."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        height, width = x.shape[-2:]
        for layer in self:
            x = layer(x)
        return resize(x, (height, width))


def replace(network: nn.Module) -> nn.Module:
    """`network` with its bilinear layers replaced in place, parameters and their names kept."""
    return swap(network, _ours)


def _ours(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, ASPPPooling):
        return ImagePooling(*layer.children())
    if type(layer) is not nn.Upsample or layer.mode != "bilinear":
        return None
    factor = layer.scale_factor
    if not isinstance(factor, (int, float)) or factor % 1:
        return None
    return Upsample(scale_factor=factor, mode="bilinear", align_corners=layer.align_corners)
