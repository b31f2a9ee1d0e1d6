"""Scores of repeated phases over their seeds, with spread, differences and verdicts, for derived.json."""

import math

import numpy as np

from retrace.documents.derived import PhaseSeeds, SeedComparison, SeedDifference, Seeds, SeedScore
from retrace.documents.scores import Floor
from retrace.report.inputs import Inputs
from retrace.report.resamples import Resamples, image_ids
from retrace.report.verdicts import decided
from retrace.statistics import repeats
from retrace.statistics.estimate import Difference


def over_seeds(inputs: Inputs) -> Seeds | None:
    """Everything over seeds; None where no phase has repeats.

    A phase is compared with the one that it starts from, by the headline, where both have repeats.
    """
    repeated = [phase for phase in inputs.metrics if len(inputs.params.trainings_of(phase)) > 1]
    if not repeated:
        return None
    resamples = Resamples(inputs)
    comparisons = {}
    for phase in repeated:
        other = inputs.compared_with(phase)
        if other in repeated:
            comparisons[phase] = _compared(inputs, resamples, phase, other)
    return Seeds(
        phases={phase: _phase(inputs, resamples, phase) for phase in repeated},
        comparisons=_decided(inputs, comparisons),
    )


def same_images(inputs: Inputs, phases: list[str], split: str) -> bool:
    """Whether all trainings of these phases were scored on the same images of a split, at least one."""
    names = [name for phase in phases for name in inputs.params.trainings_of(phase)]
    if any(split not in inputs.scores(name).splits for name in names):
        return False
    ids = image_ids(inputs, names[0], split)
    return bool(ids) and all(image_ids(inputs, name, split) == ids for name in names)


def _phase(inputs: Inputs, resamples: Resamples, phase: str) -> PhaseSeeds:
    scores: dict[str, dict[str, SeedScore]] = {}
    for split in inputs.metrics[phase].splits:
        if not same_images(inputs, [phase], split):
            continue
        scores[split] = {}
        for metric in resamples.of(phase, split)[0]:
            trained = _trained(inputs, resamples, phase, split, metric)
            values = [None if math.isnan(value) else float(value) for value in trained[0]]
            mean = repeats.mean(trained, resamples.units(phase, split, metric))
            spread = repeats.spread(trained[0])
            scores[split][metric] = SeedScore(mean=mean, spread=spread, values=values)
    seeds = [one.seed for one in inputs.params.trainings_of(phase).values()]
    return PhaseSeeds(seeds=seeds, scores=scores)


def _trained(inputs: Inputs, resamples: Resamples, phase: str, split: str, metric: str) -> repeats.Trained:
    found = [resamples.of(name, split) for name in inputs.params.trainings_of(phase)]
    values = np.array([float(values[metric]) for values, _ in found])
    return values, np.stack([draws[metric] for _, draws in found], axis=1)


def _compared(inputs: Inputs, resamples: Resamples, phase: str, other: str) -> SeedComparison:
    metric, splits = inputs.params.report.headline, {}
    for split in inputs.metrics[phase].splits:
        if not same_images(inputs, [phase, other], split):
            continue
        mine, others = (_trained(inputs, resamples, name, split, metric) for name in (phase, other))
        difference = repeats.difference(mine, others, resamples.units(phase, split, metric))
        superiority = repeats.superiority(mine[0], others[0])
        splits[split] = SeedDifference(difference=difference, superiority=superiority)
    return SeedComparison(origin=other, splits=splits)


def _decided(inputs: Inputs, comparisons: dict[str, SeedComparison]) -> dict[str, SeedComparison]:
    """With verdicts: Holm's correction runs over the phases, as they stand in one table."""
    for split in inputs.active.splits:
        rows: dict[str, Difference] = {}
        for phase, comparison in comparisons.items():
            if split in comparison.splits:
                rows[phase] = comparison.splits[split].difference
        floors = {phase: _floor(inputs, phase, split) for phase in rows}
        for phase, row in decided(rows, floors, inputs.params.report.margin).items():
            comparison = comparisons[phase]
            one = comparison.splits[split].model_copy(update={"difference": row})
            splits = comparison.splits | {split: one}
            comparisons = comparisons | {phase: comparison.model_copy(update={"splits": splits})}
    return comparisons


def _floor(inputs: Inputs, phase: str, split: str) -> Floor | None:
    """The floor under the headline: beaten where every training beats it."""
    names, metric = inputs.params.trainings_of(phase), inputs.params.report.headline
    floors = [inputs.scores(name).floor(metric, split) for name in names]
    missed = [floor for floor in floors if floor is not None and floor.beaten is False]
    return missed[0] if missed else floors[0]
