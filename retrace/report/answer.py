"""The first screen of the report: the answer to the study's question, its phases in one chart, and why to trust it."""

from typing import Any

from retrace.documents.ablation import AblationResult
from retrace.documents.derived import Derived, Seeds
from retrace.documents.provenance import Provenance
from retrace.report.blocks import Cell, Interval, Intervals, Link, Links, Text, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Inline, Ledger
from retrace.report.tables import FLOOR, METHOD, counted, floor, label, verdict
from retrace.report.verdicts import words
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import BETTER, EQUAL, UNDECIDED, WORSE, of_effect

SAID = {BETTER: "is better than", WORSE: "is worse than", EQUAL: "equals"}


def sentence(inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance) -> Text:
    """What the study found, with its uncertainty: the ablation's effects where there are any, else the phases'."""
    found = ablation_of(inputs, document)
    answer = _of_phases(inputs, ledger, derived) if found is None else _of_ablation(inputs, ledger, found)
    return Text(answer, tone="headline")


def ablation_of(inputs: Inputs, document: Provenance) -> AblationResult | None:
    """The study's ablation, if it ablates a phase of this report and was trained and scored on the same data."""
    found = inputs.ablation
    if found is None or found.phase not in inputs.metrics or found.headline != inputs.params.report.headline:
        return None
    recorded = {path: md5 for stage in document.stages.values() for path, md5 in stage.deps.items()}
    data = {path: md5 for path, md5 in found.made_from.items() if path.startswith("data/")}
    same = data and all(recorded.get(path) == md5 for path, md5 in data.items())
    return found if same else None


def _of_phases(inputs: Inputs, ledger: Ledger, derived: Derived) -> Inline:
    active, first, metric = inputs.params.phase, next(iter(inputs.metrics)), inputs.params.report.headline
    split = inputs.headline_split
    parts: list[Any] = []
    if derived.seeds is not None and active in derived.seeds.comparisons:
        parts.append(_over_seeds(inputs, ledger, derived.seeds, active))
    elif active != first:
        paired = derived.final.get(split)
        row = paired.difference(metric) if paired is not None else None
        parts.append(_compared(inputs, ledger, (active, first), row, f"final.{split}.{metric}"))
    else:
        for phase, comparison in derived.comparisons.items():
            paired = comparison.on(split) if comparison.origin == active else None
            if paired is not None:
                key = f"comparisons.{phase}.{split}.{metric}"
                parts.append(_compared(inputs, ledger, (phase, active), paired.difference(metric), key))
    value = ledger.interval(inputs.file_metrics(active), f"splits.{split}.{metric}")
    images = counted(inputs, ledger, active, split)
    score = run(f"{active} scores {label(inputs, metric)} ", *value, f" on {split} (", *images, "). ")
    return run(score, *(part for part in parts if part))


def _compared(inputs: Inputs, ledger: Ledger, phases: tuple[str, str], row: Difference | None, key: str) -> Inline:
    """`mae_ohem is better than baseline, by +0.050 [+0.010, +0.090]. `, or that it is not known."""
    if row is None or row.value is None:
        return ()
    return run("With these weights, ", *_judged(inputs, ledger, phases, row, key))


def _over_seeds(inputs: Inputs, ledger: Ledger, found: Seeds, phase: str) -> Inline:
    """The same of the means over several seeds, which is what a verdict about a phase is about."""
    split, comparison = inputs.headline_split, found.comparisons[phase]
    if split not in comparison.splits:
        return ()
    key = f"seeds.comparisons.{phase}.splits.{split}.difference"
    row = comparison.splits[split].difference
    if row.value is None:
        return ()
    seeds = ledger.num(inputs.file_own("derived.json"), f"seeds.phases.{phase}.seeds", "plain")
    return run("Over the seeds ", seeds, ", ", *_judged(inputs, ledger, (phase, comparison.origin), row, key))


def _judged(inputs: Inputs, ledger: Ledger, phases: tuple[str, str], row: Difference, key: str) -> Inline:
    one, other = phases
    file = inputs.file_own("derived.json")
    change = ledger.interval(file, key, "signed")
    if row.verdict in SAID:
        return run(f"{one} {SAID[row.verdict]} {other}: ", *change, ". ")
    if row.verdict == UNDECIDED:
        least = ledger.num(file, f"{key}.detectable", "fraction")
        text = (f"it is undecided whether {one} differs from {other}: ", *change)
        return run(*text, "; this comparison could have shown a difference of ", least, ". ")
    return run(f"{one} against {other}: ", *change, f", {words(row)}. ")


def _of_ablation(inputs: Inputs, ledger: Ledger, found: AblationResult) -> Inline:
    """What all changes did together, and which of them helped, cost, or had no measurable effect."""
    file, metric = inputs.file_ablation, found.headline
    groups: dict[str, list[Any]] = {"Helped": [], "Cost": [], "No measurable effect": []}
    said = {BETTER: "Helped", WORSE: "Cost", UNDECIDED: "No measurable effect"}
    for name, factor in found.factors.items():
        into = groups[said[of_effect(found.effects[name][metric])]]
        value = ledger.interval(file, f"effects.{name}.{metric}", "points")
        into.append(run(f"{factor.label} (", *value, ")"))
    parts: list[Any] = []
    if found.together is not None:
        total = ledger.interval(file, f"together.{metric}", "points")
        parts += [
            f"All changes of {found.phase} together: ",
            *total,
            f" {label(inputs, metric)} points on {found.split}. ",
        ]
    for word, listed in groups.items():
        for index, item in enumerate(listed):
            parts += [", " if index else f"{word}: ", *item]
        if listed:
            parts.append(". ")
    seeds = ledger.num(file, "seeds", "plain")
    images = ledger.num(file, "images", "count")
    return run(
        *parts, "Measured one change at a time over all combinations, ", images, " images, seed labels ", seeds, "."
    )


def chart(inputs: Inputs, ledger: Ledger, derived: Derived) -> Intervals:
    """Every phase with its score, its interval and its verdict, and the floor below them."""
    split, metric = inputs.headline_split, inputs.params.report.headline
    rows = []
    for phase, scores in inputs.metrics.items():
        if split in scores.splits:
            score = ledger.interval(inputs.file_metrics(phase), f"splits.{split}.{metric}")
            origin = derived.comparisons[phase].origin
            word = verdict(inputs, ledger, derived, phase, split, metric)
            said = cell(f"{word.parts[0]} (vs {origin})", tone=word.tone) if origin else word
            rows.append(Interval(phase, score, said))
    best: Cell = floor(inputs, ledger, split, metric)
    known = best.parts if any(not isinstance(part, str) for part in best.parts) else ()
    images = counted(inputs, ledger, inputs.params.phase, split)
    caption = run("n = ", *images, f". Brackets: 95 % interval, drawn as a line (see {METHOD})")
    if known:
        caption = run(
            *caption, f"; the dashed line is the {FLOOR}, ", *known, ", the best answer that looks at no image"
        )
    title = f"{label(inputs, metric)} on {split}, by phase"
    return Intervals(title, tuple(rows), known, run(*caption, "."))


def _seeds(inputs: Inputs, ledger: Ledger, derived: Derived) -> Inline:
    """How often each phase was trained, and with which seeds."""
    first = ledger.num(inputs.file_own("parameters.json"), "seed", "plain")
    if derived.seeds is None:
        return ("one training per phase, seed ", first)
    parts: list[Any] = []
    for phase in derived.seeds.phases:
        seeds = ledger.num(inputs.file_own("derived.json"), f"seeds.phases.{phase}.seeds", "plain")
        parts += [f"{phase} with seeds ", seeds, "; "]
    return run(*parts, "the tables of scores show those with seed ", first)


def trust(inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance) -> Links:
    """Whether the data is real, what was resampled, how often each phase was trained, and what can be checked."""
    split, file = inputs.headline_split, inputs.file_metrics(inputs.params.phase)
    real = "real" if inputs.params.report.real_data else "demo: drawn by a generator"
    unit = inputs.active.splits[split].unit
    units = ledger.num(file, f"splits.{split}.units", "count")
    failed = sum(not check.passed for check in derived.checks)
    checks = f"{len(derived.checks) - failed} of {len(derived.checks)} checks passed"
    outs = sum(len(stage.outs) for stage in document.stages.values())
    sums = f"md5 of {outs} outputs recorded; `retrace verify` makes them again" if outs else "no md5 recorded"
    items = [
        Link("Data", (real,), "#data"),
        Link("Independent units", (units, f" {unit}s on {split}"), "#method"),
        Link("Seeds", _seeds(inputs, ledger, derived), "#phases" if derived.seeds else "#method"),
        Link("Checklist", (checks,), "#checks"),
        Link("Reproducible", (sums,), "#provenance"),
    ]
    found = ablation_of(inputs, document)
    if found is not None:
        page = f"../{inputs.study}-ablation/ablation.html"
        items.append(Link("Ablation", (f"the effect of each change of {found.phase}",), page))
    return Links("Evidence", tuple(items))
