"""timm and segmentation-models-pytorch encoders by name: known or refused in one line, always without weights."""

import difflib
from typing import Any

import timm

from stages.errors import UserError

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
    """A timm vision transformer without its head, built as `stages.models.segmentation` builds DPT's encoder."""
    return timm.create_model(name, pretrained=False, **VIT_OPTIONS)
