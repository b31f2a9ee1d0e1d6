"""Global response normalization (Woo et al. 2023, "ConvNeXt V2", algorithm 1) with a gradient written out by hand.

timm's layer leaves the gradient to autograd, which passes over the widest maps of the network twice as often as it has
to. Values agree to rounding; parameters, their names and their start are timm's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from retrace.compat.timm import GlobalResponseNorm
from retrace.models.layers.swap import swap


class ResponseNorm(GlobalResponseNorm):
    """timm's layer: [N, H, W, C] (or [N, C, H, W]) in, the same shape out."""

    def forward(self, x: Tensor) -> Tensor:
        """y = x + bias + weight * x * n, n = g / (mean of g over channels + eps), g = L2 norm of x over H and W."""
        weight, bias = self.weight.view(self.wb_shape), self.bias.view(self.wb_shape)
        return _Normalize.apply(x, weight, bias, self.eps, self.spatial_dim, self.channel_dim)


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, spatial: tuple[int, int], channel: int
    ) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)  # sums over a whole map
        norm = _sum_of_products(x, x, spatial, wide).sqrt()  # [N, 1, 1, C]
        mean = norm.mean(channel, keepdim=True) + eps  # [N, 1, 1, 1]
        scale = 1 + weight * (norm / mean)
        ctx.save_for_backward(x, weight, norm, mean, scale)
        ctx.spatial, ctx.channel = spatial, channel
        return torch.addcmul(bias.to(x.dtype), x, scale.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, norm, mean, scale = ctx.saved_tensors
        along = _sum_of_products(grad, x, ctx.spatial, norm.dtype)  # [N, 1, 1, C]: of `scale`
        of_bias = grad.sum((0, *ctx.spatial), keepdim=True, dtype=norm.dtype)
        of_weight = (along * (norm / mean)).sum(0, keepdim=True)
        of_n = along * weight
        of_mean = -(of_n * norm).sum(ctx.channel, keepdim=True) / mean**2
        of_norm = of_n / mean + of_mean / norm.shape[ctx.channel]
        inner = torch.where(norm > 0, of_norm / norm, 0.0)  # where a map is zero everywhere, its norm has no slope
        of_x = (grad * scale.to(grad.dtype)).addcmul_(x, inner.to(x.dtype))
        return of_x, of_weight, of_bias, None, None, None


def _sum_of_products(a: Tensor, b: Tensor, over: tuple[int, int], wide: torch.dtype) -> Tensor:
    """Sum of a * b over two dimensions, which are kept; torch's own vector_norm takes 2 to 9 times as long."""
    if a.dtype == torch.float16:  # whose range a product may leave
        a = a.to(wide)
    return (a * b).sum(over, keepdim=True, dtype=wide)


def replace(network: nn.Module) -> nn.Module:
    """`network` with every layer of timm's replaced in place by ours, parameters kept."""
    return swap(network, _ours)


def _ours(layer: nn.Module) -> ResponseNorm | None:
    if type(layer) is not GlobalResponseNorm:
        return None
    ours = ResponseNorm(len(layer.weight), layer.eps, channels_last=layer.channel_dim == -1)
    ours.weight, ours.bias = layer.weight, layer.bias
    return ours
