"""RoIAlign (He et al. 2017, "Mask R-CNN") whose gradient is two matrix products.

On a CPU torchvision scatters every sample of every channel with one thread: a quarter to a third of a training step of
Faster R-CNN. On a GPU it scatters in any order, and its deterministic version, which needs a compiler, sorts one index
per number of the gradient: 20 GiB at a batch of 16 images with 512 proposals each. The bilinear samples of a box are a
product of one weight per row and one per column of the map, so the gradient is one matrix product along each axis
(`python -m benchmarks.kernels`). The forward pass is torchvision's kernel on every device.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import MultiScaleRoIAlign

from retrace.compat.torchvision import roi_align_backward
from retrace.models.layers.plain import plain_kernels
from retrace.models.layers.swap import swap

AT_ONCE = 2**24  # numbers held between the two products, 64 MiB
LARGE = 2**14  # pixels: on larger maps most products are with zeros, and a CPU scatters more quickly


class RoIAlign(MultiScaleRoIAlign):
    """torchvision's layer with the same values; gradients agree to rounding. Made by `replace`."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Maps [N, C, H, W] by name, per image boxes [K, 4] (x1, y1, x2, y2) in image pixels -> [all K, C, h, w]."""
        names = [name for name in x if name in self.featmap_names]
        maps = [x[name] for name in names]
        learns = torch.is_grad_enabled() and any(level.requires_grad for level in maps)
        if self.sampling_ratio <= 0:  # as many samples as a box has pixels: no network here asks for it
            return super().forward(x, boxes, image_shapes)
        if not learns:
            with plain_kernels():
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
        with plain_kernels():
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
        image = torch.cat([torch.full_like(rows[:, 0], n, dtype=torch.int64) for n, rows in enumerate(ctx.boxes)])
        single = len(ctx.shapes) == 1
        level_of = torch.zeros_like(image) if single else layer.map_levels(ctx.boxes)
        found = []
        for number, ((shape, dtype), scale) in enumerate(zip(ctx.shapes, layer.scales, strict=True)):
            mine = torch.where(level_of == number)[0]
            rois = torch.cat([image[mine, None].float(), boxes[mine]], dim=1)
            gradient = _of_map if grad.device.type == "cpu" else by_rows
            with torch.autocast(grad.device.type, enabled=False):  # float32, as torchvision does it
                found.append(gradient(grad[mine].float(), rois, scale, layer.sampling_ratio, shape).to(dtype))
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


def by_rows(grad: Tensor, rois: Tensor, scale: float, samples: int, shape: torch.Size) -> Tensor:
    """As `_of_map`, for a GPU and maps of any size: boxes that begin at neighboring rows share one product.

    A product then covers the rows of its boxes and not the whole map; the device is read once.
    """
    count, channels, height, width = shape
    rows, columns = grad.shape[2:]
    order = (rois[:, 2]).argsort(stable=True)
    order = order[rois[order, 0].argsort(stable=True)]  # by image, then by the first row
    grad, rois = grad[order], rois[order]
    x1, y1, x2, y2 = (rois[:, 1:] * scale).unbind(1)
    wide, high = (x2 - x1).clamp(min=1), (y2 - y1).clamp(min=1)
    low = y1.floor().clamp(0, height - 1)
    top = ((y1 + high).floor() + 2).clamp(1, height)  # a sample at row r has a share of row r + 1 too
    result = grad.new_zeros(count, height, width * channels)
    size = max(1, AT_ONCE // (rows * width * channels))
    bounds = torch.stack([rois[:, 0], low, top], dim=1).long().tolist()
    for first, last in _parts([row[0] for row in bounds], size):
        image, lowest, highest = bounds[first][0], bounds[first][1], max(row[2] for row in bounds[first:last])
        part = slice(first, last)
        along_x = _shares(x1[part], wide[part], columns, samples, width)  # [k, w, W]
        along_y = _shares(y1[part], high[part], rows, samples, height)[..., lowest:highest]  # [k, h, R]
        values = grad[part].permute(0, 2, 3, 1)  # [k, h, w, C]
        spread = torch.matmul(along_x.transpose(1, 2)[:, None], values)  # [k, h, W, C]
        result[image, lowest:highest].addmm_(along_y.flatten(0, 1).T, spread.flatten(0, 1).flatten(1))
    return result.view(count, height, width, channels).permute(0, 3, 1, 2)


def _parts(images: list[int], size: int) -> list[tuple[int, int]]:
    """First and past-the-last box of each part: at most `size` boxes of one image. images: of every box, ascending."""
    parts, first = [], 0
    for index in range(1, len(images) + 1):
        if index == len(images) or images[index] != images[first] or index - first == size:
            parts.append((first, index))
            first = index
    return parts


def _shares(start: Tensor, size: Tensor, bins: int, samples: int, length: int) -> Tensor:
    """[K, bins, length]: the weight of each of `length` pixels in each bin's mean, along one axis of K boxes."""
    offsets = (torch.arange(bins * samples, dtype=start.dtype, device=start.device) + 0.5) / (bins * samples)
    at = start[:, None] + size[:, None] * offsets  # [K, bins * samples]
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    pixels = torch.arange(length, device=start.device)
    near = (1 - (at[..., None] - pixels).abs()).clamp(min=0) * inside[..., None]
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
