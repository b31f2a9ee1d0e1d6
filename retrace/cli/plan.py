"""`retrace plan`: how many images, sequences and seeds it takes to detect a difference."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrace.config.load import load
from retrace.errors import UserError
from retrace.files import read_json
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
    derived = read_json(folder / "derived.json")
    active = read_json(Path("metrics", params.study, f"{params.phase}.json"))["splits"]
    split = "test" if active.get("test", {}).get("images") else next(iter(active))
    found = []
    for phase, rows in derived["comparisons"].items():
        row = ((rows.get(split) or {}) if rows["from"] else {}).get(name)
        if row and row["detectable"]:
            found.append(_need(f"{phase} against {rows['from']}", row, active[split], detect))
    if not found:
        raise UserError(
            f"{folder}: no comparison of {name} on {split} has an interval; compare two phases on at least five "
            "independent images or sequences first"
        )
    return name, split, found


def _need(comparison: str, row: dict[str, Any], scored: dict[str, Any], detect: float) -> Need:
    units = units_needed(row["n"], row["detectable"], detect)
    images = math.ceil(units * scored["images"] / scored["units"])
    return Need(comparison, scored["images"], row["n"], scored["unit"], row["detectable"], units, images)


def seeds(detect: float, metric: str) -> tuple[float, int, int] | None:
    """(spread over seeds, runs it was taken from, seeds that each phase needs), from the study's committed ablation.

    None where there is none, or all of its runs score alike.
    """
    path = Path("reports", f"{load().study}-ablation", "ablation.json")
    if not path.is_file():
        return None
    cells: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for run in read_json(path)["runs"]:
        score = run["scores"].get(metric)
        if score is not None:
            cells.setdefault(tuple(sorted(run["levels"].items())), []).append(score)
    variances = [float(np.var(scores, ddof=1)) for scores in cells.values() if len(scores) > 1]
    spread = math.sqrt(sum(variances) / len(variances)) if variances else 0.0
    runs = sum(map(len, cells.values()))
    return (spread, runs, seeds_needed(spread, detect)) if spread > 0 else None
