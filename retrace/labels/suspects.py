"""What is suspected of a label, and the order in which to look."""

from collections.abc import Iterable
from dataclasses import dataclass

KINDS = ("missing", "wrong class", "badly placed", "duplicated")  # of boxes
REGION = "region"  # pixels that a model is sure are of another class
LEAST = 0.05  # suspicion from which a label is listed


@dataclass(frozen=True)
class Suspect:
    """One object, or one region of a mask, that is probably labeled wrongly."""

    image: str  # id
    kind: str  # of `KINDS`, or `REGION`
    suspicion: float  # 0 ... 1
    box: tuple[float, float, float, float]  # (x, y, width, height) in pixels: the label, or what has none
    label: int | None  # class index as labeled; None: there is no label
    suggested: int | None  # class index that the model sees; None where a label is one too many
    position: int | None = None  # of the label among the boxes of its image, from 0; None without one
    better: tuple[float, float, float, float] | None = None  # where the model sees the object


def ranked(suspects: Iterable[Suspect]) -> list[Suspect]:
    """By falling suspicion; equal ones by image and place, so that the order does not depend on the input's."""
    listed = [one for one in suspects if one.suspicion >= LEAST]
    return sorted(listed, key=_order)


def _order(one: Suspect) -> tuple[float | int | str | tuple[float, ...], ...]:
    numbers = (-1 if number is None else number for number in (one.position, one.label, one.suggested))
    return (-one.suspicion, one.image, one.kind, one.box, *numbers)
