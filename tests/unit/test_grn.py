"""Our global response normalization against timm's layer and against finite differences."""

import pytest
import torch
from timm.layers.grn import GlobalResponseNorm

from retrace.config.network import Unet
from retrace.config.pretrain import Mae
from retrace.models.build import build
from retrace.models.layers.grn import ResponseNorm, replace
from retrace.models.mae import build_mae

ENCODER = "convnextv2_atto"


def layers(channels_last=True, channels=5, dtype=torch.float64):
    """timm's layer and ours with the same random parameters."""
    theirs = GlobalResponseNorm(channels, channels_last=channels_last).to(dtype)
    torch.manual_seed(1)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.bias)
    ours = ResponseNorm(channels, channels_last=channels_last).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("channels_last", [True, False])
def test_values_and_gradients_are_those_of_timm(channels_last):
    images = torch.randn(3, 4, 6, 5) if channels_last else torch.randn(3, 5, 4, 6)
    weights, found = torch.randn_like(images), []
    for layer in layers(channels_last, dtype=torch.float32):
        given = images.clone().requires_grad_()
        (layer(given) * weights).sum().backward()
        found.append((layer(given), given.grad, layer.weight.grad, layer.bias.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_against_finite_differences():
    _, layer = layers()
    images = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (images, layer.weight, layer.bias))


def test_a_map_of_zeros_has_no_gradient_through_its_norm():
    images = torch.randn(2, 3, 4, 5)
    images[1, ..., 2] = 0
    grads = []
    for layer in layers(dtype=torch.float32):
        given = images.clone().requires_grad_()
        layer(given).square().sum().backward()
        grads.append(given.grad)
    assert torch.isfinite(grads[1]).all()
    torch.testing.assert_close(*grads)


def test_bfloat16_stays_bfloat16_and_close_to_float32():
    _, layer = layers(dtype=torch.float32)
    images = torch.randn(2, 8, 8, 5)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(images.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(images), rtol=0.02, atol=0.02)


def test_networks_have_it_with_timms_names_and_start():
    torch.manual_seed(0)
    ours = build(Unet(architecture="unet", encoder=f"tu-{ENCODER}"), ["a", "b"])
    assert sum(isinstance(part, ResponseNorm) for part in ours.modules()) == 12
    assert all(type(part) is not GlobalResponseNorm for part in ours.modules())
    assert "network.encoder.model.stages_0.blocks.0.mlp.grn.weight" in ours.state_dict()
    sizes = {"input_size": (64, 64), "decoder_dim": 32, "decoder_depth": 2}
    optimizer = {"name": "adamw", "lr": 1e-3}
    mae = build_mae(Mae(encoder=ENCODER, **sizes, epochs=1, batch_size=2, optimizer=optimizer))
    assert sum(isinstance(part, ResponseNorm) for part in mae.modules()) == 14


def test_replacing_keeps_the_parameters_themselves():
    parent = torch.nn.Sequential(GlobalResponseNorm(4))
    weight = parent[0].weight
    assert replace(parent)[0].weight is weight
