"""Segmentation losses: cross-entropy, online hard example mining and Dice.

Cross-entropy is always taken with `reduction="none"` and reduced here: the reduced CUDA kernels are not deterministic,
and mining has to see every pixel anyway.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from retrace.config.phases import Loss, Ohem
from retrace.data.manifest import IGNORE
from retrace.models.layers.constants import Constants

SegmentationLoss = Callable[[Tensor, Tensor], dict[str, Tensor]]


def build_loss(params: Loss, pixels: Sequence[int]) -> SegmentationLoss:
    """The loss of a phase: (logits float [B, C, H, W], target uint8 [B, H, W]) -> {"loss", and its parts if several}.

    pixels: training pixels of each class, for the class weights.
    """
    weights, constants = class_weights(pixels, params.class_weights, params.max_class_weight), Constants()

    def loss(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        logits, target = logits.float(), target.long()
        pixel_weights = None if weights is None else constants.get(0, logits.device, lambda: weights)
        if isinstance(params, Ohem):
            main = ohem_cross_entropy(logits, target, params.ohem_threshold, params.ohem_min_kept, pixel_weights)
        else:
            main = cross_entropy(logits, target, pixel_weights)
        if not params.dice:
            return {"loss": main}
        overlap = dice_loss(logits, target)
        return {"loss": main + params.dice * overlap, params.name: main, "dice": overlap}

    return loss


def scored_weight(params: Loss, pixels: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Target uint8 [B, H, W] -> what the cross-entropy of a phase is a mean over, a scalar: its scored pixels' weights.

    Mining and Dice look at one process's share of a batch; their means over processes are weighted alike.
    """
    weights, constants = class_weights(pixels, params.class_weights, params.max_class_weight), Constants()

    def amount(target: Tensor) -> Tensor:
        scored = target != IGNORE
        if weights is None:
            return scored.sum()
        of_pixels = constants.get(0, target.device, lambda: weights)[torch.where(scored, target, 0).long()]
        if target.device.type == "cpu":
            return of_pixels[scored].sum()
        return (of_pixels * scored).sum()  # a selection would wait for the device to know its size

    return amount


def class_weights(pixels: Sequence[int], kind: str, limit: float) -> Tensor | None:
    """Weights float32 [C] from training pixel counts; None for kind "none".

    With f_c the share of class c: g_c = 1 / f_c (inverse) or 1 / sqrt(f_c) (sqrt_inverse), and
    w_c = min(limit, g_c / sum_k f_k g_k), so that before the limit an average pixel has weight 1 (for `inverse` this is
    scikit-learn's "balanced"). A class without a training pixel gets 1; nothing is ever multiplied by it.
    """
    if kind == "none":
        return None
    counts = torch.tensor(pixels, dtype=torch.float64)
    share = counts / counts.sum().clamp(min=1)
    raw = share.clamp(min=1e-12) ** (-1.0 if kind == "inverse" else -0.5)
    weights = (raw / (share * raw).sum()).clamp(max=limit)
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the scored pixels, weighted by `weights[target]` where given; 0 if none is scored.

    logits: float [B, C, H, W]; target: int64 [B, H, W], 255 = not scored.
    """
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")  # [B, H, W]
    return _mean(pixels, target != IGNORE, target, weights)


def ohem_cross_entropy(
    logits: Tensor, target: Tensor, threshold: float, min_kept: float, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the hard pixels (online hard example mining; Shrivastava et al. 2016).

    Hard: the probability of the true class is below `threshold`. At least the ceil(min_kept * scored pixels) hardest
    of the batch are kept (all that tie with the last of them), however easy. Arguments as for `cross_entropy`.
    """
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    scored = target != IGNORE
    hardness = torch.where(scored, pixels.detach(), torch.full_like(pixels, -1.0))  # -log p >= 0; never kept below 0
    kept = (torch.exp(-hardness) < threshold) | (hardness >= _hardest(hardness.flatten(), scored.sum(), min_kept))
    return _mean(pixels, kept & scored, target, weights)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice, averaged over the classes present in the batch (Milletari et al. 2016, with plain sums).

    Per class over all scored pixels of the batch: 2 sum(p t) / (sum p + sum t). 0 if nothing is scored.
    """
    scored = (target != IGNORE)[:, None]
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    truth = (target[:, None] == classes).float()  # [B, C, H, W]; comparing is deterministic where one_hot may scatter
    probability = logits.softmax(dim=1) * scored
    axes = (0, 2, 3)
    overlap, total = (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
    present = truth.sum(axes) > 0
    missed = torch.where(present, 1 - 2 * overlap / total.clamp(min=1e-6), torch.zeros_like(total))
    return missed.sum() / present.sum().clamp(min=1)


def _mean(pixels: Tensor, chosen: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    share = chosen.float()
    if weights is not None:
        share = share * weights[torch.where(chosen, target, torch.zeros_like(target))]
    return (pixels * share).sum() / share.sum().clamp(min=torch.finfo(share.dtype).tiny)


def _hardest(hardness: Tensor, scored: Tensor, min_kept: float) -> Tensor:
    """The hardness of the last pixel that has to be kept. On a GPU by sorting, which needs no look at the count."""
    count = torch.ceil(scored.double() * min_kept).long().clamp(min=1)
    if hardness.device.type == "cpu":
        return hardness.kthvalue(len(hardness) - int(count) + 1).values
    return hardness.sort(descending=True).values.gather(0, count.view(1) - 1)[0]  # indexing would read the count
