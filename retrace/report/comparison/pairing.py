"""The difference of two runs by paired bootstrap, only where both scored the same images with the same labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrace import seeds
from retrace.config.trainings import stage_of
from retrace.errors import UserError
from retrace.programs import how_to_get
from retrace.report.comparison import cache
from retrace.report.comparison.recorded import recorded
from retrace.report.comparison.selection import Run, how_to_run
from retrace.report.resamples import per_image, read_units
from retrace.statistics.bootstrap import Statistic, Units
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import paired_difference

MISSING = "results per image missing"
EXACT = 1e-6  # largest difference between a recomputed score and the one in the metrics file


@dataclass(frozen=True)
class Outcome:
    """The difference of a run to another, or None and the reason.

    Its verdict is added when all rows of a table are known.
    """

    found: Difference | None
    why: str = ""  # short reason, for the table
    remedy: str = ""  # full reason and what to do, for the notes


class Unpaired(Exception):
    """Two runs cannot be paired: (short reason, full reason)."""


def difference(run: Run, base: Run, metric: str, split: str) -> Outcome:
    """The difference in `metric` of `run` minus `base` on the same images of `split`.

    Seed and number of resamples are those of `base`, so two phases of one study give the difference in their report.
    Runs are paired only where both have the same list of images, and the same bytes of image and mask (or boxes).
    Where results per image are missing, the difference in the committed report stands in, if it has this one.
    """
    try:
        _alike(run, base, metric, split)
        with (
            cache.folder(run, _names(run, split)) as run_folder,
            cache.folder(base, _names(base, split)) as base_folder,
        ):
            ids = _ids(run, run_folder, split)
            other = _ids(base, base_folder, split)
            if ids != other:
                shared = len(set(ids) & set(other))
                raise Unpaired(
                    "other images", f"{split}: {shared} of the {len(ids)} images of {run.name} are in {base.name}"
                )
            _same_truth(run, base, ids)
            assert run_folder is not None and base_folder is not None  # _ids read them
            scores, reference = _statistic(run, run_folder, split, metric), _statistic(base, base_folder, split, metric)
            seed = seeds.derive(base.seed, "bootstrap", split)
            units = _units(base, base_folder, split)
            row = paired_difference(scores, reference, units, base.resamples, seed)[metric]
    except Unpaired as reason:
        kept = recorded(run, base, metric, split) if reason.args[0] == MISSING else None
        return Outcome(None, *reason.args) if kept is None else Outcome(kept)
    return Outcome(row) if row.value is not None else Outcome(None, "undefined")


def _alike(run: Run, base: Run, metric: str, split: str) -> None:
    if (run.scores.task, run.scores.classes) != (base.scores.task, base.scores.classes):
        raise Unpaired("other classes", f"{run.name} and {base.name} were scored on other classes")
    if metric == "focus_mIoU" and set(run.focus_classes) != set(base.focus_classes):
        focus = " + ".join(run.focus_classes) or "no class"
        raise Unpaired("other focus classes", f"{run.name}: its focus_mIoU is of {focus} (report.focus_classes)")
    for one in (run, base):
        if split not in one.scores.splits or not one.scores.splits[split].images:
            raise Unpaired(f"no {split}", f"{one.name}: {split} was not scored (evaluate.splits)")


def _names(run: Run, split: str) -> tuple[str, ...]:
    kinds = ("matches", "objects") if run.scores.task == "detection" else ("confusion", *_outlines(run, split))
    return (f"images_{split}.txt", f"units_{split}.txt", *(f"{kind}_{split}.npy" for kind in kinds))


def _outlines(run: Run, split: str) -> tuple[str, ...]:
    scored = run.scores.splits.get(split)
    return ("boundary",) if scored is not None and scored.has("mean_boundary_F1") else ()


def _how_to_get(run: Run, folder: str) -> str:
    again = how_to_get(folder, f"dvc repro {stage_of('evaluate', run.phase)}")
    if run.place.commit is not None:
        there = f"dvc exp apply {run.place.name}" if run.place.experiment else f"git checkout {run.place.name}"
        return f"`{there}`, then {again}"
    if run.place.mapping("params.yaml").get("study") != run.study:  # DVC knows one study at a time
        return f"`{how_to_run(run.study, run.demo)}`"
    return again


def _ids(run: Run, folder: Path | None, split: str) -> list[str]:
    path = folder / f"images_{split}.txt" if folder is not None else None
    if path is None or not path.is_file():
        raise Unpaired(
            MISSING,
            f"the per-image results of {run.name} are not in the DVC cache; to get them: "
            f"{_how_to_get(run, f'metrics/{run.study}/{run.phase}')}",
        )
    return path.read_text(encoding="utf-8").split()


def _units(run: Run, folder: Path, split: str) -> Units:
    try:
        return read_units(folder, split)
    except FileNotFoundError:
        raise Unpaired(
            "made before units",
            f"{run.name}: it was scored by a version that did not write which images are independent; "
            f"`dvc repro {stage_of('evaluate', run.phase)}`",
        ) from None


def _statistic(run: Run, folder: Path, split: str, metric: str) -> Statistic:
    """The one score wanted, checked to be the one in the metrics file."""
    try:
        scores = per_image(folder, split, run.scores, run.focus_classes)
        images = run.scores.splits[split].images
        again = float(scores(np.ones((1, images)))[metric][0])
    except KeyError:
        raise UserError(f"{metric!r}: not a metric with results per image") from None
    except (OSError, ValueError) as error:
        raise Unpaired(
            "results per image damaged",
            f"{run.name}: {error}; `dvc checkout`, or `dvc repro {stage_of('evaluate', run.phase)}`",
        ) from None
    kept = run.scores.splits[split].estimate(metric).value
    if kept is not None and not abs(again - kept) <= EXACT:
        raise Unpaired(
            "results per image of another run",
            f"{run.name}: {metric} is {kept:.6f} in its metrics file, but {again:.6f} from its results per image; "
            f"`dvc checkout`, or `dvc repro {stage_of('evaluate', run.phase)}`",
        )

    def chosen(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {metric: scores(weights)[metric]}

    return chosen


def _same_truth(run: Run, base: Run, ids: list[str]) -> None:
    sums = []
    for one in (run, base):
        locked = cache.locked(one)
        manifest = (locked or {}).get(f"data/{one.study}/raw/manifest.jsonl")
        if manifest is None:
            raise Unpaired(
                "truth unknown",
                f"{one.name}: neither dvc.lock nor the report records the data of this metrics file; "
                f"`dvc repro` (or `dvc commit {stage_of('evaluate', one.phase)}`)",
            )
        sums.append(manifest)
    if sums[0] == sums[1]:
        return
    truths = [_truth(one, md5, ids) for one, md5 in zip((run, base), sums, strict=True)]
    changed = [image for image in ids if truths[0][image] != truths[1][image]]
    if changed:
        raise Unpaired(
            "other truth",
            f"{len(changed)} of {len(ids)} images of {run.name} have other pixels, masks or boxes than in {base.name} "
            f"(first: {changed[0]})",
        )


def _truth(run: Run, manifest: str, ids: list[str]) -> dict[str, tuple[Any, ...]]:
    """Image id -> sha256 of its picture, sha256 of its mask, its boxes."""
    rows = cache.blob(manifest)
    if rows is None:
        raise Unpaired(
            "truth unknown",
            f"the data of {run.name} (data/{run.study}/raw) differ between the runs and are not in the DVC cache, so "
            f"the labels cannot be compared; to get them: "
            f"{_how_to_get(run, f'data/{run.study}/raw')}",
        )
    wanted, found = set(ids), {}
    with open(rows, encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            if row["id"] in wanted:
                found[row["id"]] = (row["sha256"], row.get("mask_sha256"), row["boxes"])
    return {image: found.get(image, ()) for image in ids}
