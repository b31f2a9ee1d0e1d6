"""Depthwise convolutions whose gradients take oneDNN's fast kernels on a CPU; everywhere else they are torch's own.

oneDNN has fast depthwise kernels for the gradient of weights up to 3 columns wide, without dilation, and for the
gradient of the input, in bfloat16, without stride. Beyond that it takes its kernels for dense convolutions, which take
many times as long (`python -m benchmarks.kernels`). Here wider weights are split by columns, dilated convolutions by
the grids that never meet, and strided ones are read as unstrided ones of a gradient with zeros between.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from retrace.models.layers.swap import swap

FAST_COLUMNS = 3


class DepthwiseConv2d(nn.Conv2d):
    """torch's layer with the same values; gradients agree to rounding. Made by `replace`."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if not learns or x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return super()._conv_forward(x, weight, bias)
        if torch.is_autocast_enabled("cpu"):  # which does not reach into a Function
            kind = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        return _Depthwise.apply(x, weight, bias, self.stride[0], self.dilation[0])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation, ctx.biased = stride, dilation, bias is not None
        return F.conv2d(x, weight, bias, stride, _same(weight, dilation), dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        height, width = x.shape[2:]
        if ctx.dilation > 1:
            grad, x = _grids(grad, ctx.dilation), _grids(x, ctx.dilation)
        if ctx.needs_input_grad[0]:
            of_x = _of_input(grad, x, weight, ctx.stride)
            if ctx.dilation > 1:
                of_x = _joined(of_x, ctx.dilation)[:, :, :height, :width]
        if any(ctx.needs_input_grad[1:3]):
            of_weight, of_bias = _of_parameters(grad, x, weight, ctx.stride, ctx.biased)
        return of_x, of_weight, of_bias, None, None


def _same(weight: Tensor, dilation: int) -> tuple[int, int]:
    """The padding that keeps the size, which is what `replace` looks for."""
    return dilation * (weight.shape[2] // 2), dilation * (weight.shape[3] // 2)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], which: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    bias = [len(weight)] if which[2] else None
    return torch.ops.aten.convolution_backward(
        grad, x, weight, bias, [stride] * 2, padding, [1, 1], False, [0, 0], len(weight), which
    )


def _of_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of x [N, C, H, W] from that of the output, [N, C, H / stride, W / stride] rounded up."""
    if stride > 1 and grad.dtype == torch.bfloat16:
        spread = torch.zeros_like(x)
        spread[:, :, ::stride, ::stride] = grad
        grad, stride = spread, 1
    return _gradients(grad, x, weight, stride, _same(weight, 1), [True, False, False])[0]


def _of_parameters(grad: Tensor, x: Tensor, weight: Tensor, stride: int, biased: bool) -> tuple[Tensor, Tensor | None]:
    """Gradients of the weight [C, 1, k, l] and the bias [C] (None without): up to three of the l columns at a time."""
    rows, columns = _same(weight, 1)
    if weight.shape[3] <= FAST_COLUMNS or (stride > 1 and grad.dtype != torch.bfloat16):
        return _gradients(grad, x, weight, stride, (rows, columns), [False, True, biased])[1:]
    missing = max(-(-(weight.shape[2] + stride - x.shape[2]) // stride), 0)  # of rows: lower maps have no fast kernel
    grad, x = F.pad(grad, (0, 0, 0, missing)), F.pad(x, (columns, columns, 0, missing * stride))
    span, parts, of_bias = (grad.shape[3] - 1) * stride, [], None
    for first in range(0, weight.shape[3], FAST_COLUMNS):
        part = weight[..., first : first + FAST_COLUMNS]
        seen = x[..., first : first + span + part.shape[3]]
        also = biased and first == 0
        _, of_part, found = _gradients(grad, seen, part, stride, (rows, 0), [False, True, also])
        parts.append(of_part)
        of_bias = found if also else of_bias
    return torch.cat(parts, dim=3), of_bias


def _grids(x: Tensor, step: int) -> Tensor:
    """[N, C, H, W] -> [step * step * N, C, H / step, W / step]: every `step`th pixel, zeros where H or W ends early."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    count, channels, height, width = x.shape
    split = x.permute(0, 2, 3, 1).reshape(count, height // step, step, width // step, step, channels)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(-1, height // step, width // step, channels).permute(0, 3, 1, 2)


def _joined(x: Tensor, step: int) -> Tensor:
    """What `_grids` took apart, its zeros included."""
    count, channels, height, width = x.shape
    split = x.permute(0, 2, 3, 1).reshape(step, step, -1, height, width, channels)
    whole = split.permute(2, 3, 0, 4, 1, 5).reshape(count // step**2, height * step, width * step, channels)
    return whole.permute(0, 3, 1, 2)


def replace(network: nn.Module) -> nn.Module:
    """`network` with each depthwise convolution that gains by it replaced in place, parameters kept."""
    return swap(network, _ours)


def _ours(layer: nn.Module) -> DepthwiseConv2d | None:
    if type(layer) is not nn.Conv2d or not _gains(layer):
        return None
    rows, columns = layer.kernel_size
    ours = DepthwiseConv2d(
        layer.in_channels,
        layer.out_channels,
        (rows, columns),
        layer.stride[0],
        _same(layer.weight, layer.dilation[0]),
        layer.dilation[0],
        layer.groups,
        device="meta",  # its own weights would draw from the generator that decides the start
    )
    ours.weight, ours.bias = layer.weight, layer.bias
    return ours


def _gains(layer: nn.Conv2d) -> bool:
    """A depthwise convolution that keeps the size (over its stride) and is wide, dilated or strided."""
    (rows, columns), (stride, across), (dilation, other) = layer.kernel_size, layer.stride, layer.dilation
    plain = layer.groups == layer.in_channels == layer.out_channels > 1 and layer.padding_mode == "zeros"
    square = stride == across and dilation == other and 1 in (stride, dilation) and rows % 2 == columns % 2 == 1
    return (
        plain
        and square
        and layer.padding == (dilation * (rows // 2), dilation * (columns // 2))
        and (columns > FAST_COLUMNS or stride > 1 or dilation > 1)
    )
