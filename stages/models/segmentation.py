"""Segmentation networks behind one forward: normalised images of any size in, logits of the same size out."""

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torchvision.models import segmentation as tv

from stages.errors import UserError
from stages.models.encoders import TIMM, VIT_OPTIONS, check_timm, fix_positions
from stages.models.unet_classic import ClassicUNet
from stages.params.phases import Model

UNET_DEPTH = 5
DEEPLABV3: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v3_large": tv.deeplabv3_mobilenet_v3_large,
    "resnet50": tv.deeplabv3_resnet50,
}


class Segmenter(nn.Module):
    """A library's network with a uniform forward.

    The network itself is `.network`, so that saved weights carry the library's own tensor names.
    `stride`: images are padded at the bottom and right to a multiple of it (with zeros, the mean color) and the logits
    cropped back.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """images: float [N, 3, H, W], normalised. Returns float logits [N, C, H, W]."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        # torchvision's pooled BatchNorm refuses to train on one image; its double gives that image's own statistics
        lonely = self.training and len(images) == 1 and isinstance(self.network, tv.DeepLabV3)
        logits = self.network(torch.cat([padded, padded]) if lonely else padded)
        if isinstance(logits, dict):
            logits = logits["out"]
        if lonely:
            logits = logits[:1]
        return logits[..., :height, :width]


def unet(model: Model, classes: int) -> Segmenter:
    """U-Net (segmentation-models-pytorch) on a timm (`tu-...`) or smp encoder.

    `decoder_channels`: 2 to 5 widths, deep to shallow; (256, 128, 64, 32, 16) by default. With n of them the decoder
    stops at 1 / 2^(5 - n) of the image size and the logits are upsampled bilinearly: the shallow levels cost most.
    """
    widths = model.decoder_channels or (256, 128, 64, 32, 16)
    if not 2 <= len(widths) <= UNET_DEPTH:
        raise UserError(f"model.decoder_channels = {list(widths)}: a unet takes 2 to {UNET_DEPTH} widths")
    name = _smp_name(model)
    try:
        network = smp.Unet(name, encoder_depth=UNET_DEPTH, encoder_weights=None, classes=classes)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.encoder = {name!r}: gives no feature maps at strides 2 to 32 for a unet "
            f"({str(error).splitlines()[0]}); use one such as tu-convnextv2_atto, resnet34, vgg11 or efficientnet-b0"
        ) from None
    network.decoder = UnetDecoder(network.encoder.out_channels, widths, n_blocks=len(widths))
    for block in network.decoder.blocks:
        block.register_forward_pre_hook(_without_empty_skip, with_kwargs=True)
    upsampling = 2 ** (UNET_DEPTH - len(widths))
    network.segmentation_head = SegmentationHead(widths[-1], classes, kernel_size=3, upsampling=upsampling)
    network.initialize()
    return Segmenter(network, 2**UNET_DEPTH)


def _without_empty_skip(block: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A ConvNeXt has no feature map at stride 2, for which the library puts in one of no channels: leave that out.

    Joining it changes no number but undoes the channels-last layout: two copies of the largest map every step.
    """
    skip = named["skip_connection"]
    return given, named | {"skip_connection": skip if skip is not None and skip.shape[1] else None}


def dpt(model: Model, classes: int) -> Segmenter:
    """DPT (Ranftl et al. 2021, segmentation-models-pytorch) on a timm vision transformer.

    `decoder_channels`: 4 widths, shallow to deep as in the paper ((256, 512, 1024, 1024) by default); the first is also
    the width of the fusion blocks.
    """
    widths = model.decoder_channels or (256, 512, 1024, 1024)
    if len(widths) != 4:
        raise UserError(f"model.decoder_channels = {list(widths)}: a dpt takes 4 widths")
    name = _smp_name(model)
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
    return Segmenter(network, 32)


def _readout(name: str) -> str:
    # without a class token there is nothing to read out
    with torch.device("meta"):
        tokens = timm.create_model(name.removeprefix(TIMM), pretrained=False, **VIT_OPTIONS).num_prefix_tokens
    return "cat" if tokens else "ignore"


def _smp_name(model: Model) -> str:
    name = model.encoder or ""
    if name.startswith(TIMM):
        check_timm(name.removeprefix(TIMM), "model.encoder")
    elif name not in smp.encoders.encoders:
        raise UserError(
            f"model.encoder = {name!r}: not an encoder of segmentation-models-pytorch; "
            f"write a timm model as {TIMM}<name>, e.g. {TIMM}convnextv2_atto"
        )
    return name


def deeplabv3(model: Model, classes: int) -> Segmenter:
    """DeepLabV3 (torchvision) on MobileNetV3-Large or ResNet-50, without the auxiliary classifier."""
    encoder = str(model.encoder)  # one of DEEPLABV3: the schema sees to it
    network = DEEPLABV3[encoder](weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
    return Segmenter(network, 1)


def unet_classic(model: Model, classes: int) -> Segmenter:
    """The classic U-Net, `width` channels at its first level."""
    return Segmenter(ClassicUNet(classes, model.width), ClassicUNet.stride)


def core(module: nn.Module) -> nn.Module:
    """The library's own network: what is inside a `Segmenter`, a detector itself."""
    return module.network if isinstance(module, Segmenter) else module


def encoder_of(module: nn.Module) -> nn.Module:
    """The encoder (backbone) of any network of `build`; a `UserError` for the classic U-Net, which has none."""
    network = core(module)
    for name in ("encoder", "backbone"):
        if hasattr(network, name):
            return getattr(network, name)
    raise UserError("unet_classic has no separate encoder: set freeze: none and optimizer.encoder_lr: null")


def encoder_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The encoder's parameters, for freezing or a learning rate of their own."""
    return list(encoder_of(module).parameters())


def freeze_encoder(module: nn.Module) -> None:
    """Stop the encoder's gradients; the training loop keeps the BatchNorm layers of frozen parameters in eval."""
    for parameter in encoder_parameters(module):
        parameter.requires_grad_(False)
