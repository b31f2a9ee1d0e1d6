"""The effect of each factor, with intervals and one sentence per factor, as plain data for ablation.json."""

from typing import Any

import numpy as np

from retrace.config.ablation import Ablation
from retrace.config.schema import Params
from retrace.documents.ablation import AblationResult, Effects, Experiment, Factor, Most
from retrace.report.numbers import Inline, Ledger, plain
from retrace.statistics.bootstrap import FEWEST_UNITS
from retrace.statistics.effects import Layout, costliest, effect, interactions, main_effects, together
from retrace.sweeps.design import Design
from retrace.sweeps.results import Results


def layout(results: Results) -> Layout:
    """Which cell every run is of, as an index."""
    cells = [experiment.cell for experiment in results.experiments]
    order = sorted(set(cells))
    return Layout(np.array([order.index(cell) for cell in cells]), np.array(cells))


def attribute(params: Params, design: Design, results: Results) -> AblationResult:
    """The whole of ablation.json."""
    assert params.ablation is not None
    ablation, runs = params.ablation, layout(results)
    contrasts = dict(zip(ablation.factors, main_effects(runs, design), strict=True))
    full = design == "full"
    pairs = interactions(runs) if full else {}
    names = list(ablation.factors)

    def all_metrics(contrast: np.ndarray) -> Effects:
        return {
            metric: effect(runs, contrast, results.scores[metric], results.draws[metric], results.units)
            for metric in results.scores
        }

    classes = [metric for metric in results.scores if "/" in metric]
    most = {}
    for name, contrast in contrasts.items():
        named = costliest(runs, contrast, results.scores, results.draws, classes, results.units)
        most[name] = {key: Most(name=metric, **vars(found)) for key, (metric, found) in named.items()}
    result = AblationResult(
        study=params.study,
        phase=ablation.phase,
        task=params.task,
        design=design,
        headline=params.report.headline,
        split=results.split,
        images=results.images,
        units=results.units,
        unit=results.unit,
        seeds=list(ablation.seeds),
        factors={
            name: Factor(label=ablation.title(name), off=factor.off, on=factor.on)
            for name, factor in ablation.factors.items()
        },
        made_from=dict(sorted(_made_from(results).items())),
        runs=_runs(ablation, results),
        effects={name: all_metrics(contrast) for name, contrast in contrasts.items()},
        interactions={f"{names[f]} x {names[g]}": all_metrics(row) for (f, g), row in pairs.items()},
        together=all_metrics(together(runs)) if full and len(names) > 1 else None,
        most=most,
    )
    return with_sentences(result)


def with_sentences(result: AblationResult) -> AblationResult:
    """The result with a sentence for each factor, made from its effects."""
    ledger = Ledger()
    ledger.add("", result.content())
    sentences = {name: plain(sentence(ledger, "", result, name)) for name in result.factors}
    return result.model_copy(update={"sentences": sentences})


def _made_from(results: Results) -> dict[str, str]:
    """{path: hash} of code, lock, data and starting weights; those of all runs, which differ in parameters alone."""
    return {path: md5 for experiment in results.experiments for path, md5 in experiment.made_from.items()}


def _runs(ablation: Ablation, results: Results) -> list[Experiment]:
    rows = []
    each = zip(results.experiments, results.commits, results.made, strict=True)
    for index, (experiment, commit, made) in enumerate(each):
        levels = {name: "on" if level else "off" for name, level in zip(ablation.factors, experiment.cell, strict=True)}
        values = {name: float(column[index]) for name, column in results.scores.items()}
        scores = {name: None if np.isnan(value) else value for name, value in values.items()}
        row = Experiment(
            name=experiment.name,
            commit=commit,
            levels=levels,
            seed=experiment.seed,
            training_seed=experiment.training_seed,
            scores=scores,
            made=made,
        )
        rows.append(row)
    return rows


def sentence(ledger: Ledger, file: str, found: AblationResult, name: str) -> Inline:
    """ "random crop: -1.9 mIoU points [-2.6, -1.2], depends on Dice (interaction +0.8 [+0.3, +1.3]), costs Sky most
    (-4.2 [-6.0, -2.4])".

    found: ablation.json, which `ledger` knows as `file`; name: the factor.
    """
    headline = found.headline
    row, most = found.effects[name][headline], found.most[name]
    value, *interval = ledger.interval(file, f"effects.{name}.{headline}", "points")
    parts: list[Any] = [f"{found.factors[name].label}: ", value, f" {headline} points", *interval]
    depends = _depends(ledger, file, found, name)
    if row.low is None:
        parts.append(
            ", without an interval "
            + ("(too few independent images)" if found.units < FEWEST_UNITS else "(all runs score alike)")
        )
    elif not row.excludes_zero:
        parts.append(f", no measurable effect{' on average' if depends else ''}")
    parts += depends
    for key, verb in (("costs", "costs"), ("gains", "helps")):
        if key in most:
            where = ledger.interval(file, f"most.{name}.{key}", "points")
            parts += [f", {verb} {most[key].name.partition('/')[2]} most (", *where, ")"]
    return tuple(parts)


def _depends(ledger: Ledger, file: str, found: AblationResult, name: str) -> list[Any]:
    """The other factors that change this one's effect: those whose interaction's interval excludes 0."""
    headline, parts = found.headline, list[Any]()
    for pair, effects in found.interactions.items():
        row, both = effects[headline], pair.split(" x ")
        if name in both and row.excludes_zero:
            (other,) = (factor for factor in both if factor != name)
            where = ledger.interval(file, f"interactions.{pair}.{headline}", "points")
            words = " and " if parts else ", depends on "
            parts += [words, found.factors[other].label, " (interaction ", *where, ")"]
    return parts
