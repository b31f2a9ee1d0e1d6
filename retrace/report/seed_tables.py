"""Tables over seeds: mean, spread, differences and how often one phase beats another."""

from retrace.documents.derived import Derived, Seeds
from retrace.report.blocks import Cell, Table, Text, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT, Inline, Ledger, plain
from retrace.report.tables import counted, judged, label

INTERVAL = "Brackets: 95 % interval over seeds and units."


def sentence(inputs: Inputs, ledger: Ledger, derived: Derived) -> Text | None:
    """The headline of the active phase over its seeds, where it has several."""
    phase, split, metric = inputs.params.phase, inputs.headline_split, inputs.params.report.headline
    if derived.seeds is None or split not in _splits(derived.seeds, phase):
        return None
    key = f"seeds.phases.{phase}"
    mean, spread = _score(inputs, ledger, phase, split, metric)
    seeds = ledger.num(inputs.file_own("derived.json"), f"{key}.seeds", "plain")
    text = run(
        "Over the seeds ",
        seeds,
        f" of phase {phase}, the mean {label(inputs, metric)} on {split} is ",
        *mean,
        "; the standard deviation over seeds is ",
        *spread,
        ".",
    )
    return Text(text)


def table(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """One row per repeated phase: the headline over its seeds on every split, and the comparison with its start."""
    found = derived.seeds
    if found is None:
        return None
    metric, split, file = inputs.params.report.headline, inputs.headline_split, inputs.file_own("derived.json")
    splits, rows = list(inputs.active.splits), []
    for phase in found.phases:
        scores = [cell(*_with_spread(inputs, ledger, found, phase, name, metric)) for name in splits]
        seeds = cell(ledger.num(file, f"seeds.phases.{phase}.seeds", "plain"))
        rows.append((cell(phase), seeds, *scores, *_comparison(inputs, ledger, found, phase, split)))
    columns = (
        "Phase",
        "Seeds",
        *(f"{label(inputs, metric)}, {name}: mean, SD" for name in splits),
        "Compared with",
        f"Difference, {split}",
        "Verdict",
        "P(A > B)",
    )
    note = run(
        f"Scored on {split}, n = ",
        *counted(inputs, ledger, inputs.params.phase, split),
        f". {INTERVAL} SD: standard deviation over seeds. P(A > B): how often a training of the phase (A) scores above "
        "one of the phase it is compared with (B), on these images. The first seed is that of the shipped weights, "
        "which every other table is about. A repeat trains its phase again from the same starting weights",
        _starts(inputs, found),
        ".",
    )
    return Table(f"seeds_{metric}", "Scores over seeds", columns, tuple(rows), note)


def overall(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Every overall metric over seeds on the headline split, phases side by side."""
    found, split = derived.seeds, inputs.headline_split
    if found is None:
        return None
    rows = []
    for metric in inputs.overall:
        scores = [cell(*_with_spread(inputs, ledger, found, phase, split, metric)) for phase in found.phases]
        rows.append((cell(label(inputs, metric)), *scores))
    note = run(f"Scored on {split}. {INTERVAL} SD: standard deviation over seeds.")
    return Table(
        f"seeds_overall_{split}", f"Every metric over seeds, {split}", ("Metric", *found.phases), tuple(rows), note
    )


def line(inputs: Inputs, ledger: Ledger, derived: Derived) -> str:
    """For the terminal: the active phase over its seeds, and its comparison; empty for one seed."""
    phase, split, metric = inputs.params.phase, inputs.headline_split, inputs.params.report.headline
    found = derived.seeds
    if found is None or split not in _splits(found, phase):
        return ""
    mean, spread = _score(inputs, ledger, phase, split, metric)
    seeds = len(found.phases[phase].seeds)
    text = f"over {seeds} seeds: mean {plain(mean)}, SD {plain(spread)}"
    comparison = found.comparisons.get(phase)
    if comparison is None or split not in comparison.splits:
        return text
    key = f"seeds.comparisons.{phase}.splits.{split}.difference"
    change = plain(ledger.interval(inputs.file_own("derived.json"), key, "signed"))
    word = judged(comparison.splits[split].difference, over_seeds=True).text
    return f"{text}; against {comparison.origin} {change}, {word}"


def _splits(found: Seeds, phase: str) -> tuple[str, ...]:
    return tuple(found.phases[phase].scores) if phase in found.phases else ()


def _score(inputs: Inputs, ledger: Ledger, phase: str, split: str, metric: str) -> tuple[Inline, Inline]:
    """(mean with its interval, standard deviation)"""
    file, key = inputs.file_own("derived.json"), f"seeds.phases.{phase}.scores.{split}.{metric}"
    return ledger.interval(file, f"{key}.mean"), (ledger.num(file, f"{key}.spread", "fraction4"),)


def _with_spread(inputs: Inputs, ledger: Ledger, found: Seeds, phase: str, split: str, metric: str) -> Inline:
    if metric not in found.phases[phase].scores.get(split, {}):
        return (ABSENT,)
    mean, spread = _score(inputs, ledger, phase, split, metric)
    return run(*mean, ", SD ", *spread)


def _comparison(inputs: Inputs, ledger: Ledger, found: Seeds, phase: str, split: str) -> tuple[Cell, ...]:
    comparison = found.comparisons.get(phase)
    if comparison is None or split not in comparison.splits:
        why = "the phase it starts from has one seed" if inputs.compared_with(phase) else "starting point"
        return cell(inputs.compared_with(phase) or ABSENT), cell(ABSENT), cell(why, tone="quiet"), cell(ABSENT)
    file, key = inputs.file_own("derived.json"), f"seeds.comparisons.{phase}.splits.{split}"
    difference = comparison.splits[split].difference
    detectable = (ledger.num(file, f"{key}.difference.detectable", "fraction"),)
    return (
        cell(comparison.origin),
        cell(ledger.interval(file, f"{key}.difference", "signed")),
        judged(difference, detectable, over_seeds=True),
        cell(ledger.interval(file, f"{key}.superiority", "fraction2")),
    )


def _starts(inputs: Inputs, found: Seeds) -> Inline:
    """From which seed of a repeated phase another phase starts."""
    parts = []
    for phase, block in inputs.params.phases.items():
        if block.init in found.phases:
            seed = found.phases[block.init].seeds[0]
            parts.append(f"{phase} from {block.init} with seed {seed}")
    return (f": {', '.join(parts)}",) if parts else ()
