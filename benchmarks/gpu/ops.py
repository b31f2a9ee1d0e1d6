"""Each layer and kernel that a training uses, alone: two runs of the same bits, its error, memory and time."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Inputs = dict[str, Tensor]
CALLS = 5
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-2}  # of the largest number of the reference; TF32 is off
MIB = 2**20


@dataclass(frozen=True)
class Operation:
    """An operation. draw: its inputs, float32 on the CPU; run: as the kit does it; library: as the libraries do.

    Inputs whose names begin with `_` get no gradient, and keep their type.
    """

    name: str
    draw: Callable[[int], Inputs]
    run: Callable[[Inputs], Tensor]
    library: Callable[[Inputs], Tensor] | None = None


def operations(tiny: bool) -> list[Operation]:
    """All of them, at the sizes of full-scale trainings; tiny: small ones."""
    side, batch = (16, 2) if tiny else (128, 8)
    return [
        Operation("convolution 3 x 3", _image(batch, 64, side, weight=(64, 64, 3, 3)), _convolution),
        Operation(
            "depthwise convolution 7 x 7",
            _image(batch, 80, side, weight=(80, 1, 7, 7)),
            _depthwise,
            lambda given: functional.conv2d(given["x"], given["weight"], padding=3, groups=80),
        ),
        Operation("batch normalization", _image(batch, 64, side), _batch_norm),
        Operation("layer normalization", _image(batch, 64, side), _layer_norm),
        Operation(
            "response normalization",
            _image(batch, 64, side, channels_last=True),
            _response_norm(True),
            _response_norm(False),
        ),
        Operation("bilinear resizing", _image(batch, 64, side // 2), _resize(side)),
        Operation("max pooling", _image(batch, 64, side), lambda given: functional.max_pool2d(given["x"], 3, 2, 1)),
        Operation("RoIAlign", _boxes(batch, side, 64), _pool(ours=True), _pool(ours=False)),
        Operation("cross-entropy", _logits(batch, side), _loss("cross_entropy")),
        Operation("online hard examples", _logits(batch, side), _loss("ohem_cross_entropy", 0.7, 0.1)),
        Operation("dice", _logits(batch, side), _loss("dice_loss")),
        Operation("attention", _attention(batch, side), _attend),
        Operation("confusion counts", _logits(batch, side), _confusion),
    ]


def checks(device: str, tiny: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """(name, check) of every operation, precision and layout; a check gives its figures."""
    for operation in operations(tiny):
        for kind in (torch.float32, torch.float16):
            for layout in ("contiguous", "channels_last"):
                precision = str(kind).removeprefix("torch.")
                name = f"{operation.name}, {precision}, {layout}"
                yield name, lambda found=(operation, kind, layout): check(*found, device)


def check(operation: Operation, kind: torch.dtype, layout: str, device: str) -> dict[str, Any]:
    """Run it twice with deterministic algorithms, compare with float64 on the CPU, and time it.

    Raises:
        RuntimeError: PyTorch has no such kernel, or no deterministic one.
        AssertionError: the two runs differ, or the values are wrong.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        drawn = operation.draw(17)
        given = {name: _placed(name, value, device, kind, layout) for name, value in drawn.items()}
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        first, second = _results(operation.run, given), _results(operation.run, given)
        same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert same, "two runs differ"
        wide = {name: value.cpu() if name.startswith("_") else value.cpu().double() for name, value in given.items()}
        wanted = _results(operation.library or operation.run, wide)
        error = max(_error(a, b) for a, b in zip(first, wanted, strict=True))
        assert error <= TOLERANCE[kind], f"relative error {error:.2g}, allowed {TOLERANCE[kind]}"
        found = {"relative_error": error, "milliseconds": 1e3 * _seconds(operation.run, given, device)}
        if device == "cuda":
            found["peak_mib"] = torch.cuda.max_memory_allocated() / MIB
        return found
    finally:
        torch.use_deterministic_algorithms(False)


def _placed(name: str, value: Tensor, device: str, kind: torch.dtype, layout: str) -> Tensor:
    if name.startswith("_"):
        return value.to(device)
    value = value.to(device, kind)
    if layout == "channels_last" and value.dim() == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    return value


def _results(run: Callable[[Inputs], Tensor], given: Inputs) -> list[Tensor]:
    """The output and the gradients, the output's own cotangent being drawn from a fixed seed."""
    leaves = {name: value.detach().clone(memory_format=torch.preserve_format) for name, value in given.items()}
    learning = [value.requires_grad_() for name, value in leaves.items() if not name.startswith("_")]
    output = run(leaves)
    if not output.requires_grad:
        return [output]
    random = torch.Generator().manual_seed(5)
    cotangent = torch.randn(output.shape, generator=random).to(output.device, output.dtype)
    return [output.detach(), *torch.autograd.grad(output, learning, cotangent)]


def _error(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.double().cpu(), wanted.double().cpu()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))


def _seconds(run: Callable[[Inputs], Tensor], given: Inputs, device: str) -> float:
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        _results(run, given)
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _image(
    batch: int, channels: int, side: int, weight: tuple[int, ...] = (), channels_last: bool = False
) -> Callable[[int], Inputs]:
    def draw(seed: int) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        shape = (batch, side, side, channels) if channels_last else (batch, channels, side, side)
        given = {"x": torch.randn(shape, generator=random)}
        if weight:
            given["weight"] = torch.randn(weight, generator=random) / float(weight[1] * weight[2] * weight[3]) ** 0.5
        return given

    return draw


def _logits(batch: int, side: int) -> Callable[[int], Inputs]:
    def draw(seed: int) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        target = torch.randint(0, 19, (batch, side, side), generator=random)
        target[:, :2] = 255  # not scored
        guess = torch.randint(0, 19, (batch, side, side), generator=random)
        return {"x": torch.randn((batch, 19, side, side), generator=random), "_target": target, "_guess": guess}

    return draw


def _boxes(batch: int, side: int, count: int) -> Callable[[int], Inputs]:
    def draw(seed: int) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        corners = torch.rand((batch, count, 2, 2), generator=random) * side * 8
        boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=2)
        return {"x": torch.randn((batch, 32, side, side), generator=random), "_boxes": boxes}

    return draw


def _attention(batch: int, side: int) -> Callable[[int], Inputs]:
    def draw(seed: int) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        return {name: torch.randn((batch, 4, side, 32), generator=random) for name in ("q", "k", "v")}

    return draw


def _convolution(given: Inputs) -> Tensor:
    return functional.conv2d(given["x"], given["weight"], padding="same")


def _depthwise(given: Inputs) -> Tensor:
    """With the layer that the networks have."""
    from retrace.models.layers import depthwise

    channels = given["x"].shape[1]
    layer = nn.Sequential(nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False))
    layer = depthwise.replace(layer).to(given["x"].device, given["x"].dtype)
    return torch.func.functional_call(layer, {"0.weight": given["weight"]}, given["x"])


def _batch_norm(given: Inputs) -> Tensor:
    return functional.batch_norm(given["x"], None, None, training=True)


def _layer_norm(given: Inputs) -> Tensor:
    x = given["x"].permute(0, 2, 3, 1)
    return functional.layer_norm(x.float() if x.dtype == torch.float16 else x, x.shape[-1:])


def _response_norm(ours: bool) -> Callable[[Inputs], Tensor]:
    def run(given: Inputs) -> Tensor:
        from timm.layers.grn import GlobalResponseNorm

        from retrace.models.layers import grn

        x = given["x"]
        layer = nn.Sequential(GlobalResponseNorm(x.shape[-1]))
        layer = (grn.replace(layer) if ours else layer).to(x.device, x.dtype)
        values = {"0.weight": torch.full_like(x[0, 0, 0], 0.5), "0.bias": torch.full_like(x[0, 0, 0], 0.1)}
        return torch.func.functional_call(layer, values, x)

    return run


def _resize(side: int) -> Callable[[Inputs], Tensor]:
    return lambda given: functional.interpolate(given["x"], size=(side, side), mode="bilinear", align_corners=False)


def _pool(ours: bool) -> Callable[[Inputs], Tensor]:
    def run(given: Inputs) -> Tensor:
        from torchvision.ops import MultiScaleRoIAlign

        from retrace.models.layers import roi_align

        x, boxes = given["x"], given["_boxes"]
        x = x.float() if x.dtype == torch.float16 else x  # as autocast does
        layer = (roi_align.RoIAlign if ours else MultiScaleRoIAlign)(["0"], 7, 2)
        sides = [(x.shape[2] * 8, x.shape[3] * 8)] * len(x)
        return layer(
            {"0": x}, [rows.to(x.dtype if x.dtype == torch.float64 else torch.float32) for rows in boxes], sides
        )

    return run


def _loss(name: str, *settings: float) -> Callable[[Inputs], Tensor]:
    def run(given: Inputs) -> Tensor:
        from retrace.training import losses

        logits = given["x"]
        logits = logits.float() if logits.dtype == torch.float16 else logits  # as autocast does
        value: Tensor = getattr(losses, name)(logits, given["_target"], *settings)
        return value

    return run


def _attend(given: Inputs) -> Tensor:
    return functional.scaled_dot_product_attention(given["q"], given["k"], given["v"])


def _confusion(given: Inputs) -> Tensor:
    from retrace.evaluation.scores.segmentation import confusion_matrix_torch

    counts: Tensor = confusion_matrix_torch(given["_target"], given["_guess"], 19)
    return counts
