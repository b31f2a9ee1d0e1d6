"""A square root for PyTorch on CPUs that gives the same bits on every processor.

PyTorch hands contiguous float tensors to the square root of Intel's MKL, which starts from the processor's approximate
reciprocal root: AMD and Intel differ, and a fifth of the results are not the correctly rounded ones. NumPy uses the
processor's own square root instruction, which IEEE 754 defines to the last bit. Gradients stay PyTorch's formulas.
"""

import functools

import numpy as np
import torch
from torch import Tensor


@functools.cache
def replace() -> torch.library.Library:
    """Replace `sqrt`, `sqrt_`, `sqrt(out=)` and powers of one half for CPU tensors, in this process and for good.

    The cache keeps the returned library alive: PyTorch takes its kernels back when it is collected.
    """
    library = torch.library.Library("aten", "IMPL")
    kernels = {
        "sqrt": root,
        "sqrt_": lambda x: _into(x, x),
        "sqrt.out": lambda x, *, out: _into(x, out),
        "pow.Tensor_Scalar": _power,
        "pow_.Scalar": lambda x, exponent: x.copy_(_power(x, exponent)),
    }
    for name, kernel in kernels.items():
        library.impl(name, kernel, "CPU", allow_override=True)
    return library


def root(x: Tensor) -> Tensor:
    """The square root of a CPU tensor [*], correctly rounded; integers give the default float type."""
    dtype = x.dtype if x.is_floating_point() or x.is_complex() else torch.get_default_dtype()
    return _into(x, torch.empty_like(x, dtype=dtype))


def _into(x: Tensor, out: Tensor) -> Tensor:
    """Write the square root of `x` into `out`, which takes its shape."""
    if out.shape != x.shape:
        out.resize_(x.shape)
    source, target = x.detach(), out.detach()
    if target.dtype in (torch.float32, torch.float64) and source.dtype == target.dtype:
        with np.errstate(invalid="ignore"):  # a negative number gives NaN, as in PyTorch
            np.sqrt(_array(source), out=_array(target))
    elif source.is_complex():
        target.copy_(torch.from_numpy(np.sqrt(np.asarray(_array(source)))))
    else:  # half precision is computed in float32 and rounded, as PyTorch does
        target.copy_(root(source.to(torch.float64 if target.dtype == torch.float64 else torch.float32)))
    return out


def _array(x: Tensor) -> np.ndarray:
    return x.resolve_conj().resolve_neg().numpy()


def _power(x: Tensor, exponent: float) -> Tensor:
    if exponent == 0.5:
        return root(x)
    dtype = torch.result_type(x, exponent)
    return torch.pow(x, exponent, out=torch.empty_like(x, dtype=dtype))
