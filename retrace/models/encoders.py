"""timm and segmentation-models-pytorch encoders by name: known or refused in one line, always without weights."""

import difflib
from typing import Any

import timm
import torch
from torch import Tensor

from retrace.errors import UserError

TIMM = "tu-"  # segmentation-models-pytorch's prefix for an encoder taken from timm


def check_timm(name: str, key: str) -> None:
    """Refuse an architecture timm does not know, naming the closest ones; a tag after the dot is allowed."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"{key} = {name!r}: timm has no such model{hint}")


def bare_convnext(name: str) -> Any:
    """A timm ConvNeXt without its head and the norm before it: exactly what a segmentation network keeps of it."""
    module: Any = timm.create_model(name, pretrained=False, num_classes=0)
    module.reset_classifier(0, "", reset_other=True)
    return module


# A ViT without head that takes any image size whose sides are multiples of the patch: positions are resampled from the
# model's own grid, so the same tensors serve pre-training and segmentation at different sizes.
VIT_OPTIONS: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}


def bare_vit(name: str) -> Any:
    """A timm vision transformer without its head, built as `retrace.models.decoders` builds DPT's encoder."""
    return timm.create_model(name, pretrained=False, **VIT_OPTIONS)


def sincos_positions(height: int, width: int, channels: int) -> Tensor:
    """Fixed 2-D sine-cosine positions [height * width, channels]: half for the column, half for the row.

    As Vaswani et al. 2017 (3.5) in each axis, frequencies 10000^(-i / (channels / 4)).
    """
    quarter = channels // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def axis(length: int) -> Tensor:
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # [length, channels / 2]

    rows = axis(height)[:, None].expand(-1, width, -1)
    columns = axis(width)[None].expand(height, -1, -1)
    return torch.cat([columns, rows], dim=2).reshape(height * width, -1).float()


def fix_positions(encoder: Any) -> None:
    """Write sine-cosine positions into a timm ViT's `pos_embed` (zeros for prefix tokens) and stop their gradient.

    He et al. fix them in pre-training. They stay fixed in fine-tuning too: resampling them to another grid has no
    deterministic gradient on a GPU.
    """
    height, width = encoder.patch_embed.grid_size
    grid = sincos_positions(height, width, encoder.embed_dim)
    with torch.no_grad():
        encoder.pos_embed.zero_()
        encoder.pos_embed[0, -len(grid) :] = grid
    encoder.pos_embed.requires_grad_(False)
