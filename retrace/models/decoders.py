"""Segmentation networks of segmentation-models-pytorch: a decoder on an encoder of its own or of timm."""

import segmentation_models_pytorch as smp
import timm
import torch

from retrace.compat.segmentation_models import SegmentationHead, UnetDecoder, drop_empty_skips
from retrace.config.network import Dpt, Unet
from retrace.errors import UserError
from retrace.models.encoders import TIMM, VIT_OPTIONS, check_timm, fix_positions
from retrace.models.layers import bilinear
from retrace.models.layers.grn import replace
from retrace.models.segmentation import Segmenter

UNET_DEPTH = 5


def unet(model: Unet, classes: int) -> Segmenter:
    """U-Net (segmentation-models-pytorch) on a timm (`tu-...`) or smp encoder.

    `decoder_channels`: 2 to 5 widths, deep to shallow; (256, 128, 64, 32, 16) by default. With n of them the decoder
    stops at 1 / 2^(5 - n) of the image size and the logits are upsampled bilinearly: the shallow levels cost most.
    """
    widths = model.decoder_channels or (256, 128, 64, 32, 16)
    name = _smp_name(model.encoder)
    try:
        network = smp.Unet(name, encoder_depth=UNET_DEPTH, encoder_weights=None, classes=classes)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.encoder = {name!r}: gives no feature maps at strides 2 to 32 for a unet "
            f"({str(error).splitlines()[0]}); use one such as tu-convnextv2_atto, resnet34, vgg11 or efficientnet-b0"
        ) from None
    network.decoder = UnetDecoder(network.encoder.out_channels, widths, n_blocks=len(widths))
    drop_empty_skips(network.decoder)
    upsampling = 2 ** (UNET_DEPTH - len(widths))
    network.segmentation_head = SegmentationHead(widths[-1], classes, kernel_size=3, upsampling=upsampling)
    network.initialize()
    return Segmenter(bilinear.replace(replace(network)), 2**UNET_DEPTH)


def dpt(model: Dpt, classes: int) -> Segmenter:
    """DPT (Ranftl et al. 2021, segmentation-models-pytorch) on a timm vision transformer.

    `decoder_channels`: 4 widths, shallow to deep as in the paper ((256, 512, 1024, 1024) by default); the first is also
    the width of the fusion blocks.
    """
    widths = model.decoder_channels or (256, 512, 1024, 1024)
    name = _smp_name(model.encoder)
    if not name.startswith(TIMM + "vit_"):
        raise UserError(f"model.encoder = {name!r}: a dpt needs a timm ViT, e.g. tu-vit_small_patch16_224")
    build = {"encoder_weights": None, "classes": classes, **VIT_OPTIONS}
    build |= {"decoder_intermediate_channels": widths, "decoder_fusion_channels": widths[0]}
    try:
        network = smp.DPT(name, decoder_readout=_readout(name), **build)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"model.encoder = {name!r}: cannot carry a dpt ({str(error).splitlines()[0]})") from None
    if getattr(network.encoder.model, "pos_embed", None) is None:
        raise UserError(f"model.encoder = {name!r}: a dpt needs a plain ViT with absolute positions")
    if network.encoder.output_stride != 16:
        patch = network.encoder.output_stride
        raise UserError(f"model.encoder = {name!r}: a dpt needs patches of 16 pixels, not {patch}")
    fix_positions(network.encoder.model)
    network.encoder.model.norm.requires_grad_(False)  # after the last tap, so unused: it would stall several devices
    return Segmenter(bilinear.replace(replace(network)), 32)


def _readout(name: str) -> str:
    # without a class token there is nothing to read out
    with torch.device("meta"):
        tokens = timm.create_model(name.removeprefix(TIMM), pretrained=False, **VIT_OPTIONS).num_prefix_tokens
    return "cat" if tokens else "ignore"


def _smp_name(name: str) -> str:
    if name.startswith(TIMM):
        check_timm(name.removeprefix(TIMM), "model.encoder")
    elif name not in smp.encoders.get_encoder_names():
        raise UserError(
            f"model.encoder = {name!r}: not an encoder of segmentation-models-pytorch; "
            f"write a timm model as {TIMM}<name>, e.g. {TIMM}convnextv2_atto"
        )
    return name
