"""`retrace plan`: how many images, sequences and seeds it takes to detect a difference."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrace.config.load import load
from retrace.documents.ablation import AblationResult
from retrace.documents.derived import Derived
from retrace.documents.scores import Split, read_scores
from retrace.errors import UserError
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import seeds_needed, units_needed


@dataclass(frozen=True)
class Need:
    """What one comparison of the report would need."""

    comparison: str  # "mae_ohem against baseline"
    images: int
    units: int
    unit: str  # image, sequence or group
    detectable: float  # with the units it has
    wanted_units: int
    wanted_images: int


def needs(detect: float, metric: str | None = None) -> tuple[str, str, list[Need]]:
    """(metric, split, needs) from the report of the study in params.yaml.

    detect: the difference to find, in the unit of the metric (0.01 mIoU is a point), above 0.

    Raises:
        UserError: there is no report, no comparison with an interval, or `detect` is not above 0.
    """
    params = load()
    if detect <= 0:
        raise UserError(f"--detect {detect:g}: must be above 0, in the unit of the metric, e.g. 0.01")
    name = metric or params.report.headline
    folder = Path("reports", params.study)
    if not (folder / "derived.json").is_file():
        raise UserError(f"{folder}: there is no report to plan from; run `dvc repro` first")
    scores = read_scores(Path("metrics", params.study, f"{params.phase}.json"))
    split, found = scores.headline_split, []
    for phase, comparison in Derived.read(folder / "derived.json").comparisons.items():
        paired = comparison.on(split)
        row = paired.difference(name) if paired is not None else None
        if row is not None and row.detectable:
            found.append(_need(f"{phase} against {comparison.origin}", row, scores.splits[split], detect))
    if not found:
        raise UserError(
            f"{folder}: no comparison of {name} on {split} has an interval; compare two phases on at least five "
            "independent images or sequences first"
        )
    return name, split, found


def _need(comparison: str, row: Difference, scored: Split, detect: float) -> Need:
    detectable = row.detectable or 0.0
    units = units_needed(row.n, detectable, detect)
    images = math.ceil(units * scored.images / scored.units)
    return Need(comparison, scored.images, row.n, scored.unit, detectable, units, images)


def seeds(detect: float, metric: str) -> tuple[float, int, int] | None:
    """(spread over seeds, runs it was taken from, seeds that each phase needs).

    The runs are those of the study's committed ablation, without one the repeats in its report. None where there are
    none of both, or all score alike.
    """
    study = load().study
    path = Path("reports", f"{study}-ablation", "ablation.json")
    groups = _ablated(path, metric) if path.is_file() else _repeated(Path("reports", study), metric)
    several = [scores for scores in groups if len(scores) > 1]
    variances = [float(np.var(scores, ddof=1)) for scores in several]
    spread = math.sqrt(sum(variances) / len(variances)) if variances else 0.0
    runs = sum(map(len, groups))
    return (spread, runs, seeds_needed(spread, detect)) if spread > 0 else None


def _ablated(path: Path, metric: str) -> list[list[float]]:
    """The scores of the runs of each combination of an ablation."""
    cells: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for run in AblationResult.read(path).runs:
        score = run.scores.get(metric)
        if score is not None:
            cells.setdefault(tuple(sorted(run.levels.items())), []).append(score)
    return list(cells.values())


def _repeated(folder: Path, metric: str) -> list[list[float]]:
    """The scores of the trainings of each repeated phase, on the split that the report speaks of."""
    found = Derived.read(folder / "derived.json").seeds
    split = read_scores(Path("metrics", folder.name, f"{load().phase}.json")).headline_split
    groups = []
    for phase in found.phases.values() if found is not None else ():
        row = phase.scores.get(split, {}).get(metric)
        if row is not None:
            groups.append([value for value in row.values if value is not None])
    return groups
