"""The phases' scores on all images and on resamples of the independent units, from the results per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrace import seeds
from retrace.config.trainings import stage_of
from retrace.documents.scores import DetectionSplit, Scores
from retrace.errors import UserError
from retrace.evaluation.scores import segmentation
from retrace.programs import how_to_get
from retrace.report.inputs import Inputs
from retrace.statistics.bootstrap import Statistic, Units, draw, of_totals, point
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import difference

Draws = dict[str, np.ndarray]  # by score


def image_ids(inputs: Inputs, phase: str, split: str) -> list[str]:
    """The ids of the images that a phase (or a repeat of one) was scored on, in order."""
    path = Path("metrics", inputs.study, phase, f"images_{split}.txt")
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run {_remedy(inputs, phase)}") from None


def _remedy(inputs: Inputs, training: str) -> str:
    return how_to_get(f"metrics/{inputs.study}/{training}", f"dvc repro {stage_of('evaluate', training)}")


def unit_names(inputs: Inputs, phase: str, split: str) -> list[str]:
    """The independent unit of every image that a phase was scored on, in order."""
    folder = Path("metrics", inputs.study, phase)
    try:
        return read_unit_names(folder, split)
    except FileNotFoundError:
        raise UserError(f"{folder}/units_{split}.txt: no such file; run {_remedy(inputs, phase)}") from None


def read_unit_names(folder: Path, split: str) -> list[str]:
    """What `evaluate` wrote beside the results per image. Raises FileNotFoundError."""
    return (folder / f"units_{split}.txt").read_text(encoding="utf-8").split()


def read_units(folder: Path, split: str) -> Units:
    """`read_unit_names` as units. Raises FileNotFoundError."""
    return Units.named(read_unit_names(folder, split))


class Resamples:
    """Every score of every (training, split) on all images and on each resample, computed once.

    All trainings see the same resamples of a split, so the difference of two phases' draws is paired.
    """

    def __init__(self, inputs: Inputs):
        self._inputs = inputs
        self._kept: dict[tuple[str, str], tuple[Draws, Draws]] = {}

    def of(self, phase: str, split: str) -> tuple[Draws, Draws]:
        """({name: value on all images}, {name: float64 [resamples], NaN where undefined})."""
        if (phase, split) not in self._kept:
            params = self._inputs.params
            units = Units.named(unit_names(self._inputs, phase, split))
            scores = statistic(self._inputs, phase, split)
            values = point(scores, units)
            seed = seeds.derive(params.seed, "bootstrap", split)
            draws = draw(scores, values, units, params.evaluate.bootstrap, seed)
            self._kept[phase, split] = values, draws
        return self._kept[phase, split]

    def difference(self, phase: str, other: str, split: str) -> dict[str, Difference]:
        """By metric: how much `phase` exceeds `other` on the same images."""
        (values, draws), (other_values, other_draws) = self.of(phase, split), self.of(other, split)
        return {
            name: difference(
                float(value - other_values[name]),
                draws[name] - other_draws[name],
                self.units(phase, split, name),
            )
            for name, value in values.items()
        }

    def units(self, phase: str, split: str, name: str) -> int:
        """How many units a score is made from: for a class those that show it."""
        scored = self._inputs.scores(phase).splits[split]
        row = scored.per_class.get(name.partition("/")[2])
        return scored.units if row is None else row.units


def statistic(inputs: Inputs, phase: str, split: str) -> Statistic:
    """Image weights [b, N] -> the overall scores, the main score of every class and of every group of classes [b]."""
    folder, focus = Path("metrics", inputs.study, phase), inputs.params.report.focus_classes
    try:
        scores = per_image(folder, split, inputs.scores(phase), focus)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: cannot read the per-image results of {split} ({error}); run {_remedy(inputs, phase)}"
        ) from None
    main, groups = inputs.per_class[0], inputs.params.report.class_groups
    whole = scores(np.ones((1, inputs.scores(phase).splits[split].images)))
    defined = {group: [not np.isnan(whole[f"{main}/{name}"][0]) for name in names] for group, names in groups.items()}
    wanted = (*inputs.overall, *(f"{main}/{name}" for name in inputs.params.classes))

    def chosen(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = scores(weights)
        result = {name: drawn[name] for name in wanted}
        for group, names in groups.items():
            members = np.stack([drawn[f"{main}/{name}"] for name in names], axis=-1)
            result[f"group/{group}"] = _mean_of(members, np.array(defined[group]))
        return result

    return chosen


def per_image(folder: Path, split: str, document: Scores, focus: Sequence[str]) -> Statistic:
    """Image weights [b, N] -> every score [b], from the per-image results in `folder`. document: their metrics file.

    Raises OSError or ValueError for a missing or damaged file.
    """
    classes, scored = document.classes, document.splits[split]
    if isinstance(scored, DetectionSplit):
        from retrace.evaluation.detection import BoxScores
        from retrace.evaluation.scores.matching import load_matches

        matches = load_matches(folder, split)
        return BoxScores(matches, classes, scored.confidence, scored.best_F1_confidence)
    indices = [classes.index(name) for name in focus]
    counts = np.load(folder / f"confusion_{split}.npy", allow_pickle=False)
    whole = counts.sum(0)

    def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
        found = segmentation.scores(confusion, indices, whole)
        return found | {f"IoU/{name}": found["IoU"][..., index] for index, name in enumerate(classes)}

    areas = of_totals(scores, counts)
    path = folder / f"boundary_{split}.npy"
    if not path.exists():
        return areas
    from retrace.evaluation.boundary import boundary_scores  # loads OpenCV

    outlines = np.load(path, allow_pickle=False)
    edges = of_totals(lambda totals: boundary_scores(totals, outlines.sum(0)), outlines)
    return lambda weights: areas(weights) | {"mean_boundary_F1": edges(weights)["mean_boundary_F1"]}


def _mean_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[b, C] -> [b]: mean over the chosen classes (bool [C]), NaN without any or where one of them is NaN."""
    if not chosen.any():
        return np.full(len(values), np.nan)
    return np.where(chosen, values, 0.0).sum(-1) / chosen.sum()
