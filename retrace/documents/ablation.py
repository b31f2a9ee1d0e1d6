"""reports/<study>-ablation/ablation.json: the experiments, and the effect of each change."""

from typing import ClassVar

from pydantic import JsonValue

from retrace.documents.base import Document, Part
from retrace.statistics.estimate import Interval

Effects = dict[str, Interval]  # by metric, fractions


class Factor(Part):
    """A change that was switched off and on."""

    label: str
    off: JsonValue = None  # parameters, by dotted name
    on: JsonValue = None


class Experiment(Part):
    """A run. `scores`: fractions by metric; `made`: md5 of its outs, by path."""

    name: str
    commit: str
    levels: dict[str, str]  # on | off, by factor
    seed: int  # its label
    training_seed: int
    scores: dict[str, float | None]
    made: dict[str, str] = {}


class Most(Part):
    """The class that a change costs or gains most, with the effect on its main score."""

    name: str  # <metric>/<class>
    value: float | None
    low: float | None
    high: float | None


class AblationResult(Document):
    """Effects with 95 % intervals that account for seeds and images."""

    again: ClassVar[str] = "`retrace ablate`"

    study: str
    phase: str
    task: str
    design: str  # full | one-at-a-time | leave-one-out
    headline: str
    split: str
    images: int
    units: int = 0  # independent units
    unit: str = "image"  # what a unit is: image, sequence or group
    seeds: list[int]  # labels
    factors: dict[str, Factor]
    made_from: dict[str, str] = {}  # hashes of code, lock, data and starting weights, by path
    runs: list[Experiment]
    effects: dict[str, Effects]  # by factor
    interactions: dict[str, Effects]  # by "<factor> x <factor>"
    together: Effects | None  # all changes against none
    most: dict[str, dict[str, Most]]  # by factor: costs, gains
    sentences: dict[str, str] = {}  # by factor
