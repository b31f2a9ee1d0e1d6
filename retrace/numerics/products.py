"""Matrix products of float32 on a CPU by oneDNN, as the convolutions are, in place of MKL's.

MKL gives the same bits on AMD and Intel processors only in its compatible mode, which does without AVX2 and takes
several times as long. oneDNN's AVX2 kernels add up in one order on all of them (docs/numerics.md). Linear layers and
their gradients come down to these two operations; gradients stay PyTorch's formulas.
"""

import functools

import torch
from torch import Tensor

from retrace.compat.pytorch import linear_by_onednn


@functools.cache
def replace() -> torch.library.Library:
    """Replace `mm` and `addmm`, with `out` too, for CPU tensors; for this process and for good, see `functions`."""
    library = torch.library.Library("aten", "IMPL")
    kernels = {
        "mm": product,
        "mm.out": lambda a, b, *, out: _fill(out, product(a, b)),
        "addmm": product_and_sum,
        "addmm.out": lambda x, a, b, *, out, **factors: _fill(out, product_and_sum(x, a, b, **factors)),
    }
    for overload, kernel in kernels.items():
        library.impl(overload, kernel, "CPU", allow_override=True)
    return library


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [N, K] times b [K, M]: [N, M]. Only float32 goes to oneDNN; the rest is MKL's, as a batch of one."""
    return _linear(a, b, None) if _fits(a, b) else torch.bmm(a[None], b[None])[0]


def product_and_sum(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a [N, K] times b [K, M]), where x is broadcast to [N, M], e.g. the bias [M] of a layer."""
    if x.dim() == 1 and x.dtype == torch.float32 and len(x) == b.shape[1] and (beta, alpha) == (1, 1) and _fits(a, b):
        return _linear(a, b, x.contiguous())
    result = product(a, b)
    if alpha != 1:
        result = result * alpha
    return result if beta == 0 else result + (x if beta == 1 else x * beta)  # x may be NaN where beta is 0


def _fits(a: Tensor, b: Tensor) -> bool:
    matrices = a.dim() == b.dim() == 2 and a.shape[1] == b.shape[0]
    return matrices and a.dtype == b.dtype == torch.float32 and a.numel() > 0 and b.numel() > 0


def _linear(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return linear_by_onednn(a, b.t(), bias)


def _fill(out: Tensor, result: Tensor) -> Tensor:
    if out.shape != result.shape:
        out.resize_(result.shape)
    return out.copy_(result)
