"""RoIAlign (He et al. 2017, "Mask R-CNN") whose gradient is two matrix products on a CPU; else it is torchvision's.

torchvision scatters every sample of every channel with one thread: a quarter to a third of a training step of Faster
R-CNN. The bilinear samples of a box are a product of one weight per row and one per column of the map, so the gradient
is one matrix product along each axis (`python -m benchmarks.kernels`).
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import MultiScaleRoIAlign

from retrace.compat.torchvision import roi_align_backward
from retrace.models.layers.swap import swap

AT_ONCE = 2**24  # numbers held between the two products, 64 MiB
LARGE = 2**14  # pixels: on larger maps most products are with zeros, and scattering is quicker


class RoIAlign(MultiScaleRoIAlign):
    """torchvision's layer with the same values; gradients agree to rounding. Made by `replace`."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Maps [N, C, H, W] by name, per image boxes [K, 4] (x1, y1, x2, y2) in image pixels -> [all K, C, h, w]."""
        names = [name for name in x if name in self.featmap_names]
        maps = [x[name] for name in names]
        learns = torch.is_grad_enabled() and any(level.requires_grad for level in maps)
        if not learns or maps[0].device.type != "cpu" or self.sampling_ratio <= 0:
            return super().forward(x, boxes, image_shapes)
        return _Align.apply(self, boxes, image_shapes, names, *maps)


class _Align(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: RoIAlign,
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
        names: list[str],
        *maps: Tensor,
    ) -> Tensor:
        pooled = MultiScaleRoIAlign.forward(layer, dict(zip(names, maps, strict=True)), boxes, image_shapes)
        ctx.layer, ctx.boxes = layer, boxes
        ctx.shapes = [(level.shape, level.dtype) for level in maps]
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layer: RoIAlign = ctx.layer
        assert layer.scales is not None and layer.map_levels is not None  # the forward pass has set them
        boxes = torch.cat(ctx.boxes).float()
        image = torch.repeat_interleave(torch.tensor([len(rows) for rows in ctx.boxes]))  # [K], ascending
        single = len(ctx.shapes) == 1
        level_of = torch.zeros_like(image) if single else layer.map_levels(ctx.boxes)
        found = []
        for number, ((shape, dtype), scale) in enumerate(zip(ctx.shapes, layer.scales, strict=True)):
            mine = torch.where(level_of == number)[0]
            rois = torch.cat([image[mine, None].float(), boxes[mine]], dim=1)
            with torch.autocast("cpu", enabled=False):  # float32, as torchvision does it
                found.append(_of_map(grad[mine].float(), rois, scale, layer.sampling_ratio, shape).to(dtype))
        return None, None, None, None, *found


def _of_map(grad: Tensor, rois: Tensor, scale: float, samples: int, shape: torch.Size) -> Tensor:
    """Gradient [N, C, H, W] of a map from that of its boxes, [K, C, h, w]; rois [K, 5]: image (ascending), corners."""
    count, channels, height, width = shape
    rows, columns = grad.shape[2:]
    if height * width > LARGE:
        return roi_align_backward(grad, rois, scale, samples, shape)
    x1, y1, x2, y2 = (rois[:, 1:] * scale).unbind(1)
    along_x = _shares(x1, (x2 - x1).clamp(min=1), columns, samples, width)  # [K, w, W]
    along_y = _shares(y1, (y2 - y1).clamp(min=1), rows, samples, height)  # [K, h, H]
    result = grad.new_zeros(count, height, width * channels)
    size = max(1, AT_ONCE // (rows * width * channels))
    ends = [0, *torch.bincount(rois[:, 0].long(), minlength=count).cumsum(0).tolist()]
    for image, (first, last) in enumerate(pairwise(ends)):
        for start in range(first, last, size):
            part = slice(start, min(start + size, last))
            values = grad[part].permute(0, 2, 3, 1)  # [k, h, w, C]
            spread = torch.matmul(along_x[part].transpose(1, 2)[:, None], values)  # [k, h, W, C]
            result[image].addmm_(along_y[part].flatten(0, 1).T, spread.flatten(0, 1).flatten(1))
    return result.view(count, height, width, channels).permute(0, 3, 1, 2)


def _shares(start: Tensor, size: Tensor, bins: int, samples: int, length: int) -> Tensor:
    """[K, bins, length]: the weight of each of `length` pixels in each bin's mean, along one axis of K boxes."""
    offsets = (torch.arange(bins * samples, dtype=start.dtype) + 0.5) / (bins * samples)
    at = start[:, None] + size[:, None] * offsets  # [K, bins * samples]
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    near = (1 - (at[..., None] - torch.arange(length)).abs()).clamp(min=0) * inside[..., None]
    return near.unflatten(1, (bins, samples)).mean(2)


def replace(network: nn.Module) -> nn.Module:
    """`network` with torchvision's pooling replaced in place; it has no parameters."""
    return swap(network, _ours)


def _ours(layer: nn.Module) -> RoIAlign | None:
    if type(layer) is not MultiScaleRoIAlign:
        return None
    return RoIAlign(
        layer.featmap_names,
        layer.output_size,
        layer.sampling_ratio,
        canonical_scale=layer.canonical_scale,
        canonical_level=layer.canonical_level,
    )
