"""Masked autoencoders against hand-computed numbers, independent formulas and the promise that hidden is hidden."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrace.config.pretrain import Mae
from retrace.errors import UserError
from retrace.models.encoders import sincos_positions
from retrace.models.mae import (
    build_mae,
    masked_block,
    normalize_patches,
    patchify,
    random_mask,
    reconstruction_loss,
    unpatchify,
)


def mae(encoder: str, size=(64, 96), dim=32, **changes) -> nn.Module:
    torch.manual_seed(0)
    block = {"encoder": encoder, "input_size": size, "decoder_dim": dim, "epochs": 1, "batch_size": 1}
    return build_mae(Mae(**block, optimizer={"lr": 1e-3}, **changes)).eval()


def test_loss_of_a_hand_computed_case():
    # one gray image (three equal colors) of two patches of 2 x 2 pixels
    left, right = [[0.0, 0.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 5.0]]
    plane = torch.tensor([left[0] + right[0], left[1] + right[1]])
    images = plane.expand(1, 3, 2, 4)
    # left: 12 numbers, mean 1, each 1 off: unbiased variance 12 / 11; right: mean 2, nine of -1 and three of 3: 36 / 11
    spread = (36 / 11 + 1e-6) ** 0.5
    prediction = torch.zeros(1, 2, 12)
    prediction[0, 1] = 0.5
    expected_right = (9 * (0.5 + 1 / spread) ** 2 + 3 * (0.5 - 3 / spread) ** 2) / 12
    expected_left = 1 / (12 / 11 + 1e-6)
    hidden = torch.tensor([[False, True]])
    assert float(reconstruction_loss(prediction, images, hidden, 2)) == pytest.approx(expected_right, rel=1e-5)
    both = torch.tensor([[True, True]])
    expected = (expected_left + expected_right) / 2
    assert float(reconstruction_loss(prediction, images, both, 2)) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_prediction_has_no_loss_and_visible_patches_do_not_count():
    images = torch.randn(2, 3, 64, 64)
    masked = torch.stack([random_mask(4, 0.5, seed) for seed in (1, 2)])
    target, mean, spread = normalize_patches(patchify(images, 32))
    assert torch.allclose(target * spread + mean, patchify(images, 32), atol=1e-5)
    assert float(reconstruction_loss(target, images, masked, 32)) == 0.0
    worse = torch.where(masked[..., None], target, target + 7)
    assert float(reconstruction_loss(worse, images, masked, 32)) == 0.0
    assert float(reconstruction_loss(target + 1, images, masked, 32)) == pytest.approx(1.0, rel=1e-4)


def test_patches_are_row_by_row_and_unpatchify_inverts():
    images = torch.arange(2 * 3 * 4 * 6).float().reshape(2, 3, 4, 6)
    patches = patchify(images, 2)
    for n in range(2):
        for number in range(6):
            row, column = divmod(number, 3)
            block = images[n, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = [float(block[c, p, q]) for p in range(2) for q in range(2) for c in range(3)]
            assert patches[n, number].tolist() == expected
    assert torch.equal(unpatchify(patches, 2, (4, 6)), images)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**63 - 1))
def test_mask_hides_the_asked_share_and_always_leaves_something(patches, ratio, seed):
    mask = random_mask(patches, ratio, seed)
    assert mask.shape == (patches,)
    assert 1 <= int(mask.sum()) <= patches - 1
    assert abs(int(mask.sum()) - ratio * patches) <= 1
    assert torch.equal(mask, random_mask(patches, ratio, seed))


def test_masks_of_different_seeds_differ_and_cover_every_patch_alike():
    masks = torch.stack([random_mask(20, 0.6, seed) for seed in range(2000)]).float()
    assert torch.all(masks.sum(1) == 12)
    assert torch.all((masks.mean(0) - 0.6).abs() < 0.05)


def test_hidden_pixels_reach_no_visible_feature_and_no_prediction():
    model = mae("convnextv2_atto")
    _wake(model)
    images = torch.randn(2, 3, 64, 96)
    masked = torch.stack([random_mask(6, 0.5, seed) for seed in (3, 4)])
    hidden = masked.reshape(2, 1, 2, 3).repeat_interleave(32, 2).repeat_interleave(32, 3)
    other = torch.where(hidden, torch.randn_like(images) * 9, images)
    with torch.no_grad():
        before, after = model.features(images, masked), model.features(other, masked)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert torch.equal(model(images, masked), model(other, masked))
        for feature in before:  # zero where hidden, something where visible
            scale = 64 // feature.shape[-2]
            where = hidden[:, :, ::scale, ::scale].expand_as(feature)
            assert not feature[where].any()
            assert feature[~where].abs().mean() > 0
        visible = torch.where(hidden, images, images + 1)
        assert not torch.equal(before[-1], model.features(visible, masked)[-1])


def test_nothing_hidden_is_the_encoder_itself():
    model = mae("convnextv2_atto")
    _wake(model)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours = model.features(images, torch.zeros(1, 6, dtype=torch.bool))[-1]
        assert torch.allclose(ours, model.encoder.forward_features(images), atol=1e-5)


def test_block_on_visible_positions_against_a_sparse_reference():
    model = mae("convnextv2_atto")
    _wake(model)
    block = model.encoder.stages[0].blocks[0]
    shown = torch.zeros(1, 1, 6, 6)
    shown[..., :3, 2:] = 1
    x = torch.randn(1, 40, 6, 6) * shown
    with torch.no_grad():
        ours = masked_block(block, x, shown)[0]
        weight, bias = block.conv_dw.weight, block.conv_dw.bias
        places = [(i, j) for i in range(6) for j in range(6) if shown[0, 0, i, j]]
        hidden = {}
        for i, j in places:  # the convolution at existing places, from existing places
            near = [(a, b) for a, b in places if abs(a - i) <= 3 and abs(b - j) <= 3]
            y = bias + sum(weight[:, 0, a - i + 3, b - j + 3] * x[0, :, a, b] for a, b in near)
            y = (y - y.mean()) / (y.var(unbiased=False) + block.norm.eps).sqrt() * block.norm.weight + block.norm.bias
            y = block.mlp.fc1.weight.flatten(1) @ y + block.mlp.fc1.bias
            hidden[i, j] = torch.nn.functional.gelu(y)
        response = torch.stack(list(hidden.values())).square().sum(0).sqrt()  # over visible places only
        response = response / (response.mean() + 1e-6)
        grn = block.mlp.grn
        for i, j in places:
            y = hidden[i, j]
            y = y + grn.weight * (y * response) + grn.bias
            y = block.mlp.fc2.weight.flatten(1) @ y + block.mlp.fc2.bias
            assert torch.allclose(ours[:, i, j], x[0, :, i, j] + y, atol=1e-4)


def test_vit_encodes_a_quarter_of_the_patches_and_nothing_else():
    model = mae("vit_tiny_patch16_224", size=(64, 64), mask_ratio=0.75)
    seen = []
    model.encoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    images = torch.randn(2, 3, 64, 64)
    masked = torch.stack([random_mask(16, 0.75, seed) for seed in (5, 6)])
    with torch.no_grad():
        prediction = model(images, masked)
    assert prediction.shape == (2, 16, 16 * 16 * 3)
    assert seen == [(2, 1 + 4, 192)]  # class token and 4 of 16 patches
    hidden = masked.reshape(2, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    other = torch.where(hidden, torch.randn_like(images) * 9, images)
    with torch.no_grad():
        assert torch.equal(prediction, model(other, masked))
        assert not torch.equal(prediction, model(torch.where(hidden, images, images + 1), masked))


def test_vit_puts_every_token_back_in_its_place(monkeypatch):
    model = mae("vit_tiny_patch16_224", size=(32, 48), mask_ratio=0.5)
    masked = torch.tensor([[True, False, True, True, False, False], [False, True, False, True, True, False]])
    monkeypatch.setattr(model, "encode", lambda images, visible: _tokens(visible, 32))
    model.project = nn.Identity()
    received = []
    model.decoder[0].register_forward_pre_hook(lambda _, given: received.append(given[0]))
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 48), masked)
        patches = received[0][:, 1:] - sincos_positions(2, 3, 32)
    for n in range(2):
        for number in range(6):
            expected = model.mask_token[0, 0] if masked[n, number] else torch.full((32,), 100.0 + number)
            assert torch.allclose(patches[n, number], expected, atol=1e-4)


def test_positions_against_the_formula():
    ours = sincos_positions(2, 3, 8).numpy()
    for row in range(2):
        for column in range(3):
            expected = []
            for place in (column, row):
                angles = [place / 10000 ** (i / 2) for i in range(2)]
                expected += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
            assert np.allclose(ours[row * 3 + column], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"encoder": "convnextv2_atto", "size": (64, 100)}, r"multiples of 32 .* nearest: \[64, 96\]"),
        ({"encoder": "vit_tiny_patch16_224", "size": (60, 64)}, "multiples of 16"),
        ({"encoder": "vit_tiny_patch16_224", "dim": 40}, "must be a multiple of 32"),
        ({"encoder": "convnextv2_atto", "size": (32, 32)}, "at least two patches"),
        ({"encoder": "resnet18"}, r"allowed: ConvNeXt-V2 \(convnextv2_\*\) and ViT"),
        ({"encoder": "convnextv2_attto"}, "did you mean convnextv2_atto"),
    ],
)
def test_unfit_parameters_are_refused_in_one_line(block, text):
    with pytest.raises(UserError, match=text):
        mae(**block)


def _tokens(visible: torch.Tensor, channels: int) -> torch.Tensor:
    """A prefix token and tokens that hold 100 + their patch's number."""
    tokens = (100.0 + visible)[..., None].expand(-1, -1, channels)
    return torch.cat([torch.zeros(len(visible), 1, channels), tokens], dim=1)


def _wake(model: nn.Module) -> None:
    """Random numbers where timm starts from zero or one, so that every part of a block matters."""
    for name, parameter in model.encoder.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.5)
