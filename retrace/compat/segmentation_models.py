"""Interfaces of segmentation-models-pytorch that its documentation does not name."""

from typing import Any

from segmentation_models_pytorch.base import SegmentationHead as SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder as UnetDecoder
from segmentation_models_pytorch.encoders import encoders
from torch import nn

# A U-Net whose decoder stops before the full resolution is put together from UnetDecoder and SegmentationHead:
# `Unet`, the public class, gives its decoder as many blocks as its encoder has.


def checkpoint(encoder: str, weights: str) -> tuple[str, str] | None:
    """Repository and revision on the Hugging Face Hub of an encoder's weights; None where there are none.

    `get_encoder`, the public function, downloads them without a check.
    """
    settings = encoders.get(encoder, {}).get("pretrained_settings", {}).get(weights, {})
    return (settings["repo_id"], settings["revision"]) if "repo_id" in settings else None


def drop_empty_skips(decoder: nn.Module) -> None:
    """Do not join feature maps of no channels, which stand for a stride that the encoder does not have.

    Joining one changes no number but undoes the channels-last layout: two copies of the largest map every step.
    """
    for block in decoder.blocks:  # type: ignore[union-attr]
        block.register_forward_pre_hook(_without_empty_skip, with_kwargs=True)


def _without_empty_skip(block: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    skip = named["skip_connection"]
    return given, named | {"skip_connection": skip if skip is not None and skip.shape[1] else None}
