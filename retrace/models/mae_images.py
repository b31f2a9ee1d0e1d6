"""What a masked autoencoder trains on and shows: random crops with their masks, and pictures of its reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from retrace.config.pretrain import Mae
from retrace.data.loading import Cache, Room, read_image, single_thread
from retrace.data.manifest import Manifest
from retrace.data.transforms import MEAN, STD, normalize
from retrace.models.mae import FCMAE, ViTMAE, normalize_patches, patchify, random_mask, unpatchify
from retrace.seeds import derive, drawn_from

STRETCH = (3 / 4, 4 / 3)  # aspect ratio of a crop relative to the image's, as in both papers
GAP = 4  # white pixels between the tiles of a picture
GRAY = 128  # of hidden patches in a picture
Sample = tuple[Tensor, Tensor, str]


class MaskedImages(Dataset):
    """(epoch, index) -> (image uint8 [3, h, w], masked bool [L], id): a random resized crop, flipped half of the time.

    Crop and flip follow from (seed, "mae", epoch, index), the mask from (seed, "mask", epoch, index).
    """

    def __init__(self, manifest: Manifest, ids: Sequence[str], params: Mae, patch: int, seed: int, room: Room) -> None:
        height, width = params.input_size
        self._manifest, self._ids, self._size, self._seed = manifest, list(ids), params.input_size, seed
        self._patches, self._ratio = (height // patch) * (width // patch), params.mask_ratio
        aspect = width / height
        ratio = (STRETCH[0] * aspect, STRETCH[1] * aspect)
        self._change = v2.Compose(
            [
                v2.RandomResizedCrop(params.input_size, params.crop_scale, ratio, antialias=True),
                v2.RandomHorizontalFlip(0.5),
            ]
        )
        self._cache = Cache(len(ids), (height, width, 3), room)

    def __len__(self) -> int:
        return len(self._ids)

    def image(self, index: int) -> Tensor:
        """The whole image at working size, uint8 [3, h, w]."""
        sample = self._cache.get(index)
        if sample is None:
            sample = np.array(read_image(self._manifest, self._ids[index], self._size))
            self._cache.put(index, sample)
        return torch.from_numpy(sample).permute(2, 0, 1).contiguous()

    def mask(self, *purpose: int | str) -> Tensor:
        """bool [L] from (seed, "mask", *purpose)."""
        return random_mask(self._patches, self._ratio, derive(self._seed, "mask", *purpose))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        image = self.image(index)
        with single_thread(), drawn_from(derive(self._seed, "mae", epoch, index)):
            changed = self._change(image)
        return changed.contiguous(), self.mask(epoch, index), self._ids[index]


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, list[str]]:
    """-> (images uint8 [B, 3, h, w], masked bool [B, L], ids)."""
    images, masked, ids = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(masked), list(ids)


@torch.no_grad()
def reconstruct(model: FCMAE | ViTMAE, image: Tensor, masked: Tensor) -> Tensor:
    """uint8 [3, h, w], bool [L] -> uint8 [3, h, w]: visible patches as they are, hidden ones as predicted.

    A prediction is of normalised patches, so each is put back at its true mean and contrast (as He et al. show theirs).
    """
    device = next(model.parameters()).device
    images, hidden = normalize(image[None].to(device)), masked[None].to(device)
    pixels = patchify(images, model.patch)
    _, mean, spread = normalize_patches(pixels)
    painted = torch.where(hidden[..., None], model(images, hidden).float() * spread + mean, pixels)
    whole = unpatchify(painted, model.patch, (image.shape[-2], image.shape[-1]))[0].cpu()
    restored = whole * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return (restored * 255).round().clamp(0, 255).to(torch.uint8)


def write_pictures(folder: Path, model: FCMAE | ViTMAE, images: MaskedImages, count: int) -> list[str]:
    """`<k>.png` (image | masked | reconstructed) of up to `count` images spread over the list; returns file names."""
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))
    names = []
    for number, index in enumerate(chosen.tolist(), start=1):
        image, masked = images.image(index), images.mask("picture", index)
        tiles = [image, _blank(image, masked, model.patch), reconstruct(model, image, masked)]
        gap = torch.full((3, image.shape[1], GAP), 255, dtype=torch.uint8)
        strip = torch.cat([tiles[0], gap, tiles[1], gap, tiles[2]], dim=2)
        names.append(f"{number}.png")
        Image.fromarray(strip.permute(1, 2, 0).numpy()).save(folder / names[-1])
    return names


def _blank(image: Tensor, masked: Tensor, patch: int) -> Tensor:
    patches = patchify(image[None], patch)
    patches[masked[None]] = GRAY
    return unpatchify(patches, patch, (image.shape[-2], image.shape[-1]))[0]
