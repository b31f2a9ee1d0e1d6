"""Memory and time of a training step on a GPU that is not there: storages that live, and a roofline over operations.

Fake tensors have a size and a device but no numbers, so that a step of any batch size takes seconds on a CPU. The peak
is that of the tensors; PyTorch's allocator and CUDA itself take more (`benchmarks.gpu.computed`).
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from retrace.compat.fakes import FakeTensorMode, TorchDispatchMode
from retrace.data import transforms
from retrace.models.layers import bilinear, depthwise, frozen_norm
from retrace.models.layers.constants import Constants
from retrace.training import losses

MIB = 2**20
# what a T4 reaches of its 65 TFLOP/s in half and 8.1 in single precision, and of its 320 GB/s; a launch takes as long
HALF, SINGLE, BANDWIDTH, LAUNCH = 25e12, 5e12, 240e9, 6e-6
BLOCK = 512  # bytes that the allocator rounds up to
NOT_RUN = ("detach", "alias", "empty", "empty_like", "empty_strided", "_reshape_alias")


@dataclass(frozen=True)
class Step:
    """What a step takes: MiB held before it, MiB at its peak on top, and seconds on a T4."""

    static_mib: int
    peak_mib: int
    seconds: float

    @property
    def total_mib(self) -> int:
        """MiB of all tensors at the peak."""
        return self.static_mib + self.peak_mib


class Counter(TorchDispatchMode):
    """Bytes of the storages that were made inside and are alive, their peak, and the time of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seconds = 0.0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
        made = [part for part in tree_leaves(result) if isinstance(part, Tensor)]
        for tensor in made:
            self._hold(tensor)
        runs = func.namespace != "prim" and not func.is_view and func.overloadpacket.__name__ not in NOT_RUN
        if runs:
            self.seconds += _seconds(func, args, kwargs or {}, given, made, result)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def _seconds(func: Any, args: tuple, kwargs: dict, given: list[Tensor], made: list[Tensor], result: Any) -> float:
    """The larger of computing and moving, and the launch."""
    moved = sum(part.numel() * part.element_size() for part in given + made)
    name, count = func.overloadpacket.__name__, flop_registry.get(func.overloadpacket)
    flops = count(*args, **kwargs, out_val=result) if count else 0
    if name.startswith("convolution"):
        groups = args[8] if name == "convolution" else args[9]
        if groups > 8:  # depthwise kernels reach half of the bandwidth
            flops, moved = 0, 2 * moved
    half = any(part.dtype in (torch.float16, torch.bfloat16) for part in given)
    return max(flops / (HALF if half else SINGLE), moved / BANDWIDTH) + LAUNCH


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Inside the block fake CPU tensors take the layers and the types of a GPU.

    PyTorch needs a driver for autocast on fake CUDA tensors. On a CPU autocast computes in bfloat16, which has as many
    bytes as float16; the layers of ours that ask for the device are told that it is another.
    """
    with ExitStack() as stack:
        for owner, name, replacement in (
            (F, "layer_norm", _layer_norm),  # CUDA's autocast takes it in float32
            (frozen_norm.FrozenNorm, "forward", _frozen),
            (bilinear, "resize", bilinear.by_products),
            (bilinear, "_MATRICES", Constants()),  # fake ones, which nobody else may meet
            (transforms, "_colors", transforms._colors.__wrapped__),
            (depthwise.DepthwiseConv2d, "forward", nn.Conv2d.forward),
            (losses, "_hardest", _hardest),
        ):
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield


_plain_layer_norm = F.layer_norm


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    parts = [None if part is None else part.float() for part in (weight, bias)]
    return _plain_layer_norm(x.float(), shape, *parts, eps)


def _frozen(layer: frozen_norm.FrozenNorm, x: Tensor) -> Tensor:
    normalized: Tensor = frozen_norm.Normalize.apply(
        x, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps
    )
    return normalized


def _hardest(hardness: Tensor, scored: Tensor, min_kept: float) -> Tensor:
    return hardness.sort(descending=True).values[0]


def measure(model: nn.Module, loss: Callable[[nn.Module], Tensor], states: int, accumulate: int = 1) -> Step:
    """One optimizer step.

    model: on the CPU; its tensors are replaced. loss: computes the scalar to minimize, inside the fake mode. states:
    numbers that the optimizer, and a weight average, keep for each trained one.
    """
    parameters = list(model.parameters())
    trained = sum(part.numel() for part in parameters if part.requires_grad)
    static = sum(part.numel() * part.element_size() for part in [*parameters, *model.buffers()])
    passes = min(accumulate, 2)  # the second batch meets the gradients of the first
    with as_on_a_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        _replace(model)
        counter = Counter()
        with counter:
            for _ in range(passes):
                loss(model).backward()
    seconds = counter.seconds / passes * accumulate + trained * 4 * (4 + states) / BANDWIDTH
    return Step(round((static + 4 * states * trained) / MIB), round(counter.peak / MIB), seconds)


def _replace(model: nn.Module) -> None:
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_empty(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = _empty(buffer)


def _empty(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
