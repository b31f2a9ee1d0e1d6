"""What a GPU would run: layers, optimizer and reads of the device, on fake tensors or by the same functions on a CPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import FrozenBatchNorm2d, poolers

from retrace.compat import torchvision as compat_torchvision
from retrace.models.layers import roi_align
from retrace.models.layers.frozen_norm import FrozenNorm, Normalize
from retrace.models.layers.roi_align import RoIAlign


@pytest.fixture
def strict():
    """Deterministic algorithms only, as every stage asks for."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Operations(TorchDispatchMode):
    """The names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.names.append(operation.overloadpacket.__name__)
        return result


def boxes_in(height, width, count, generator):
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height]) * 1.2
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)  # some reach out of the image


@pytest.mark.parametrize("at_once", [1, 2000, 2**24])
@pytest.mark.parametrize("shape", [(2, 5, 16, 24), (2, 5, 160, 130)])
def test_the_gradient_by_rows_is_torchvisions_for_maps_of_any_size(monkeypatch, at_once, shape):
    monkeypatch.setattr(roi_align, "AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 2, (23, 1), generator=generator).sort(0).values
    rois = torch.cat([image.float(), boxes_in(shape[2] * 4, shape[3] * 4, 23, generator)], 1)
    grad = torch.randn(23, 5, 3, 3, generator=generator)
    theirs = compat_torchvision.roi_align_backward(grad, rois, 0.25, 2, shape)
    torch.testing.assert_close(roi_align.by_rows(grad, rois, 0.25, 2, shape), theirs, rtol=1e-4, atol=1e-4)
    assert not roi_align.by_rows(grad[:0], rois[:0], 0.25, 2, shape).any()


def test_the_gradient_by_rows_scatters_nothing():
    rois, grad = torch.tensor([[0.0, 2, 2, 30, 30], [1, 5, 5, 9, 9]]), torch.ones(2, 3, 7, 7)
    with Operations() as seen:
        roi_align.by_rows(grad, rois, 0.25, 2, (2, 3, 200, 200))
    assert "addmm_" in seen.names
    assert not [name for name in seen.names if "index_put" in name or "scatter" in name or "backward" in name]


@pytest.mark.parametrize("training", [True, False])
def test_pooling_takes_the_kernel_and_not_torchvisions_compiled_version(strict, monkeypatch, training):
    asked, kernel = [], poolers.roi_align

    def spy(*args, **kwargs):
        asked.append(torch.are_deterministic_algorithms_enabled())  # what torchvision looks at on a GPU
        return kernel(*args, **kwargs)

    monkeypatch.setattr(poolers, "roi_align", spy)
    maps = {name: torch.zeros(2, 4, size, size, requires_grad=training) for name, size in (("a", 16), ("b", 8))}
    RoIAlign(["a", "b"], 7, 2)(maps, [torch.tensor([[0.0, 0, 9, 9]])] * 2, [(64, 64)] * 2)
    assert asked == [False, False] and torch.are_deterministic_algorithms_enabled()


def frozen(kind, generator):
    layer = kind(6, eps=0.0)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(layer, name).copy_(torch.rand(6, generator=generator) + 0.1)
    return layer


def test_frozen_norm_is_torchvisions_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    theirs = frozen(FrozenBatchNorm2d, generator)
    ours = FrozenNorm(6, eps=0.0)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 9, 7, generator=generator)
    assert torch.equal(ours(x), theirs(x)), "the same bits on a CPU"
    given, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    there = Normalize.apply(given, ours.running_mean, ours.running_var, ours.weight, ours.bias, ours.eps)
    expected, weights = theirs(other), torch.randn(2, 6, 9, 7, generator=generator)
    torch.testing.assert_close(there, expected)
    (there * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(given.grad, other.grad)


def test_frozen_norm_keeps_half_precision_and_no_map_on_a_gpu():
    layer = FrozenNorm(8).to("meta")  # any device that is no CPU
    x = torch.empty(2, 8, 4, 4, dtype=torch.float16, device="meta", requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part.shape) or part, lambda part: part):
        y = layer(x)
    y.sum().backward()
    assert y.dtype == torch.float16 and x.grad.dtype == torch.float16
    assert kept and all(len(shape) == 1 for shape in kept), "statistics only"
