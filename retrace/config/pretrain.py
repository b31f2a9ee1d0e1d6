"""Parameters of `pretrain`: where the starting weights come from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retrace.config.base import Block, Count, Fraction, Sha256, Size, refused
from retrace.config.steps import AnyOptimizer, AnySchedule, Cosine, Precision


class Mae(Block):
    """Masked autoencoder: FCMAE for ConvNeXt-V2 encoders, asymmetric MAE for ViT encoders."""

    encoder: str  # timm name without weights, e.g. convnextv2_atto, vit_small_patch16_224
    input_size: Size
    mask_ratio: Annotated[Fraction, Field(gt=0, lt=1)] = 0.6  # FCMAE 0.6, ViT MAE 0.75
    decoder_dim: Count = 512
    decoder_depth: Count = 1
    epochs: Count
    batch_size: Count
    precision: Precision = "32-true"
    optimizer: AnyOptimizer
    schedule: AnySchedule = Cosine()
    # random resized crop, share of the area
    crop_scale: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.4, 1.0)
    save_period: Count = 1


class Weights(Block):
    """A file or a named checkpoint; `sha256` is checked before anything is read from it."""

    path: str | None = None  # local .safetensors, .pth or .pt
    # torchvision, timm or ultralytics checkpoint, e.g. DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT
    name: str | None = None
    # required with path; null with name: the hash in the published file name is checked, and where
    # that has none (timm, segmentation-models-pytorch, Ultralytics) `pretrain` says what it
    # downloaded and stops until this is given
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Weights":
        if (self.path is None) == (self.name is None):
            why = "give exactly one of path (a local file) and name (a published checkpoint)"
            raise refused("", why)
        if self.path is not None and self.sha256 is None:
            raise refused("sha256", "required with path: 64 hex digits of the checkpoint file")
        return self


class Pretrain(Block):
    """Where the starting weights come from."""

    method: Literal["mae", "weights", "none"] = "none"
    mae: Mae | None = None
    weights: dict[str, Weights] | None = None  # by phase name, or `all` for every phase

    @model_validator(mode="after")
    def _has_its_block(self) -> "Pretrain":
        if self.method != "none" and getattr(self, self.method) is None:
            raise refused("method", f"needs the block pretrain.{self.method}", self.method)
        return self
