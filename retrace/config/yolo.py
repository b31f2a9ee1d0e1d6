"""Parameters of a YOLO detector's phase, which runs on Ultralytics' loop."""

from typing import Literal

from pydantic import field_validator, model_validator

from retrace.config.base import (
    Block,
    Count,
    Fraction,
    Index,
    NotNegative,
    Number,
    Positive,
    Sha256,
    refused,
)

YOLO_NAMES = ("yolo11n", "yolo11s", "yolo11m")
YOLO_STRIDE = 32  # pixels of the image per cell of the coarsest grid


class Hyperparameters(Block):
    """Ultralytics' own names, every one of them set; `optimizer: auto` is left out on purpose."""

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
    def _whole_cells(cls, value: int) -> int:
        if value % YOLO_STRIDE:
            low = value // YOLO_STRIDE * YOLO_STRIDE
            near = [size for size in (low, low + YOLO_STRIDE) if size]
            raise refused("", f"must be a multiple of {YOLO_STRIDE}", value, near)
        return value


class UltralyticsPhase(Block):
    """One training phase of a YOLO detector on the Ultralytics engine."""

    engine: Literal["ultralytics"]
    note: str = ""
    init: str  # none | pretrain | the name of another phase
    model: str  # yolo11n | yolo11s | yolo11m | a local .yaml or .pt
    # of a local file: DVC hashes it, since dvc.yaml cannot name a dep that only some phases have
    model_sha256: Sha256 | None = None
    monitor: Literal["AP50", "AP"] = "AP50"  # val metric that chooses the best epoch
    seed: Index | None = None  # of this phase's training alone; null: the top-level seed
    hyperparameters: Hyperparameters

    @model_validator(mode="after")
    def _file_has_hash(self) -> "UltralyticsPhase":
        named = self.model in YOLO_NAMES
        if not named and not self.model.endswith((".yaml", ".pt")):
            why = "no such network"
            raise refused("model", why, self.model, [*YOLO_NAMES, "a local .yaml or .pt file"])
        if self.model.endswith(".pt") and self.init == "none":
            why = (
                "with init: none would leave its weights unused; set init: pretrain and "
                "pretrain.weights.<phase>.path with its sha256, or give a .yaml"
            )
            raise refused("model", why, self.model)
        if not named and self.model_sha256 is None:
            why = f"required with a file: 64 hex digits of {self.model} (`sha256sum`)"
            raise refused("model_sha256", why)
        if named and self.model_sha256 is not None:
            why = f"is for a local file; set it to null with model = {self.model!r}"
            raise refused("model_sha256", why, self.model_sha256)
        return self
