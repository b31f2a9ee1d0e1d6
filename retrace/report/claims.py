"""Published and target figures beside the measured ones, and the table from baseline to final."""

from typing import Any

from retrace.config.metrics import HISTORY, RUN, place_of
from retrace.config.schema import Claim
from retrace.documents.derived import Derived
from retrace.report.blocks import Cell, Table, cell, run
from retrace.report.comparisons import claim_source, metric_of
from retrace.report.inputs import Inputs, Results
from retrace.report.numbers import ABSENT, Inline, Ledger
from retrace.report.tables import TONES, averaged, counted, judged, label, rare, unreliable


def claims(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Published, baseline and target figures beside the measured ones, with the verdict on each."""
    rows = []
    told = any(claim.measured for claim in inputs.params.report.claims)
    for index, claim in enumerate(inputs.params.report.claims):
        verdict = derived.claims[index]
        measured: Inline = (ABSENT,)
        if verdict.why != "not measured" and not metric_of(inputs, claim).missing:
            measured = _measured(ledger, *claim_source(inputs, claim))
        status = verdict.status + (f" ({verdict.why})" if verdict.why else "")
        rows.append(
            (
                cell(claim.label),
                cell(claim.kind),
                cell(verdict.phase),
                cell(claim.split),
                cell(claimed(inputs, ledger, index)),
                *((cell(claim.measured or ABSENT, tone="quiet"),) if told else ()),
                cell(measured),
                _basis(inputs, ledger, claim),
                cell(status, tone=TONES[verdict.status]),
            )
        )
    how = ("How the claim was measured",) if told else ()
    columns = ("Figure", "Kind", "Phase", "Split", "Claimed", *how, "Measured", "n", "Status")
    note = (
        "A target is met when the measured value reaches it. A published or baseline value is met when the interval of "
        "the measured value reaches it, and a published range is met when the interval overlaps it. Parameter counts "
        "and file sizes are met within the given range or, for a single value, within half a unit of its last nonzero "
        "digit."
    )
    return Table("claims", "Claimed and measured", columns, tuple(rows), (note,)) if rows else None


def _basis(inputs: Inputs, ledger: Ledger, claim: Claim) -> Cell:
    """The number of images behind a measured score, and those of its classes that have too few examples."""
    phase, declared = claim.phase or inputs.params.phase, metric_of(inputs, claim)
    if declared.fact or declared.place == RUN or claim.split not in inputs.metrics[phase].splits:
        return cell(ABSENT)
    images = counted(inputs, ledger, phase, claim.split)
    if declared.place == HISTORY:
        return cell(images)
    metric = inputs.metrics[phase].training.monitor if claim.metric == "best_value" else claim.metric
    few = rare(inputs, ledger, phase, claim.split, averaged(inputs, metric), named="/" not in claim.metric)
    return cell(images, *(("; ", few, ": not reliable") if few else ()), tone="warn" if few else "")


def _measured(ledger: Ledger, file: str, key: str, style: str) -> Inline:
    try:
        return ledger.interval(file, key, style)
    except KeyError:
        return (ABSENT,)


def claimed(inputs: Results, ledger: Ledger, index: int) -> Inline:
    """`0.796`, `0.8 to 0.85`, `at least 0.75` or `at most 60`, with the digits given in the parameters."""
    claim: Claim = inputs.params.report.claims[index]
    style = "size" if claim.metric == "bytes" else "given"
    file = inputs.file_own("parameters.json")
    ends = {
        name: ledger.num(file, f"report.claims.{index}.{name}", style)
        for name in ("value", "low", "high")
        if getattr(claim, name) is not None
    }
    if "value" in ends:
        return (ends["value"],)
    if "low" in ends and "high" in ends:
        return (ends["low"], " to ", ends["high"])
    if "low" in ends:
        return ("at least ", ends["low"])
    return ("at most ", ends["high"]) if "high" in ends else (ABSENT,)


def final(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table:
    """Metric | Baseline | Target | Final | Change | Status, comparing the first phase with the active one.

    Where the active phase is the first, the other phases are the baselines: Metric | Target | Final | ... | Status.
    """
    active, split = inputs.params.phase, inputs.headline_split
    first = next(iter(inputs.metrics))
    targets: dict[tuple[str, str], int] = {
        (claim.metric, claim.split): index
        for index, claim in enumerate(inputs.params.report.claims)
        if claim.kind == "target" and (claim.phase or active) == active
    }
    wanted = list(targets)
    wanted += [(metric, split) for metric in inputs.overall if (metric, split) not in wanted]
    rows = []
    for metric, on in wanted:
        if on not in inputs.metrics[first].splits or on not in inputs.metrics[active].splits:
            continue
        rows.append(_final_row(inputs, ledger, derived, metric, on, targets.get((metric, on))))
    counts: list[Any] = []
    for name in dict.fromkeys(name for _, name in wanted if name in inputs.active.splits):
        counts += ["; " if counts else "Scored on ", f"{name}, n = ", *counted(inputs, ledger, active, name)]
    few = unreliable(inputs, ledger, active, [name for _, name in wanted if name in inputs.active.splits])
    if active == first:
        others = [phase for phase in inputs.metrics if phase != active]
        columns: tuple[str, ...] = (
            "Metric",
            "Target",
            f"Final ({active})",
            *(f"Baseline ({n})" for n in others),
            "Status",
        )
        title = "Final and baselines" if others else "Final"
        note = "For paired differences and verdicts, see Scores and verdicts." if others else ""
        return Table("final", title, columns, tuple(rows), run(*counts, f". {note}".rstrip(), few))
    columns = (
        "Metric",
        "Baseline" if first == "baseline" else f"Baseline ({first})",
        "Target",
        f"Final ({active})",
        "Change",
        "Status",
    )
    note = "Change is the paired difference. Status compares with the target or, without a target, gives the verdict."
    return Table("final", "Baseline and final", columns, tuple(rows), run(*counts, f". {note}", few))


def _final_row(
    inputs: Inputs, ledger: Ledger, derived: Derived, metric: str, split: str, target: int | None
) -> tuple[Cell, ...]:
    active, first = inputs.params.phase, next(iter(inputs.metrics))
    key, style = place_of(inputs.params.task, metric, split)
    goal = cell(claimed(inputs, ledger, target)) if target is not None else cell(ABSENT)
    if active == first:
        scores = [cell(_measured(ledger, inputs.file_metrics(phase), key, style)) for phase in inputs.metrics]
        word = "no target" if target is None else derived.claims[target].status
        return cell(f"{label(inputs, metric)}, {split}"), goal, *scores, cell(word, tone=TONES.get(word, "quiet"))
    before = _measured(ledger, inputs.file_metrics(first), key, style)
    after = _measured(ledger, inputs.file_metrics(active), key, style)
    change, status = cell(ABSENT), cell("no target", tone="quiet")
    paired = derived.final.get(split)
    row = paired.difference(metric) if paired is not None else None
    if row is not None and row.value is not None:
        change = cell(ledger.interval(inputs.file_own("derived.json"), f"final.{split}.{metric}", "signed"))
        status = judged(row)
    if target is not None:
        word = derived.claims[target].status
        status = cell(word, tone=TONES[word])
    return cell(f"{label(inputs, metric)}, {split}"), cell(before), goal, cell(after), change, status
