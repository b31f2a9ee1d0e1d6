"""Parameters of the networks, one class per architecture: `phases.<phase>.model`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retrace.config.base import Block, Count, Fraction, Items, chosen_by, refused

RESNET_BLOCKS, MOBILENET_BLOCKS = 5, 6  # of a Faster R-CNN's backbone
RESNET_LEVELS = 5  # of its feature pyramid


class Model(Block):
    """What every network has. `encoder`, where there is one, names the backbone."""

    architecture: str
    # weight of the newest batch in BatchNorm's running statistics; null: the architecture's own
    # (MobileNetV3 and EfficientNet: 0.01, which a from-scratch run of fewer than thousands of steps
    # never catches up with)
    batchnorm_momentum: Annotated[Fraction, Field(gt=0)] | None = None


class Unet(Model):
    """U-Net on an encoder of timm (`tu-<name>`) or segmentation-models-pytorch."""

    architecture: Literal["unet"]
    encoder: str  # e.g. tu-convnextv2_atto
    # widths from deep to shallow; null: 256, 128, 64, 32, 16
    decoder_channels: Annotated[Items[Count], Field(min_length=2, max_length=5)] | None = None


class Dpt(Model):
    """DPT on a vision transformer of timm (`tu-vit_...`)."""

    architecture: Literal["dpt"]
    encoder: str
    # widths from shallow to deep; null: 256, 512, 1024, 1024
    decoder_channels: Annotated[Items[Count], Field(min_length=4, max_length=4)] | None = None


class UnetClassic(Model):
    """The classic U-Net, which has no separate encoder."""

    architecture: Literal["unet_classic"]
    width: Count = 64  # channels of the first level


class DeepLabV3(Model):
    """torchvision's DeepLabV3."""

    architecture: Literal["deeplabv3"]
    encoder: Literal["mobilenet_v3_large", "resnet50"]


class FasterRcnn(Model):
    """torchvision's Faster R-CNN, with its own names and defaults."""

    architecture: Literal["fasterrcnn"]
    encoder: Literal["mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn", "resnet50_fpn", "resnet50_fpn_v2"]
    # backbone blocks trained, from the top, in a phase that starts from weights; null: 3
    trainable_layers: Annotated[int, Field(ge=0, le=MOBILENET_BLOCKS)] | None = None
    min_size: Count = 800  # shorter image side, pixels
    max_size: Count = 1333
    max_detections: Count = 100  # per image
    anchor_sizes: Items[Count] | None = None  # sides, pixels of the resized image; null: own
    box_batch_size_per_image: Count = 512  # proposals that train the box head
    rpn_post_nms_top_n_train: Count = 2000  # proposals kept
    rpn_post_nms_top_n_test: Count | None = None  # null: the encoder's own

    @model_validator(mode="after")
    def _fits_the_encoder(self) -> "FasterRcnn":
        if self.min_size > self.max_size:
            why = f"larger than max_size = {self.max_size}"
            raise refused("min_size", why, self.min_size)
        if not self.encoder.startswith("resnet50"):
            return self
        if self.trainable_layers is not None and self.trainable_layers > RESNET_BLOCKS:
            why, allowed = f"{self.encoder} has {RESNET_BLOCKS} blocks", range(RESNET_BLOCKS + 1)
            raise refused("trainable_layers", why, self.trainable_layers, allowed)
        if self.anchor_sizes is not None and len(self.anchor_sizes) != RESNET_LEVELS:
            why = f"{self.encoder} takes {RESNET_LEVELS}, one for each level of its pyramid"
            raise refused("anchor_sizes", why, list(self.anchor_sizes))
        return self


MODELS: dict[str, type[Model]] = {
    "unet": Unet,
    "dpt": Dpt,
    "unet_classic": UnetClassic,
    "deeplabv3": DeepLabV3,
    "fasterrcnn": FasterRcnn,
}
SegmentationModel = Annotated[
    Unet | Dpt | UnetClassic | DeepLabV3,
    Field(discriminator="architecture"),
    chosen_by("architecture", tuple(MODELS.values())),
]
DetectionModel = Annotated[FasterRcnn, chosen_by("architecture", tuple(MODELS.values()))]
