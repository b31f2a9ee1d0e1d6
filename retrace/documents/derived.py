"""reports/<study>/derived.json: numbers and verdicts that no metrics file holds."""

from collections.abc import Mapping
from typing import Self

from retrace.documents.base import Document, Part, named
from retrace.statistics.estimate import Difference, Estimate, Interval


class Paired(Part):
    """Differences of two phases on the same images of a split, by metric."""

    __pydantic_extra__: dict[str, Difference]

    images: int

    @classmethod
    def of(cls, images: int, differences: Mapping[str, Difference]) -> Self:
        """The differences by metric, on a split with `images` images."""
        return cls.model_validate({"images": images, **differences})

    def difference(self, metric: str) -> Difference | None:
        """The difference in a metric; None where it was not compared."""
        return self.__pydantic_extra__.get(metric)


class Comparison(Part):
    """A phase against the one it starts from, by split; None: not scored on the same images."""

    __pydantic_extra__: dict[str, Paired | None]

    origin: str | None = named("from")

    @classmethod
    def of(cls, origin: str | None, splits: Mapping[str, Paired | None]) -> Self:
        """The differences by split, to the phase `origin`."""
        return cls.model_validate({"from": origin, **splits})

    def on(self, split: str) -> Paired | None:
        """The differences on a split."""
        return self.__pydantic_extra__.get(split)


class SeedScore(Part):
    """A score of a phase over seeds. `spread`: standard deviation; `values`: by seed, in order."""

    mean: Estimate  # with an interval over seeds and units
    spread: float | None
    values: list[float | None]


class PhaseSeeds(Part):
    """A phase that was trained with several seeds; the weights of the first are shipped."""

    seeds: list[int]
    scores: dict[str, dict[str, SeedScore]]  # by split and metric


class SeedDifference(Part):
    """The headline of a phase over seeds less that of another.

    `superiority`: P(A > B), how often a training of the first scores above one of the second.
    """

    difference: Difference
    superiority: Interval


class SeedComparison(Part):
    """A phase against the one that it starts from, both over seeds."""

    origin: str = named("from")
    splits: dict[str, SeedDifference]


class Seeds(Part):
    """Scores over seeds, by phase that has repeats."""

    phases: dict[str, PhaseSeeds]
    comparisons: dict[str, SeedComparison]


class Classes(Part):
    """The number of classes, and how many of them each phase predicts, by phase and split."""

    count: int
    predicted: dict[str, dict[str, int]]


class LogGap(Part):
    """The shipped file's score on val minus the best value in the training log, a fraction."""

    difference: float


class MoveCount(Part):
    """Images moved from one split to another for one reason."""

    origin: str | None = named("from")
    to: str | None
    reason: str
    images: int


class ProblemCount(Part):
    """Files of one kind of problem, and what was done with them."""

    kind: str
    action: str
    files: int


class Audit(Part):
    """Counts of the data. `leaks`: by kind, and `total`; `box_sizes`: by class, for detection."""

    images: int
    left_out: int
    moved: int
    moves: list[MoveCount]
    leaks: dict[str, int]
    problems: list[ProblemCount]
    box_sizes: dict[str, list[int]] | None


class Judged(Part):
    """The verdict on a claim."""

    phase: str
    split: str
    status: str  # met | not met | not comparable
    why: str  # empty: there is nothing to add


class ListEffect(Part):
    """What a comparison across the two lists would show.

    apart: (after, rebalanced) minus (before, as given). by_list: the part that comes from the list
    alone, (before, rebalanced) minus (before, as given).
    """

    apart: Estimate
    by_list: Estimate = named("list")


class Lists(Part):
    """Two phases on both validation lists; `in_train`: images of the given list now in train."""

    origin: str = named("from")
    to: str
    same: bool
    images: dict[str, int]  # by list
    in_train: int
    effects: dict[str, ListEffect]  # by metric


class Convergence(Part):
    """`last_quarter`: relative change of the training loss over the last quarter of the epochs."""

    last_quarter: float
    converged: bool


class Log(Part):
    """Facts of the training logs, by phase. `ultralytics`: our score minus its own figure."""

    convergence: dict[str, Convergence]
    ultralytics: dict[str, dict[str, float | None]]


class Check(Part):
    """One box of the checklist."""

    what: str
    wanted: str | int | float
    found: str | int | float
    passed: bool


class BundleFile(Part):
    """A file of the bundle, and what it was copied or made from."""

    file: str
    origin: str = named("from")
    bytes: int
    sha256: str


class Derived(Document):
    """All that is computed from two phases, a group of classes, the logs, or by a check."""

    comparisons: dict[str, Comparison]  # by phase
    groups: dict[str, dict[str, dict[str, Estimate]]]  # by phase, split and group of classes
    final: dict[str, Paired | None]  # the active phase against the first, by split
    classes: Classes
    training: dict[str, LogGap]  # by phase
    audit: Audit
    claims: list[Judged]  # in the order of report.claims
    lists: Lists | None
    log: Log
    checks: list[Check]
    bundle: list[BundleFile]
    seeds: Seeds | None = None  # written only where phases have repeats
