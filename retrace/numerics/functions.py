"""Functions of one number that give the same bits on every processor, in place of those of Intel's MKL.

PyTorch hands contiguous float tensors on a CPU to MKL's vector library. Six of its functions start from the processor's
approximate reciprocals, which AMD and Intel compute differently, whatever MKL_CBWR says (a fifth of its square roots
are not the correctly rounded ones). The square root comes from NumPy instead, that is from the processor's own
instruction, which IEEE 754 defines to the last bit; the others are composed of functions that the probe has shown to
be the same everywhere, in float64. Gradients stay PyTorch's formulas.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def _cosine_of_arcsine(x: Tensor) -> Tensor:
    return _square_root((1 - x) * (1 + x))


def _square_root(x: Tensor) -> Tensor:
    with np.errstate(invalid="ignore"):  # a negative number gives NaN, as in PyTorch
        return torch.from_numpy(np.asarray(np.sqrt(x.resolve_conj().resolve_neg().numpy())))


REPLACED: dict[str, Callable[[Tensor], Tensor]] = {  # name -> the function for float64 tensors
    "sqrt": _square_root,
    "atan": lambda x: torch.atan2(x, torch.ones_like(x)),
    "asin": lambda x: torch.atan2(x, _cosine_of_arcsine(x)),
    "acos": lambda x: torch.atan2(_cosine_of_arcsine(x), x),
    "tan": lambda x: x.sin() / x.cos(),
    "log10": lambda x: x.log() / math.log(10),
}


@functools.cache
def replace() -> torch.library.Library:
    """Replace these functions, their variants in place and with `out`, and powers of one half, for CPU tensors.

    For this process and for good: the cache keeps the returned library alive, whose end would take the kernels back.
    """
    library = torch.library.Library("aten", "IMPL")
    for name in REPLACED:
        kernels: dict[str, Callable] = {
            name: functools.partial(_functional, name),
            f"{name}_": functools.partial(_in_place, name),
            f"{name}.out": functools.partial(_with_out, name),
        }
        if name == "sqrt":
            kernels |= {"pow.Tensor_Scalar": _power, "pow_.Scalar": lambda x, power: x.copy_(_power(x, power))}
        for overload, kernel in kernels.items():
            library.impl(overload, kernel, "CPU", allow_override=True)
    return library


def _functional(name: str, x: Tensor) -> Tensor:
    """The function of a CPU tensor [*]; integers give the default float type, as in PyTorch."""
    dtype = x.dtype if x.is_floating_point() or x.is_complex() else torch.get_default_dtype()
    return _fill(torch.empty_like(x, dtype=dtype), name, x)


def _in_place(name: str, x: Tensor) -> Tensor:
    return _fill(x, name, x)


def _with_out(name: str, x: Tensor, *, out: Tensor) -> Tensor:
    if out.shape != x.shape:
        out.resize_(x.shape)
    return _fill(out, name, x)


def _fill(out: Tensor, name: str, x: Tensor) -> Tensor:
    source, function = x.detach(), REPLACED[name]
    # a float32 square root needs no wider arithmetic; complex numbers keep theirs
    kept = source.is_complex() or (name == "sqrt" and source.dtype == torch.float32)
    out.detach().copy_(function(source if kept else source.double()))
    return out


def _power(x: Tensor, exponent: float) -> Tensor:
    if exponent == 0.5:
        return _functional("sqrt", x)
    return torch.pow(x, exponent, out=torch.empty_like(x, dtype=torch.result_type(x, exponent)))
