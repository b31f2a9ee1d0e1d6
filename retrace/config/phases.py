"""Parameters of the training phases of `finetune`; a key is in the classes to which it applies."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from retrace.config.base import (
    Block,
    Count,
    Fraction,
    Index,
    NotNegative,
    Positive,
    Size,
    chosen_by,
    refused,
)
from retrace.config.network import (
    MODELS,
    DetectionModel,
    Model,
    SegmentationModel,
    UnetClassic,
)
from retrace.config.steps import AnyOptimizer, AnySchedule, Cosine, Precision
from retrace.config.yolo import UltralyticsPhase


class Augment(Block):
    """Random changes of a training image, drawn from (seed, epoch, sample). 0 switches one off."""

    flip: Fraction = 0.0  # probability of a horizontal flip
    color: NotNegative = 0.0  # strength of brightness, contrast and saturation jitter


class SegmentationAugment(Augment):
    """Images and masks are also cropped and zoomed."""

    crop: Index = 0  # side of a random square crop, pixels of the working size
    # random zoom range
    scale: Annotated[tuple[Positive, Positive], Field(strict=False)] = (1.0, 1.0)


class Loss(Block):
    """Segmentation loss: the named cross-entropy plus `dice` times the Dice loss."""

    name: str
    # from the training pixel counts
    class_weights: Literal["none", "inverse", "sqrt_inverse"] = "none"
    max_class_weight: Positive = 10.0  # no class weight is larger
    dice: NotNegative = 0.0


class CrossEntropy(Loss):
    """Cross-entropy over all scored pixels."""

    name: Literal["cross_entropy"] = "cross_entropy"


class Ohem(Loss):
    """Cross-entropy over the hard pixels only."""

    name: Literal["ohem"]
    # keep pixels whose true-class probability is below this
    ohem_threshold: Annotated[Fraction, Field(gt=0)] = 0.7
    # ... and at least this fraction of the valid pixels
    ohem_min_kept: Annotated[Fraction, Field(gt=0)] = 0.1


AnyLoss = Annotated[
    CrossEntropy | Ohem,
    Field(discriminator="name"),
    chosen_by("name", (CrossEntropy, Ohem), "cross_entropy"),
]


class FabricPhase(Block):
    """What every training phase of a torch model on the kit's own loop has."""

    engine: Literal["fabric"] = "fabric"
    note: str = ""  # one sentence on what this phase is for
    init: str  # none | pretrain | the name of another phase
    model: Model
    input_size: Size  # working size (height, width); detection: size the images are cached at
    epochs: Count
    batch_size: Count
    accumulate: Count = 1  # batches per optimizer step
    precision: Precision = "32-true"
    freeze: Literal["none", "encoder"] = "none"  # a frozen encoder's BatchNorm stays in eval
    sync_batchnorm: bool = False
    # decay of the weight average that is scored and saved; 0: off
    ema: Annotated[Fraction, Field(lt=1)] = 0.0
    optimizer: AnyOptimizer
    schedule: AnySchedule = Cosine()
    augment: Augment = Augment()
    monitor: str  # val metric that chooses the best epoch: mIoU, focus_mIoU, AP50, ...
    patience: Count | None = None  # epochs without a new best before stopping; null: never
    save_period: Count = 1  # epochs between checkpoints of the resumable state
    seed: Index | None = None  # of this phase's training alone; null: the top-level seed

    @model_validator(mode="after")
    def _rate_of_the_encoder(self) -> "FabricPhase":
        if self.freeze == "encoder" and self.optimizer.encoder_lr is not None:
            why = "freeze: encoder stops the encoder's training"
            raise refused("optimizer.encoder_lr", why, self.optimizer.encoder_lr, ["null"])
        return self


class SegmentationPhase(FabricPhase):
    """One training phase of a segmentation network."""

    called: ClassVar[str] = "a segmentation network"
    model: SegmentationModel
    loss: AnyLoss = CrossEntropy()
    augment: SegmentationAugment = SegmentationAugment()

    @model_validator(mode="after")
    def _crop_fits(self) -> "SegmentationPhase":
        crop, most = self.augment.crop, min(self.input_size)
        if crop > most:
            why = f"larger than input_size {list(self.input_size)}"
            raise refused("augment.crop", why, crop, [f"0 (off) to {most}"])
        return self

    @model_validator(mode="after")
    def _has_an_encoder(self) -> "SegmentationPhase":
        why = "unet_classic has no separate encoder"
        if isinstance(self.model, UnetClassic) and self.freeze == "encoder":
            raise refused("freeze", why, self.freeze, ["none"])
        if isinstance(self.model, UnetClassic) and self.optimizer.encoder_lr is not None:
            raise refused("optimizer.encoder_lr", why, self.optimizer.encoder_lr, ["null"])
        return self


class DetectionPhase(FabricPhase):
    """One training phase of Faster R-CNN, which has losses of its own."""

    called: ClassVar[str] = "Faster R-CNN"
    model: DetectionModel
    # random shorter side, pixels; null: model.min_size
    resize_range: Annotated[tuple[Count, Count], Field(strict=False)] | None = None

    @field_validator("resize_range")
    @classmethod
    def _rises(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            why = f"the first number must not be larger than the second, e.g. {sorted(value)}"
            raise refused("", why, list(value))
        return value

    @model_validator(mode="after")
    def _trains_layers(self) -> "DetectionPhase":
        layers = self.model.trainable_layers
        if self.init == "none" and layers is not None:
            why = "without starting weights (init: none) every block trains"
            raise refused("model.trainable_layers", why, layers, ["null"])
        return self


def _kind(engine: object, architecture: object) -> type[FabricPhase | UltralyticsPhase]:
    """The class of a phase with this engine and network."""
    if engine != "fabric":
        return UltralyticsPhase
    return DetectionPhase if architecture == "fasterrcnn" else SegmentationPhase


def _prepared(value: object) -> object:
    """Add the default engine, drop null for keys of other phases, refuse unknown networks."""
    if not isinstance(value, dict):
        return value
    value = {"engine": "fabric", **value}
    model = value.get("model")
    name = model.get("architecture") if isinstance(model, dict) else None
    if value["engine"] == "fabric" and isinstance(name, str) and name not in MODELS:
        raise refused("model.architecture", "no such network", name, MODELS)
    own = _kind(value["engine"], name).model_fields
    return {key: item for key, item in value.items() if item is not None or key in own}


def _network(value: object) -> str:
    """The tag of a fabric phase's class."""
    model = value.get("model") if isinstance(value, dict) else None
    name = model.get("architecture") if isinstance(model, dict) else None
    detects = isinstance(value, DetectionPhase) or _kind("fabric", name) is DetectionPhase
    return "detection" if detects else "segmentation"


_Fabric = Annotated[
    Annotated[SegmentationPhase, Tag("segmentation")] | Annotated[DetectionPhase, Tag("detection")],
    Discriminator(_network),
]
Phase = Annotated[_Fabric | UltralyticsPhase, Field(discriminator="engine"), BeforeValidator(_prepared)]
