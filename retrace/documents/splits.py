"""data/<study>/splits/summary.json: what rebalancing changed, and what is in each split."""

from typing import ClassVar

from retrace.documents.base import Document, Part, named


class Move(Part):
    """An image that changed its split, and why."""

    id: str
    origin: str = named("from")
    to: str
    reason: str


class LeftOut(Part):
    """An unlabeled image that pre-training must not see, and why."""

    id: str
    reason: str


class ClassCount(Part):
    """How often a class occurs in a split.

    An instance is an object for detection; for segmentation it is an image in which the class
    covers at least `min_pixels`.
    """

    instances: int
    images: int
    pixels: int | None  # None for detection


class SplitCount(Part):
    """Images of a split, and its classes by name."""

    images: int
    classes: dict[str, ClassCount]


class Counts(Part):
    """Counts of train, val and test, as given and after rebalancing."""

    before: dict[str, SplitCount]
    after: dict[str, SplitCount]


class Leak(Part):
    """Images of different splits that should share one; `distance` in bits, None for a group."""

    kind: str  # exact | near | group
    ids: list[str]
    splits: list[str]
    distance: int | None


class Duplicates(Part):
    """Sets of labeled images: byte-identical, near-duplicate (copies included), of one group."""

    exact: int
    near: int
    groups: int


class Minimum(Part):
    """Instances of each class that a split was to get."""

    val: int
    test: int


class ClassLoss(Part):
    """Groups of train that hold a class, as given and after rebalancing.

    Only where more than a third are lost.
    """

    name: str
    before: int
    after: int


class Suspected(Part):
    """Images of different splits after rebalancing that look as if they came from one scene.

    clip: frames of one video; copies: of one photograph, by their names; mirrored: mirrored or
    rotated copies, by perceptual hash; similar: hashes further apart than near-duplicates, but
    closer than those of unrelated images.
    """

    kind: str  # clip | copies | mirrored | similar
    name: str
    ids: list[str]
    splits: list[str]


class SplitSummary(Document):
    """Moves, counts and leaks of the splits."""

    again: ClassVar[str] = "`dvc repro rebalance`"

    moves: list[Move]
    left_out: list[LeftOut] = []
    counts: Counts
    leaks: list[Leak]
    duplicates: Duplicates
    minimum: Minimum = Minimum(val=0, test=0)
    losses: list[ClassLoss] = []  # written only where there are any
    suspected: list[Suspected] = []  # written only where there are any
    unpinned: bool = False  # written only where true
