"""Frozen BatchNorm that keeps half precision: the layer of torchvision multiplies by float32 buffers on every device.

Behind torchvision's layer half maps are float32 maps, which doubles the memory and the time of all that follows. Here
an accelerator normalizes in the maps' own precision with float32 statistics, and keeps no map for the gradient, which
is the same scaling of the gradient. On a CPU the values are torchvision's, bit for bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchvision.ops import FrozenBatchNorm2d


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's layer and buffers: [N, C, H, W] in, the same shape out."""

    def forward(self, x: Tensor) -> Tensor:
        """y = (x - running_mean) / sqrt(running_var + eps) * weight + bias."""
        if x.device.type == "cpu":
            return super().forward(x)
        return Normalize.apply(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)


class Normalize(torch.autograd.Function):
    """(x [N, C, H, W], mean, variance, weight, bias [C] each, eps) -> [N, C, H, W]; the gradient is that of x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(mean, variance, weight, bias)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mean, variance, weight, bias = ctx.saved_tensors
        zero = torch.zeros_like(mean)
        of_x = F.batch_norm(grad, zero, variance, weight, torch.zeros_like(bias), False, 0.0, ctx.eps)
        return of_x, None, None, None, None, None
