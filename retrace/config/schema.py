"""The whole of params.yaml as one frozen object, with the checks that need more than one block."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from retrace.config.ablation import Ablation, check_levels
from retrace.config.base import (
    Block,
    Count,
    Fraction,
    Index,
    Items,
    NotNegative,
    Number,
    Positive,
    refused,
)
from retrace.config.data import TASKS, Data, MasksSource, Rebalance, Split
from retrace.config.metrics import VAL_LOSS, check_metric, headlines
from retrace.config.training import Focus, TrainingParams

Color = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Boundary(Block):
    """How far apart two outlines may lie for the boundary F-score."""

    tolerance: Positive
    unit: Literal["pixels", "diagonal"] = "pixels"  # diagonal: a share of that of the image


class Evaluate(Block):
    """How every phase's shipped weights are scored."""

    splits: Items[Literal["val", "test", "val_as_given"]] = ("val", "test")
    # what a resample draws: sequences joined with near-duplicates (auto), sequences, or images
    unit: Literal["auto", "image", "group"] = "auto"
    bootstrap: Annotated[int, Field(ge=100)] = 1000  # resamples over units
    min_reliable: Index = 5  # a class seen in fewer images (instances) is marked "not reliable"
    batch_size: Count = 8
    confidence: Fraction = 0.25  # detection: precision, recall and F1 are at this confidence
    iou_threshold: Fraction = 0.5  # detection: a match needs at least this IoU
    boundary: Boundary | None = None  # segmentation: measure the boundary F-score too
    samples: Index = 3  # pictures of the best, median and worst predictions each


class Claim(Block):
    """A published figure, a target or a baseline, shown beside the measured value."""

    metric: str  # mIoU, focus_mIoU, AP50, IoU/Sky, ...
    label: str
    phase: str | None = None  # null: the active phase
    split: Literal["val", "test"] = "val"
    value: Number | None = None
    low: Number | None = None  # a target range or bound instead of one value
    high: Number | None = None
    kind: Literal["published", "target", "baseline"] = "published"
    # confidence, definition of precision and recall, rule of the best epoch, evaluator
    measured: str = ""


class Report(Focus):
    """What the report says around the measured numbers."""

    model_config = ConfigDict(extra="forbid")

    title: str
    summary: str = ""
    data_needed: str = ""  # one line for `retrace studies`: where the real data comes from
    real_data: bool = True  # false: demo data; claims are then "not comparable"
    headline: str = "mIoU"  # detection: AP50
    margin: NotNegative = 0.0  # differences of at most this size do not matter: "equal"
    class_groups: dict[str, Items[str]] = Field(default_factory=dict)
    colors: dict[str, Color] = Field(default_factory=dict)  # class -> color
    claims: Items[Claim] = ()
    # split -> images, as given
    published_images: dict[Split, Count] = Field(default_factory=dict)
    # phase -> epoch -> headline value
    published_epochs: dict[str, dict[str, Number]] = Field(default_factory=dict)
    next_steps: Items[str] = ()


class Expected(Block):
    """What a rerun elsewhere must reach: `retrace verify` tests it."""

    metric: str
    split: Literal["val", "test"] = "test"
    value: Number
    tolerance: NotNegative
    seeds: Items[Index] = ()


class Params(TrainingParams):
    """params.yaml. Every phase is complete; study files may share `phase_defaults.<engine>`."""

    model_config = ConfigDict(extra="forbid")

    data: Data
    rebalance: Rebalance = Rebalance()
    evaluate: Evaluate = Evaluate()
    report: Report
    expected: Items[Expected] = ()
    ablation: Ablation | None = None

    @model_validator(mode="before")
    @classmethod
    def _headline(cls, values: object) -> object:
        report = values.get("report") if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(report, dict):
            return values
        if values.get("task") != "detection":
            return values
        return {**values, "report": {"headline": "AP50", **report}}  # mIoU is for segmentation

    @model_validator(mode="after")
    def _named_classes(self) -> "Params":
        report, source = self.report, self.data.source
        self.check_classes("report.colors", tuple(report.colors))
        self.check_classes("rebalance.classes", self.rebalance.classes or ())
        for group, names in report.class_groups.items():
            self.check_classes(f"report.class_groups.{group}", names)
        if isinstance(source, MasksSource) and source.values is not None:
            self.check_classes("data.source.values", tuple(source.values))
        return self

    @model_validator(mode="after")
    def _source_fits(self) -> "Params":
        kind = self.data.source.kind
        if self.task not in TASKS[kind]:
            allowed = [other for other, tasks in TASKS.items() if self.task in tasks]
            why = f"is for {' and '.join(TASKS[kind])}, but task = {self.task!r}"
            raise refused("data.source.kind", why, kind, allowed)
        return self

    @model_validator(mode="after")
    def _named_phases(self) -> "Params":
        for index, claim in enumerate(self.report.claims):
            if claim.phase is not None and claim.phase not in self.phases:
                key = f"report.claims.{index}.phase"
                raise refused(key, "no such phase", claim.phase, self.phases)
        return self

    @model_validator(mode="after")
    def _metrics(self) -> "Params":
        if self.report.headline not in headlines(self.task):
            why = f"not a metric of {self.task}"
            raise refused("report.headline", why, self.report.headline, headlines(self.task))
        groups = tuple(self.report.class_groups)
        for index, claim in enumerate(self.report.claims):
            key = f"report.claims.{index}"
            check_metric(f"{key}.metric", claim.metric, self.task, self.classes, groups, claim=True)
            if claim.metric == VAL_LOSS and claim.split != "val":
                raise refused(f"{key}.split", "val_loss is of val only", claim.split, ["val"])
        for index, expected in enumerate(self.expected):
            key = f"expected.{index}.metric"
            check_metric(key, expected.metric, self.task, self.classes)
        return self

    @model_validator(mode="after")
    def _ablation(self) -> "Params":
        if self.ablation is None:
            return self
        phase = self.phases.get(self.ablation.phase)
        if phase is None:
            raise refused("ablation.phase", "no such phase", self.ablation.phase, self.phases)
        check_levels(self.ablation, phase)
        return self
