"""Private interfaces of PyTorch."""

import torch
from torch import Tensor


def linear_by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a [N, K] times b [M, K] transposed, plus bias [M]: float32 [N, M], on a CPU, by oneDNN.

    Public functions leave it to PyTorch which library computes a product, and for float32 that is MKL.
    """
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
