"""Random changes of training images, and the normalization every network input goes through."""

import functools

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from retrace.config.phases import SegmentationAugment
from retrace.data.manifest import IGNORE
from retrace.seeds import drawn_from

MEAN = (0.485, 0.456, 0.406)  # ImageNet: what every published encoder expects
STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """uint8 RGB [B, 3, H, W] -> float32 (x / 255 - mean) / std, on the images' device."""
    center, spread = _colors(mean, images.device), _colors(std, images.device)
    return (images.float() / 255 - center) / spread


@functools.cache
def _colors(values: tuple[float, ...], device: torch.device) -> Tensor:
    """[1, 3, 1, 1], copied to the device once: a copy waits for the device."""
    with torch.inference_mode(False):  # the first to ask may be a predictor, the next a training
        return torch.tensor(values, device=device).view(1, 3, 1, 1)


def augment(image: Tensor, mask: Tensor, changes: SegmentationAugment, seed: int) -> tuple[Tensor, Tensor]:
    """Flip, zoom, crop and color jitter of one sample, drawn from `seed` only.

    image: uint8 [3, H, W]; mask: uint8 [H, W]. Returns the same types at [crop, crop] if `changes.crop`, else [H, W].
    What lies outside the zoomed image is black and not scored (255).
    """
    steps = _pipeline(changes, (image.shape[-2], image.shape[-1]))
    if not steps:
        return image, mask
    with drawn_from(seed):
        turned, labels = v2.Compose(steps)(tv_tensors.Image(image), tv_tensors.Mask(mask))
    return turned.as_subclass(Tensor), labels.as_subclass(Tensor)


def _pipeline(changes: SegmentationAugment, size: tuple[int, int]) -> list[v2.Transform]:
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
    target = (changes.crop, changes.crop) if changes.crop else size
    steps: list[v2.Transform] = []
    if changes.flip:
        steps.append(v2.RandomHorizontalFlip(changes.flip))
    zooms = tuple(changes.scale) != (1.0, 1.0)
    if zooms:
        steps.append(v2.ScaleJitter(size, tuple(changes.scale), antialias=True))
    if zooms or changes.crop:
        steps.append(v2.RandomCrop(target, pad_if_needed=True, fill=fill))
    if changes.color:
        steps.append(jitter(changes.color))
    return steps


def jitter(strength: float) -> v2.Transform:
    """Random brightness, contrast and saturation, each by a factor of 1 - strength ... 1 + strength."""
    low, high = max(0.0, 1 - strength), 1 + strength
    return v2.ColorJitter(brightness=(low, high), contrast=(low, high), saturation=(low, high))
