"""Parameters of `pretrain` and of the training phases of `finetune`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from retrace.config.base import Block, Count, Fraction, Index, Items, NotNegative, Number, Positive, Size
from retrace.config.data import Sha256

# architecture -> the encoders it comes with; the others take any name of their library
ENCODERS = {
    "deeplabv3": ("mobilenet_v3_large", "resnet50"),
    "fasterrcnn": ("mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn", "resnet50_fpn", "resnet50_fpn_v2"),
}
YOLO_NAMES = ("yolo11n", "yolo11s", "yolo11m")
YOLO_STRIDE = 32  # pixels of the image per cell of the coarsest grid
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class Optimizer(Block):
    """AdamW or SGD; `encoder_lr` gives the encoder (backbone) its own learning rate."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive
    encoder_lr: Positive | None = None
    momentum: Fraction = 0.9  # SGD only
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None


class Schedule(Block):
    """Learning-rate schedule per optimizer step: linear warm-up, then the named decay down to `final_lr`."""

    name: Literal["constant", "cosine", "poly"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    final_lr: NotNegative = 0.0
    power: Positive = 0.9  # poly only


class Augment(Block):
    """Random changes of a training image, drawn from (seed, epoch, sample). 0 switches one off."""

    flip: Fraction = 0.0  # probability of a horizontal flip
    crop: Index = 0  # side of a random square crop, pixels of the working size
    scale: Annotated[tuple[Positive, Positive], Field(strict=False)] = (1.0, 1.0)  # random zoom range
    color: NotNegative = 0.0  # strength of brightness, contrast and saturation jitter


class Loss(Block):
    """Segmentation loss: cross-entropy or OHEM cross-entropy, plus `dice` times the Dice loss."""

    name: Literal["cross_entropy", "ohem"] = "cross_entropy"
    class_weights: Literal["none", "inverse", "sqrt_inverse"] = "none"  # from the training pixel counts
    max_class_weight: Positive = 10.0
    dice: NotNegative = 0.0
    ohem_threshold: Annotated[Fraction, Field(gt=0)] = 0.7  # keep pixels whose true-class probability is below this
    ohem_min_kept: Annotated[Fraction, Field(gt=0)] = 0.1  # ... and at least this fraction of the valid pixels


class Model(Block):
    """Which network. `encoder` is a timm/segmentation-models-pytorch name or a torchvision backbone."""

    architecture: Literal["unet", "dpt", "unet_classic", "deeplabv3", "fasterrcnn"]
    encoder: str | None = None  # unet, dpt: e.g. tu-convnextv2_atto; deeplabv3: mobilenet_v3_large | resnet50
    decoder_channels: Items[Count] | None = None  # unet: widths from deep to shallow
    width: Count = 64  # unet_classic: channels of the first level
    # weight of the newest batch in BatchNorm's running statistics; null: the architecture's own (MobileNetV3 and
    # EfficientNet: 0.01, which a from-scratch run of fewer than thousands of steps never catches up with)
    batchnorm_momentum: Annotated[Fraction, Field(gt=0)] | None = None
    trainable_layers: Annotated[int, Field(ge=0, le=6)] = 3  # fasterrcnn: backbone blocks trained, from the top
    min_size: Count = 800  # fasterrcnn: shorter image side, pixels
    max_size: Count = 1333
    max_detections: Count = 100  # fasterrcnn: per image
    # fasterrcnn, torchvision's own names and defaults; null: the encoder's own
    anchor_sizes: Items[Count] | None = None  # sides of the anchor boxes, pixels of the resized image
    box_batch_size_per_image: Count = 512  # proposals that train the box head
    rpn_post_nms_top_n_train: Count = 2000  # proposals kept
    rpn_post_nms_top_n_test: Count | None = None

    @model_validator(mode="after")
    def _encoder_named(self):
        if (self.encoder is None) != (self.architecture == "unet_classic"):
            raise ValueError("encoder is required by every architecture but unet_classic, which has none")
        known = ENCODERS.get(self.architecture)
        if known is not None and self.encoder not in known:
            raise ValueError(f"encoder = {self.encoder!r}: {self.architecture} takes {', '.join(known)}")
        return self


class FabricPhase(Block):
    """One training phase of a torch model on the kit's own loop."""

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
    ema: Annotated[Fraction, Field(lt=1)] = 0.0  # decay of the weight average that is scored and saved; 0: off
    loss: Loss = Loss()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    resize_range: Annotated[tuple[Count, Count], Field(strict=False)] | None = None  # detection: random shorter side
    monitor: str  # val metric that chooses the best epoch: mIoU, focus_mIoU, AP50, ...
    patience: Count | None = None  # epochs without a new best before stopping; null: never
    save_period: Count = 1  # epochs between checkpoints of the resumable state
    seed: Index | None = None  # of this phase's training alone; null: the top-level seed

    @field_validator("resize_range")
    @classmethod
    def _rises(cls, value):
        if value is not None and value[0] > value[1]:
            raise ValueError(f"the first number must not be larger than the second, e.g. {sorted(value)}")
        return value

    @model_validator(mode="after")
    def _crop_fits(self):
        if self.augment.crop > min(self.input_size):
            raise ValueError(
                f"augment.crop = {self.augment.crop} is larger than input_size {list(self.input_size)}; "
                f"allowed: 0 (off) to {min(self.input_size)}"
            )
        return self


class Hyperparameters(Block):
    """Ultralytics' own names, every one of them set; `optimizer: auto` is not among the choices on purpose."""

    epochs: Count
    imgsz: Count
    batch: Count
    optimizer: Literal["SGD", "Adam", "AdamW"]
    lr0: Positive
    lrf: Positive
    cos_lr: bool
    warmup_epochs: NotNegative
    warmup_momentum: Fraction
    warmup_bias_lr: NotNegative
    momentum: Fraction
    weight_decay: NotNegative
    nbs: Count
    box: Positive
    cls: Positive
    dfl: Positive
    iou: Fraction
    conf: Fraction
    max_det: Count
    mosaic: Fraction
    mixup: Fraction
    copy_paste: Fraction
    degrees: Number
    translate: Fraction
    scale: Fraction
    shear: Number
    perspective: Number
    flipud: Fraction
    fliplr: Fraction
    close_mosaic: Index
    hsv_h: Fraction
    hsv_s: Fraction
    hsv_v: Fraction
    erasing: Fraction
    patience: Count
    save_period: int
    amp: bool
    cache: bool
    freeze: Index

    @field_validator("imgsz")
    @classmethod
    def _whole_cells(cls, value):
        if value % YOLO_STRIDE:
            low = value // YOLO_STRIDE * YOLO_STRIDE
            near = " or ".join(str(size) for size in (low, low + YOLO_STRIDE) if size)
            raise ValueError(f"must be a multiple of {YOLO_STRIDE}, e.g. {near}")
        return value


class UltralyticsPhase(Block):
    """One training phase of a YOLO detector on the Ultralytics engine."""

    engine: Literal["ultralytics"]
    note: str = ""
    init: str  # none | pretrain | the name of another phase
    model: str  # yolo11n | yolo11s | yolo11m | a local .yaml or .pt
    # of a local file: what DVC hashes for it, since dvc.yaml cannot name a dep that only some phases have
    model_sha256: Sha256 | None = None
    monitor: Literal["AP50", "AP"] = "AP50"  # val metric that chooses the best epoch and stops early
    seed: Index | None = None  # of this phase's training alone; null: the top-level seed
    hyperparameters: Hyperparameters

    @model_validator(mode="after")
    def _file_has_hash(self):
        named = self.model in YOLO_NAMES
        if not named and not self.model.endswith((".yaml", ".pt")):
            raise ValueError(f"model = {self.model!r}: allowed: {', '.join(YOLO_NAMES)}, or a local .yaml or .pt file")
        if self.model.endswith(".pt") and self.init == "none":
            raise ValueError(
                f"model = {self.model!r} with init: none would leave its weights unused; set init: pretrain and "
                "pretrain.weights.<phase>.path with its sha256, or give a .yaml"
            )
        if not named and self.model_sha256 is None:
            raise ValueError(
                f"model_sha256 is required with a file: the sha256 of {self.model}, 64 hex digits (`sha256sum`)"
            )
        if named and self.model_sha256 is not None:
            raise ValueError(f"model_sha256 is for a local file; set it to null with model = {self.model!r}")
        return self


Phase = Annotated[FabricPhase | UltralyticsPhase, Field(discriminator="engine")]


class Mae(Block):
    """Masked-autoencoder pre-training: FCMAE for ConvNeXt-V2 encoders, asymmetric MAE for ViT encoders."""

    encoder: str  # timm name without weights, e.g. convnextv2_atto, vit_small_patch16_224
    input_size: Size
    mask_ratio: Annotated[Fraction, Field(gt=0, lt=1)] = 0.6  # FCMAE 0.6, ViT MAE 0.75
    decoder_dim: Count = 512
    decoder_depth: Count = 1
    epochs: Count
    batch_size: Count
    precision: Precision = "32-true"
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    crop_scale: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.4, 1.0)  # random resized crop, area
    save_period: Count = 1


class Weights(Block):
    """Starting weights from a file or a named checkpoint; `sha256` is checked before anything is read from it."""

    path: str | None = None  # local .safetensors, .pth or .pt
    name: str | None = (
        None  # torchvision, timm or ultralytics checkpoint, e.g. DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT
    )
    # required with path; null with name: the hash in the published file name is checked, and where that has none
    # (timm, segmentation-models-pytorch, Ultralytics) `pretrain` says what it downloaded and stops until this is given
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.path is None) == (self.name is None):
            raise ValueError("give exactly one of path (a local file) and name (a published checkpoint)")
        if self.path is not None and self.sha256 is None:
            raise ValueError("sha256 is required with path: the sha256 of the checkpoint file, 64 hex digits")
        return self


class Pretrain(Block):
    """Where the starting weights come from."""

    method: Literal["mae", "weights", "none"] = "none"
    mae: Mae | None = None
    weights: dict[str, Weights] | None = None  # by phase name, or `all` for every phase

    @model_validator(mode="after")
    def _has_its_block(self):
        if self.method != "none" and getattr(self, self.method) is None:
            raise ValueError(f"method = '{self.method}' needs the block pretrain.{self.method}")
        return self
