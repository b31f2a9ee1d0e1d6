"""The whole of params.yaml as one frozen object, with the checks that need more than one block."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retrace.config.ablation import Ablation, check_levels
from retrace.config.base import Block, Count, Fraction, Index, Items, NotNegative, Number, Positive
from retrace.config.data import Data, MasksSource, Rebalance
from retrace.config.metrics import OVERALL, VAL_LOSS, check_metric, check_monitor
from retrace.config.phases import FabricPhase, Phase, Pretrain, UltralyticsPhase
from retrace.numerics import Numerics

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
RESERVED = ("none", "pretrain")  # phase names that would collide with the folders of the starting weights


class Boundary(Block):
    """How far apart two outlines may lie for the boundary F-score."""

    tolerance: Positive
    unit: Literal["pixels", "diagonal"] = "pixels"  # of the tolerance; diagonal: a share of the image's diagonal


class Evaluate(Block):
    """How every phase's shipped weights are scored."""

    splits: Items[Literal["val", "test", "val_as_given"]] = ("val", "test")
    # what is drawn in a resample: sequences and near-duplicates together (auto), sequences (group), images
    unit: Literal["auto", "image", "group"] = "auto"
    bootstrap: Annotated[int, Field(ge=100)] = 1000  # resamples over units
    min_reliable: Index = 5  # a class seen in fewer images (instances) is marked "not reliable"
    batch_size: Count = 8
    confidence: Fraction = 0.25  # detection: the reported precision, recall and F1 are at this confidence
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


class Report(Block):
    """What the report says around the measured numbers."""

    title: str
    summary: str = ""
    data_needed: str = ""  # one line for `retrace studies`: where the real data comes from
    real_data: bool = True  # false: demo data; claims are then "not comparable"
    headline: str = "mIoU"  # detection: AP50
    margin: NotNegative = 0.0  # differences of at most this size do not matter: "equal"
    focus_classes: Items[str] = ()
    class_groups: dict[str, Items[str]] = Field(default_factory=dict)
    colors: dict[str, Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]] = Field(default_factory=dict)
    claims: Items[Claim] = ()
    published_images: dict[Literal["train", "val", "test"], Count] = Field(default_factory=dict)  # as given, per split
    published_epochs: dict[str, dict[str, Number]] = Field(default_factory=dict)  # phase -> epoch -> headline value
    next_steps: Items[str] = ()


class Expected(Block):
    """What a rerun elsewhere must reach: `retrace verify` tests it."""

    metric: str
    split: Literal["val", "test"] = "test"
    value: Number
    tolerance: NotNegative
    seeds: Items[Index] = ()


class Runtime(Block):
    """Hashed: changes the last bits of a CPU result."""

    threads: Count = 2
    numerics: Numerics = "portable"  # the same bits on every x86-64 processor with AVX2, or each one's fastest kernels


class Machine(Block):
    """Not hashed: where it runs. Of it only devices x nodes changes results on a CPU; the outs name it."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count = 1
    nodes: Count = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    workers: Index = 0


class Params(Block):
    """params.yaml. `phases` holds complete blocks; study files may share `phase_defaults.<engine>` among them."""

    study: Name
    task: Literal["segmentation", "detection"]
    phase: Name  # the active phase: the one that metrics.json and the headline speak of
    seed: Index
    classes: Items[str]
    data: Data
    rebalance: Rebalance = Rebalance()
    pretrain: Pretrain = Pretrain()
    phases: dict[Name, Phase]
    evaluate: Evaluate = Evaluate()
    report: Report
    expected: Items[Expected] = ()
    ablation: Ablation | None = None
    runtime: Runtime = Runtime()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _classes(self):
        if not self.classes:
            raise ValueError("classes: name at least one class")
        if self.task == "segmentation" and len(self.classes) == 1:
            raise ValueError(
                f"classes: {self.classes[0]!r} alone; with everything else not scored, any answer is right. Allowed: "
                "two or more, e.g. a class for the background"
            )
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"classes: {twice[0]!r} is named twice; every class needs its own name")
        if len(self.classes) > 254:
            raise ValueError(f"classes: {len(self.classes)} classes; a mask byte holds at most 254 (255 = not scored)")
        known = set(self.classes)
        named = {
            "report.focus_classes": self.report.focus_classes,
            "report.colors": tuple(self.report.colors),
            "rebalance.classes": self.rebalance.classes or (),
        }
        named |= {f"report.class_groups.{group}": names for group, names in self.report.class_groups.items()}
        if isinstance(self.data.source, MasksSource):
            named["data.source.values"] = tuple(self.data.source.values)
        for key, names in named.items():
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: {name!r} is not a class; allowed: {', '.join(self.classes)}")
        return self

    @model_validator(mode="after")
    def _phases(self):
        if not self.phases:
            raise ValueError("phases: name at least one training phase")
        for name, phase in self.phases.items():
            if name in RESERVED:
                raise ValueError(f"phases.{name}: this name is taken by the starting weights; choose another")
            others = [other for other in self.phases if other != name]
            if phase.init not in (*RESERVED, *others):
                allowed = ", ".join([*RESERVED, *others])
                raise ValueError(f"phases.{name}.init = {phase.init!r}: no such phase; allowed: {allowed}")
            if phase.init == "pretrain" and self.pretrain.method == "none":
                raise ValueError(
                    f"phases.{name}.init = 'pretrain', but pretrain.method is 'none'; allowed methods: mae, weights"
                )
            parent = self.phases.get(phase.init)
            if parent is not None and parent.engine != phase.engine:
                raise ValueError(
                    f"phases.{name}.init = {phase.init!r}: its engine is {parent.engine}, not {phase.engine}"
                )
            self._task_fits(name, phase)
        self._no_cycle()
        if self.phase not in self.phases:
            raise ValueError(f"phase = {self.phase!r}: no such phase; allowed: {', '.join(self.phases)}")
        for index, claim in enumerate(self.report.claims):
            if claim.phase is not None and claim.phase not in self.phases:
                raise ValueError(f"report.claims.{index}.phase = {claim.phase!r}: allowed: {', '.join(self.phases)}")
        return self

    @model_validator(mode="after")
    def _metrics(self):
        for name, phase in self.phases.items():
            check_monitor(f"phases.{name}.monitor", phase.monitor, self.task, self.classes, self.report.focus_classes)
        if "headline" in self.report.model_fields_set and self.report.headline not in OVERALL[self.task]:
            allowed = ", ".join(OVERALL[self.task])
            raise ValueError(
                f"report.headline = {self.report.headline!r}: not a metric of {self.task}; allowed: {allowed}"
            )
        for index, claim in enumerate(self.report.claims):
            key, groups = f"report.claims.{index}", tuple(self.report.class_groups)
            check_metric(f"{key}.metric", claim.metric, self.task, self.classes, groups, claim=True)
            if claim.metric == VAL_LOSS and claim.split != "val":
                raise ValueError(f"{key}.split = {claim.split!r}: allowed with val_loss (val only): val")
        for index, expected in enumerate(self.expected):
            check_metric(f"expected.{index}.metric", expected.metric, self.task, self.classes)
        return self

    @model_validator(mode="after")
    def _ablation(self):
        if self.ablation is not None:
            if self.ablation.phase not in self.phases:
                raise ValueError(f"ablation.phase = {self.ablation.phase!r}: allowed: {', '.join(self.phases)}")
            check_levels(self.ablation, self.phases[self.ablation.phase])
        return self

    def _task_fits(self, name: str, phase: FabricPhase | UltralyticsPhase) -> None:
        detects = isinstance(phase, UltralyticsPhase) or phase.model.architecture == "fasterrcnn"
        if detects != (self.task == "detection"):
            what = "a detector" if detects else "a segmentation network"
            raise ValueError(f"phases.{name}.model is {what}, but task = {self.task!r}")

    def _no_cycle(self) -> None:
        for name in self.phases:
            chain = [name]
            while (parent := self.phases[chain[-1]].init) in self.phases:
                if parent in chain:
                    raise ValueError(
                        f"phases.{name}.init: a cycle ({' -> '.join([*chain, parent])}); one must start from none"
                    )
                chain.append(parent)

    def class_index(self, name: str) -> int:
        """Index of a class in `classes`, which is its value in masks and its id in boxes."""
        return self.classes.index(name)
