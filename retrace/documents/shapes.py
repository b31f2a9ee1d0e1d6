"""The shapes of the pipeline's own files. A damaged file gives one message: the file, the place in it and the remedy.

Only the keys that are read are checked, so that files of other versions can still be used.
"""

from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from retrace.errors import UserError
from retrace.files import read_json

AGAIN = "`dvc repro report`"


class Sums(TypedDict):
    """md5 of what a stage read and wrote; null where DVC gave none."""

    deps: dict[str, str | None]
    outs: dict[str, str | None]


class Recorded(TypedDict):
    """provenance.json, as needed to compare md5."""

    stages: dict[str, Sums]


class Times(TypedDict):
    """A stage of this run; seconds are null where it was restored from the cache."""

    seconds: float | None


class Timed(TypedDict):
    """The run that wrote a report."""

    stages: dict[str, Times]


class Timetable(Recorded):
    """provenance.json, as needed for tables of training time."""

    run: Timed
    devices: list[str]


class Lock(TypedDict):
    """The environment's lock file."""

    file: str
    sha256: str | None


class Git(TypedDict):
    """State of the repository; nulls outside of one."""

    commit: str | None
    dirty: bool | None
    changed: list[str]


class Data(TypedDict):
    """Facts about the manifest."""

    sha256: str | None
    images: dict[str, int]


class Origin(Recorded):
    """provenance.json, as needed by `retrace why`."""

    seed: int
    threads: int
    numerics: NotRequired[str]
    lock: Lock
    data: NotRequired[Data | None]
    packages: dict[str, str]
    python: str
    platform: str
    cpu: NotRequired[str | None]
    architecture: NotRequired[str]
    devices: list[str]
    git: Git


class Title(TypedDict):
    """The report block of parameters.json."""

    title: str


class Parameters(TypedDict):
    """parameters.json."""

    phase: str
    phases: dict[str, dict[str, Any]]
    report: Title


class Derived(TypedDict):
    """derived.json."""

    comparisons: dict[str, dict[str, Any]]
    final: dict[str, Any]
    claims: list[dict[str, Any]]


class Weights(TypedDict):
    """The shipped file."""

    file: str
    sha256: str


class Training(TypedDict):
    """How a phase was trained."""

    best_epoch: int | None
    epochs_run: int


class Metrics(TypedDict):
    """metrics/<study>/<phase>.json."""

    weights: Weights
    training: Training
    splits: dict[str, dict[str, Any]]


class Row(TypedDict):
    """A dep or out in dvc.lock."""

    path: str
    md5: str


class Entry(TypedDict):
    """A stage in dvc.lock."""

    params: NotRequired[dict[str, dict[str, Any]] | None]
    deps: NotRequired[list[Row] | None]
    outs: NotRequired[list[Row] | None]


class Run(TypedDict):
    """A run of ablation.json."""

    name: str
    commit: str


class Runs(TypedDict):
    """ablation.json, as needed to find its experiments."""

    phase: str
    runs: list[Run]


class Interval(TypedDict):
    """A number with its interval; null where it is not known."""

    value: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]


class Label(TypedDict):
    """A factor of ablation.json."""

    label: str


class Effects(TypedDict):
    """ablation.json, as needed for tables of effects."""

    phase: str
    design: str
    headline: str
    split: str
    images: int
    seeds: list[Any]
    factors: dict[str, Label]
    effects: dict[str, dict[str, Interval]]
    together: dict[str, Interval] | None
    sentences: dict[str, str]


def read(path: Path, shape: Any, again: str = AGAIN, name: str | None = None) -> Any:
    """A JSON file, unchanged, when it has the shape.

    Args:
        again: the command that writes the file again.
        name: what the user calls the file, where it is read from a copy.

    Raises:
        UserError: the file is missing, is no JSON or has another shape.
    """
    return checked(read_json(path), shape, name or path.as_posix(), again)


def checked(document: Any, shape: Any, name: str, again: str = AGAIN) -> Any:
    """`document`, unchanged, when it has the shape; see `read`."""
    try:
        TypeAdapter(shape).validate_python(document)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{name}: damaged: {place + ': ' if place else ''}{problem['msg'].lower()}; restore it "
            f"(`git checkout -- {name}`) or write it again: {again}"
        ) from None
    return document
