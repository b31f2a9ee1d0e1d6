"""What a GPU would run: layers, and what is read from the device, on fake tensors or by the same functions on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torchvision.ops import FrozenBatchNorm2d, poolers

from retrace.compat import torchvision as compat_torchvision
from retrace.compat.fakes import FakeTensorMode, TorchDispatchMode
from retrace.config.network import DeepLabV3
from retrace.config.phases import Loss
from retrace.config.pretrain import Mae
from retrace.models.build import build
from retrace.models.layers import bilinear, depthwise, roi_align
from retrace.models.layers.frozen_norm import FrozenNorm, Normalize
from retrace.models.layers.roi_align import RoIAlign
from retrace.models.mae import build_mae
from retrace.training.losses import build_loss, scored_weight


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
        self.names, self.copies = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.names.append(operation.overloadpacket.__name__)
        given = [part for part in args if torch.is_tensor(part)]
        self.copies += bool(given) and torch.is_tensor(result) and given[0].device != result.device
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


@pytest.mark.parametrize(("old", "new"), [((5, 7), (40, 63)), ((9, 8), (4, 3)), ((1, 6), (3, 6)), ((3, 4), (3, 4))])
@pytest.mark.parametrize("align", [True, False])
def test_resizing_by_products_is_torchs_in_value_and_gradient(old, new, align):
    x = torch.randn(2, 3, *old).requires_grad_()
    expected = F.interpolate(x, size=new, mode="bilinear", align_corners=align)
    found = bilinear.by_products(x, new, align)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    theirs, ours = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (expected, found))
    torch.testing.assert_close(ours, theirs)


def test_on_a_gpu_deeplab_trains_without_torchs_resizing(strict):
    with FakeTensorMode(), Operations() as seen:
        with torch.device("cuda"):
            network = build(DeepLabV3(architecture="deeplabv3", encoder="mobilenet_v3_large"), ["a", "b"])
        del seen.names[:]
        logits = network(torch.empty(2, 3, 64, 64, device="cuda"))
    assert logits.shape == (2, 2, 64, 64) and logits.requires_grad
    assert not [name for name in seen.names if "upsample" in name or "index" in name]
    assert "bmm" in seen.names or "mm" in seen.names


def test_on_a_cpu_deeplab_computes_torchvisions_bits():
    from torchvision.models import segmentation as tv

    torch.manual_seed(0)
    ours = build(DeepLabV3(architecture="deeplabv3", encoder="mobilenet_v3_large"), ["a", "b"]).eval()
    theirs = tv.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2, aux_loss=False).eval()
    theirs.load_state_dict(ours.network.state_dict())
    depthwise.replace(theirs)
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(ours(images), theirs(images)["out"])


READS = {"_local_scalar_dense", "nonzero", "masked_select", "bincount"}  # operations that wait for the device


@pytest.mark.parametrize("name", ["ohem", "cross_entropy"])
def test_a_loss_reads_nothing_from_the_device(name):
    params = TypeAdapter(Loss).validate_python({"name": name, "class_weights": "inverse"})
    compute, amount = build_loss(params, [5, 7, 3]), scored_weight(params, [5, 7, 3])
    with FakeTensorMode(allow_non_fake_inputs=True), Operations() as seen:
        target = torch.zeros(2, 8, 8, dtype=torch.uint8, device="cuda")
        for _ in range(2):
            seen.names, seen.copies = [], 0
            compute(torch.zeros(2, 3, 8, 8, device="cuda"), target)
            amount(target)
    assert not READS & set(seen.names) and "_to_copy" in seen.names
    assert seen.copies == 0, "constants are copied in the first step only"


def test_a_masked_autoencoder_counts_no_patches_on_the_device():
    block = {"encoder": "vit_tiny_patch16_224", "input_size": (64, 64), "decoder_dim": 32, "decoder_depth": 1}
    model = build_mae(Mae(**block, epochs=1, batch_size=2, optimizer={"name": "adamw", "lr": 1e-3})).to("meta")
    with Operations() as seen:
        model(torch.empty(2, 3, 64, 64, device="meta"), torch.empty(2, 16, dtype=torch.bool, device="meta"))
    assert not READS & set(seen.names)
