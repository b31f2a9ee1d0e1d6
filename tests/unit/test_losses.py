"""Segmentation losses against hand-computed cases and independent implementations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import DiceLoss
from sklearn.utils.class_weight import compute_class_weight

from retrace.config.phases import CrossEntropy, Ohem
from retrace.training.losses import build_loss, class_weights, cross_entropy, dice_loss, ohem_cross_entropy


def two_class(probabilities: list[float]) -> torch.Tensor:
    """Logits [1, 2, 1, n] whose softmax gives class 1 these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([(1 - p).log(), p.log()])[None, :, None].requires_grad_()


def target(labels: list[int]) -> torch.Tensor:
    return torch.tensor(labels)[None, None]


def nll(*probabilities: float) -> float:
    return sum(-math.log(p) for p in probabilities) / len(probabilities)


# probabilities of the true class: 0.9, 0.2, 0.6, 0.95; the pixel marked 255 would be the hardest
PROBABILITIES, LABELS = [0.9, 0.2, 0.4, 0.05, 0.01], [1, 1, 0, 0, 255]


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [
        (0.7, 0.1, [0.2, 0.6]),  # below the threshold
        (0.1, 0.1, [0.2]),  # none is: the hardest ceil(0.1 * 4) = 1
        (0.1, 0.5, [0.2, 0.6]),  # the hardest ceil(0.5 * 4) = 2
        (0.7, 0.51, [0.2, 0.6, 0.9]),  # ceil(0.51 * 4) = 3 although two are below
        (0.7, 1.0, [0.9, 0.2, 0.6, 0.95]),
        (1.0, 0.1, [0.9, 0.2, 0.6, 0.95]),
    ],
)
def test_ohem_keeps_the_hard_pixels(threshold, min_kept, kept):
    loss = ohem_cross_entropy(two_class(PROBABILITIES), target(LABELS), threshold, min_kept)
    assert loss.item() == pytest.approx(nll(*kept), rel=1e-6)


def test_ohem_gives_dropped_and_ignored_pixels_no_gradient():
    logits = two_class(PROBABILITIES)
    ohem_cross_entropy(logits, target(LABELS), 0.7, 0.1).backward()
    moved = logits.grad.abs().sum(dim=1)[0, 0] > 0
    assert moved.tolist() == [False, True, True, False, False]


def test_ohem_keeps_ties_and_weighs_by_class():
    loss = ohem_cross_entropy(two_class([0.8, 0.8, 0.9]), target([1, 1, 1]), 0.5, 0.3)
    assert loss.item() == pytest.approx(nll(0.8, 0.8))
    weights = torch.tensor([3.0, 1.0])
    loss = ohem_cross_entropy(two_class(PROBABILITIES), target(LABELS), 0.7, 0.1, weights)
    assert loss.item() == pytest.approx((1 * -math.log(0.2) + 3 * -math.log(0.6)) / 4, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.floats(0.01, 1.0))
def test_ohem_against_a_plain_loop(seed, threshold, min_kept):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 4, (2, 4, 5), generator=generator)
    labels[labels == 3] = 255
    probability = logits.softmax(1)
    true = sorted(
        probability[n, labels[n, y, x], y, x].item()
        for n in range(2) for y in range(4) for x in range(5) if labels[n, y, x] != 255
    )  # fmt: skip
    count = math.ceil(min_kept * len(true))
    kept = [p for index, p in enumerate(true) if p < threshold or index < count]
    expected = nll(*kept) if kept else 0.0
    assert ohem_cross_entropy(logits, labels, threshold, min_kept).item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_is_pytorchs_weighted_mean_and_zero_without_scored_pixels():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    weights = torch.tensor([0.5, 1.0, 4.0])
    ours, theirs = cross_entropy(logits, labels, weights), F.cross_entropy(logits, labels, weights, ignore_index=255)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    nothing = torch.full_like(labels, 255)
    scored = logits.requires_grad_()
    for loss in (
        cross_entropy(scored, nothing),
        ohem_cross_entropy(scored, nothing, 0.7, 0.1),
        dice_loss(scored, nothing),
    ):
        assert loss.item() == 0
        loss.backward()
    assert torch.isfinite(scored.grad).all() and scored.grad.abs().sum() == 0


def test_dice_against_segmentation_models_pytorch_and_only_over_present_classes():
    logits, labels = torch.randn(2, 3, 8, 9), torch.randint(0, 3, (2, 8, 9))
    labels[0, :2] = 255
    theirs = DiceLoss("multiclass", from_logits=True, ignore_index=255)(logits, labels.clone())
    assert dice_loss(logits, labels).item() == pytest.approx(theirs.item(), rel=1e-4)
    # hand: one present class with p = 0.5 everywhere: 1 - 2 * 0.5 n / (0.5 n + n) = 1/3; the absent one counts nothing
    assert dice_loss(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4).long()).item() == pytest.approx(1 / 3)


def test_class_weights():
    pixels = [700, 200, 100]
    labels = [0] * 700 + [1] * 200 + [2] * 100
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert class_weights(pixels, "inverse", 100).tolist() == pytest.approx(balanced.tolist(), rel=1e-6)
    roots = class_weights(pixels, "sqrt_inverse", 100)
    assert (roots[2] / roots[0]).item() == pytest.approx(math.sqrt(7))
    assert sum(w * n for w, n in zip(roots.tolist(), pixels, strict=True)) == pytest.approx(1000, rel=1e-6)
    assert class_weights([10_000, 1, 0], "inverse", 10).tolist()[1:] == [10.0, 1.0]
    assert class_weights(pixels, "none", 10) is None


def test_build_loss_adds_its_parts():
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    plain = build_loss(CrossEntropy(), [1, 1, 1])(logits, labels)
    assert list(plain) == ["loss"]
    both = build_loss(Ohem(name="ohem", dice=0.5), [1, 1, 1])(logits, labels)
    assert list(both) == ["loss", "ohem", "dice"]
    assert both["loss"].item() == pytest.approx((both["ohem"] + 0.5 * both["dice"]).item())
    weighted = build_loss(CrossEntropy(class_weights="inverse"), [800, 100, 100])(logits, labels)
    assert weighted["loss"].item() != plain["loss"].item()
