"""Segmentation networks behind one forward: normalised images of any size in, logits of the same size out."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import segmentation as tv

from retrace.config.network import DeepLabV3, UnetClassic
from retrace.errors import UserError
from retrace.models.layers import bilinear
from retrace.models.unet_classic import ClassicUNet

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
        logits = self._logits(torch.cat([padded, padded]) if lonely else padded)
        if lonely:
            logits = logits[:1]
        return logits[..., :height, :width]

    def _logits(self, images: Tensor) -> Tensor:
        if not isinstance(self.network, tv.DeepLabV3):
            return self.network(images)
        # torchvision's forward, which ends in a resizing of its own
        logits = self.network.classifier(self.network.backbone(images)["out"])
        return bilinear.resize(logits, (images.shape[-2], images.shape[-1]))


def deeplabv3(model: DeepLabV3, classes: int) -> Segmenter:
    """DeepLabV3 (torchvision) on MobileNetV3-Large or ResNet-50, without the auxiliary classifier."""
    network = DEEPLABV3[model.encoder](weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
    return Segmenter(bilinear.replace(network), 1)


def unet_classic(model: UnetClassic, classes: int) -> Segmenter:
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
    raise UserError("unet_classic has no separate encoder, so only weights of the whole network fit it")


def encoder_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The encoder's parameters, for freezing or a learning rate of their own."""
    return list(encoder_of(module).parameters())


def freeze_encoder(module: nn.Module) -> None:
    """Stop the encoder's gradients; the training loop keeps the BatchNorm layers of frozen parameters in eval."""
    for parameter in encoder_parameters(module):
        parameter.requires_grad_(False)
