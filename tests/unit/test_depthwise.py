"""Gradients of depthwise convolutions and of RoIAlign against those of torch and torchvision."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torchvision.ops import MultiScaleRoIAlign

from retrace.config.network import DeepLabV3, FasterRcnn, Unet
from retrace.config.pretrain import Mae
from retrace.models.build import build
from retrace.models.layers import depthwise, roi_align
from retrace.models.layers.depthwise import DepthwiseConv2d
from retrace.models.layers.roi_align import RoIAlign
from retrace.models.mae import build_mae

WIDE, STRIDED, DILATED = (5, 1, 1), (3, 2, 1), (3, 1, 2)  # kernel, stride, dilation


def pair(kernel, stride, dilation, channels=6, bias=True):
    """torch's layer and ours with the same parameters."""
    padding = dilation * (kernel // 2)
    theirs = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias)
    return theirs, depthwise.replace(nn.Sequential(copy.deepcopy(theirs)))[0]


def gradients(layer, images, weights):
    """What the layer returns, and the gradients of its input and parameters."""
    layer.zero_grad()
    given = images.clone(memory_format=torch.preserve_format).requires_grad_()
    result = layer(given)
    (result.float() * weights).sum().backward()
    return [result, given.grad, *(parameter.grad for parameter in layer.parameters())]


def last(images):
    return images.contiguous(memory_format=torch.channels_last)


@given(
    kernel=st.sampled_from([3, 5, 7]),
    shape=st.sampled_from([(1, 1), (2, 1), (1, 2), (1, 3)]),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    count=st.integers(1, 3),
    bias=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_gradients_are_those_of_torch(kernel, shape, height, width, count, bias):
    theirs, ours = pair(kernel, *shape, bias=bias)
    images = last(torch.randn(count, 6, height, width))
    weights = torch.randn_like(theirs(images))
    for one, other in zip(gradients(theirs, images, weights), gradients(ours, images, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [WIDE, STRIDED, DILATED, (7, 1, 1), (5, 2, 1), (5, 1, 2)])
def test_bfloat16_under_autocast_is_close_to_float32(layout):
    theirs, ours = pair(*layout, channels=16)
    images = last(torch.randn(2, 16, 12, 20))
    weights = torch.randn_like(theirs(images))
    exact = gradients(theirs, images, weights)
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(ours, images, weights)
    assert half[0].dtype == torch.bfloat16 and ours.weight.grad.dtype == torch.float32
    for one, other in zip(exact, half, strict=True):
        assert (one - other).abs().max() < 0.02 * one.abs().max()


@pytest.mark.parametrize("layout", [WIDE, STRIDED, DILATED])
def test_the_gradient_against_finite_differences(layout):
    _, ours = pair(*layout, channels=2)
    images = last(torch.randn(1, 2, 5, 6, dtype=torch.float64)).requires_grad_()
    ours.double()
    assert torch.autograd.gradcheck(lambda x, *_: ours(x), (images, *ours.parameters()))


@pytest.mark.parametrize("layout", [WIDE, STRIDED, DILATED])
def test_it_is_ours_that_computes_a_gradient_and_torch_what_needs_none(layout):
    _, ours = pair(*layout)
    images = last(torch.randn(2, 6, 12, 12))
    assert "_Depthwise" in ours(images).grad_fn.name()
    ours.requires_grad_(False)
    assert ours(images).grad_fn is None
    contiguous = ours.requires_grad_(True)(torch.randn(2, 6, 12, 12))  # another layout has no fast kernels
    assert "Convolution" in contiguous.grad_fn.name()


def test_a_frozen_layer_still_passes_the_gradient_on():
    theirs, ours = pair(*WIDE)
    images, found = last(torch.randn(2, 6, 8, 8)), []
    for layer in (theirs.requires_grad_(False), ours.requires_grad_(False)):
        given = images.clone().requires_grad_()
        layer(given).square().sum().backward()
        found.append(given.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # fast as it is
        nn.Conv2d(8, 8, 5, padding=2, groups=4),
        nn.Conv2d(8, 16, 5, padding=2, groups=8),
        nn.Conv2d(8, 8, 5, padding=1, groups=8),
        nn.Conv2d(8, 8, 5, padding="same", groups=8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, stride=2, padding=2, dilation=2, groups=8),
        nn.Conv2d(8, 8, (3, 4), padding=(1, 2), groups=8),
    ],
)
def test_other_convolutions_stay_torchs(layer):
    assert type(depthwise.replace(nn.Sequential(layer))[0]) is nn.Conv2d


def test_replacing_keeps_parameters_and_draws_no_random_numbers():
    parent = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    weight = parent[0].weight
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert depthwise.replace(parent)[0].weight is weight and type(parent[0]) is DepthwiseConv2d
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)


def test_networks_have_them():
    def count(network, kind):
        return sum(isinstance(part, kind) for part in network.modules())

    atto, two = "convnextv2_atto", ["a", "b"]
    assert count(build(Unet(architecture="unet", encoder=f"tu-{atto}"), two), DepthwiseConv2d) == 12
    mobile = DeepLabV3(architecture="deeplabv3", encoder="mobilenet_v3_large")
    assert count(build(mobile, two), DepthwiseConv2d) == 8
    detector = build(FasterRcnn(architecture="fasterrcnn", encoder="mobilenet_v3_large_fpn"), two)
    assert count(detector, DepthwiseConv2d) == 8 and count(detector, RoIAlign) == 1
    sizes = {"input_size": (64, 64), "decoder_dim": 32, "decoder_depth": 2}
    mae = Mae(encoder=atto, **sizes, epochs=1, batch_size=2, optimizer={"name": "adamw", "lr": 1e-3})
    assert count(build_mae(mae), DepthwiseConv2d) == 14


def pooling(names, size=(64, 96)):
    return [kind(names, 3, 2) for kind in (MultiScaleRoIAlign, RoIAlign)]


def pooled(layer, maps, boxes, size, weights=None):
    """Pooled values, and the gradient of every map."""
    given = {name: level.clone().requires_grad_() for name, level in maps.items()}
    result = layer(given, boxes, [size] * len(boxes))
    weights = torch.ones_like(result) if weights is None else weights[: len(result)]
    (result * weights).sum().backward()
    return [result, *(level.grad for level in given.values())]


def boxes_in(size, count, generator):
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 1.2
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)  # some reach out of the image


@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    strides=st.sampled_from([(8,), (8, 16), (4, 8, 16, 32)]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_pooling_and_its_gradient_are_torchvisions(counts, strides, seed):
    generator, size = torch.Generator().manual_seed(seed), (64, 96)
    sizes = {str(step): (len(counts), 5, size[0] // step, size[1] // step) for step in strides}
    maps = {name: torch.randn(shape, generator=generator) for name, shape in sizes.items()}
    boxes = [boxes_in(size, count, generator) for count in counts]
    weights = torch.randn(sum(counts), 5, 3, 3, generator=generator)
    theirs, ours = (pooled(layer, maps, boxes, size, weights) for layer in pooling(list(maps)))
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("at_once", "large"), [(1, 2**14), (2**24, 0)])
def test_a_few_boxes_at_a_time_and_large_maps_give_the_same(monkeypatch, at_once, large):
    monkeypatch.setattr(roi_align, "AT_ONCE", at_once)
    monkeypatch.setattr(roi_align, "LARGE", large)
    generator, size = torch.Generator().manual_seed(0), (64, 96)
    maps = {"a": torch.randn(2, 5, 8, 12, generator=generator), "b": torch.randn(2, 5, 4, 6, generator=generator)}
    boxes = [boxes_in(size, 7, generator) for _ in range(2)]
    theirs, ours = (pooled(layer, maps, boxes, size) for layer in pooling(list(maps)))
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_pooling_under_autocast_gives_gradients_of_the_maps_kind():
    generator, size = torch.Generator().manual_seed(0), (64, 96)
    maps = {"a": torch.randn(1, 4, 8, 12, generator=generator).bfloat16()}
    boxes = [boxes_in(size, 5, generator)]
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (pooled(layer, maps, boxes, size) for layer in pooling(["a"]))
    assert [part.dtype for part in ours] == [torch.bfloat16] * 2
    torch.testing.assert_close(theirs[0], ours[0], rtol=0, atol=0)
    torch.testing.assert_close(theirs[1], ours[1], rtol=0.02, atol=0.02)


def test_a_training_step_scatters_no_gradient():
    network = build(FasterRcnn(architecture="fasterrcnn", encoder="mobilenet_v3_large_320_fpn"), ["a"])
    images = [torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        sum(network(images, targets).values()).backward()
    names = {event.key for event in seen.key_averages()}
    assert "torchvision::roi_align" in names and "torchvision::_roi_align_backward" not in names


def test_a_network_learns_to_the_same_numbers_within_rounding():
    model = DeepLabV3(architecture="deeplabv3", encoder="mobilenet_v3_large")
    images, masks = last(torch.rand(2, 3, 64, 64)), torch.randint(0, 2, (2, 64, 64))
    found = []
    for keep in (False, True):
        torch.manual_seed(0)
        network = build(model, ["a", "b"]).to(memory_format=torch.channels_last)
        if keep:
            for part in network.modules():
                if isinstance(part, DepthwiseConv2d):
                    part.__class__ = nn.Conv2d
        torch.manual_seed(1)  # of dropout
        F.cross_entropy(network(images), masks).backward()
        found.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
