"""Layers with gradients of our own beside the libraries' layers, forward and backward: `python -m benchmarks.kernels`.

One layer at a time on batches of 8 in the channels-last layout, two threads, float32 and bfloat16, both sides in one
process in turn. The shapes are those of the demo models on 192 x 256 pixels.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.harness import alternate, arguments, save
from retrace.allocator import keep_freed_memory
from retrace.models.layers import depthwise, grn, roi_align

BATCH, CALLS = 8, 10
CONVOLUTIONS = {  # channels, height, width, kernel, stride, dilation
    "depthwise 7 x 7, [8, 40, 48, 64]": (40, 48, 64, 7, 1, 1),
    "depthwise 7 x 7, [8, 160, 12, 16]": (160, 12, 16, 7, 1, 1),
    "depthwise 5 x 5, [8, 120, 24, 32]": (120, 24, 32, 5, 1, 1),
    "depthwise 5 x 5, dilated by 2, [8, 960, 12, 16]": (960, 12, 16, 5, 1, 2),
    "depthwise 3 x 3, stride 2, [8, 64, 96, 128]": (64, 96, 128, 3, 2, 1),
}
NORMS = {"response normalization, [8, 48, 64, 160]": (48, 64, 160), "the same, [8, 12, 16, 640]": (12, 16, 640)}
POOLS = {  # image size, boxes an image
    "RoIAlign, 8 x 24 boxes of [8, 256, 6, 8]": ((192, 256), 24),
    "the same, 8 x 64 of [8, 256, 25, 42]": ((800, 1344), 64),
}
Step = Callable[[], None]


def convolution(shape: tuple[int, ...], kind: torch.dtype) -> tuple[Step, Step]:
    """torch's layer and ours."""
    channels, height, width, kernel, stride, dilation = shape

    def build() -> nn.Module:
        padding = dilation * (kernel // 2)
        return nn.Sequential(nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False))

    images = torch.randn(BATCH, channels, height, width).to(kind).contiguous(memory_format=torch.channels_last)
    return step(build().to(kind), images), step(depthwise.replace(build()).to(kind), images)


def norm(shape: tuple[int, ...], kind: torch.dtype) -> tuple[Step, Step]:
    """timm's layer, as autocast runs it, and ours."""
    images = torch.randn(BATCH, *shape).to(kind)
    theirs, ours = (nn.Sequential(GlobalResponseNorm(shape[-1])) for _ in range(2))
    return step(theirs, images), step(grn.replace(ours), images)


def step(layer: nn.Module, images: Tensor) -> Step:
    """Ten times forward and backward."""
    given = images.clone(memory_format=torch.preserve_format).requires_grad_()
    half = images.dtype == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        weights = torch.randn_like(layer(given))

    def run() -> None:
        for _ in range(CALLS):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                result = layer(given)
            result.backward(weights)
            given.grad = None

    return run


def pool(case: tuple[tuple[int, int], int], kind: torch.dtype) -> tuple[Step, Step]:
    """torchvision's pooling of the two finest maps of a MobileNetV3 pyramid, and ours."""
    (height, width), count = case
    maps = {str(stride): torch.randn(BATCH, 256, height // stride, width // stride).to(kind) for stride in (32, 64)}
    given = {name: level.contiguous(memory_format=torch.channels_last).requires_grad_() for name, level in maps.items()}
    corners = torch.rand(BATCH, count, 2, 2) * torch.tensor([width, height])
    boxes = list(torch.cat([corners.amin(2), corners.amax(2)], dim=2))
    weights = torch.randn(BATCH * count, 256, 7, 7).to(kind)

    def side(layer: nn.Module) -> Step:
        def run() -> None:
            for _ in range(CALLS):
                with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                    result = layer(given, boxes, [(height, width)] * BATCH)
                result.backward(weights)

        return run

    return side(MultiScaleRoIAlign(list(maps), 7, 2)), side(roi_align.RoIAlign(list(maps), 7, 2))


def main() -> None:
    """Time every layer and write benchmarks/results/kernels.json."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(2)
    keep_freed_memory()
    cases: list[tuple[Callable[..., tuple[Step, Step]], dict[str, Any]]]
    cases = [(convolution, CONVOLUTIONS), (norm, NORMS), (pool, POOLS)]
    rows = []
    for build, shapes in cases:
        for name, shape in list(shapes.items())[: 1 if options.tiny else None]:
            row: dict[str, Any] = {"layer": name}
            for kind in (torch.float32, torch.bfloat16):
                torch.manual_seed(0)
                sides = dict(zip(("library", "retrace"), build(shape, kind), strict=True))
                print(f"{name}, {kind}")
                seconds = alternate(sides, options.repetitions)
                key = str(kind).removeprefix("torch.")
                row[key] = {side: statistics.median(took) / CALLS * 1e3 for side, took in seconds.items()}
            rows.append(row)
    save("kernels", options.tiny, rows, repetitions=options.repetitions)


if __name__ == "__main__":
    main()
