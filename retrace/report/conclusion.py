"""The last lines that a run prints: the score, the verdict, the targets and the path of the report."""

from collections import Counter

from retrace.documents.derived import Derived, Paired
from retrace.report import seed_tables
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger, plain
from retrace.report.tables import counted, label
from retrace.report.verdicts import words

PAGE = "report.html"


def conclusion(inputs: Inputs, derived: Derived) -> list[str]:
    """The lines, with the words and digits of the report. derived: derived.json."""
    ledger = Ledger()
    ledger.add(inputs.file_own("derived.json"), derived.content())
    over_seeds = seed_tables.line(inputs, ledger, derived)
    lines = [_score(inputs, ledger), over_seeds, *_verdicts(inputs, ledger, derived), _targets(inputs, derived)]
    return [line for line in lines if line] + [f"{inputs.report_folder.as_posix()}/{PAGE}"]


def _score(inputs: Inputs, ledger: Ledger) -> str:
    split, phase, metric = inputs.headline_split, inputs.params.phase, inputs.params.report.headline
    value = plain(ledger.interval(inputs.file_metrics(phase), f"splits.{split}.{metric}"))
    images = plain(counted(inputs, ledger, phase, split))
    demo = "" if inputs.params.report.real_data else ", demo data"
    return f"{phase}: {label(inputs, metric)} {value} on {split} ({images}{demo})"


def _verdicts(inputs: Inputs, ledger: Ledger, derived: Derived) -> list[str]:
    """The active phase compared with the first; where it is the first, the phases that are compared with it."""
    active, first = inputs.params.phase, next(iter(inputs.metrics))
    if active != first:
        return _verdict(inputs, ledger, f"against {first}", derived.final.get(inputs.headline_split), "final")
    lines = []
    for phase, rows in derived.comparisons.items():
        if rows.origin == active:
            on_split = rows.on(inputs.headline_split)
            lines += _verdict(inputs, ledger, f"{phase} against it", on_split, f"comparisons.{phase}")
    return lines


def _verdict(inputs: Inputs, ledger: Ledger, what: str, rows: Paired | None, key: str) -> list[str]:
    split, metric = inputs.headline_split, inputs.params.report.headline
    row = rows.difference(metric) if rows is not None else None
    if row is None or row.value is None:
        return []
    change = plain(ledger.interval(inputs.file_own("derived.json"), f"{key}.{split}.{metric}", "signed"))
    return [f"{what}: {change}, {words(row)}"]


def _targets(inputs: Inputs, derived: Derived) -> str:
    """`targets: 2 met, 1 not met`"""
    active = inputs.params.phase
    judged: Counter[str] = Counter()
    for claim, verdict in zip(inputs.params.report.claims, derived.claims, strict=True):
        if claim.kind == "target" and (claim.phase or active) == active:
            judged[verdict.status + (f" ({verdict.why})" if verdict.why else "")] += 1
    return "targets: " + ", ".join(f"{count} {words}" for words, count in judged.items()) if judged else ""
