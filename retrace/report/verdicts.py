"""Which difference of two phases gets which verdict, and why some get none.

Holm's correction runs over the verdicts that stand in one table: the headline of all phases; the classes of a
phase; the other overall scores of a phase.
"""

from collections.abc import Mapping
from typing import Any

from retrace.report.inputs import Inputs
from retrace.statistics.bootstrap import FEWEST_UNITS
from retrace.statistics.verdicts import decide

Row = dict[str, Any]

NO_VERDICT = {  # key of the reason -> in words
    "floor": "no verdict: not above a constant answer",
    "units": f"no verdict: fewer than {FEWEST_UNITS} independent units",
    "usable": "no verdict: undefined in most resamples",
    "undefined": "undefined",
}


def words(row: Row) -> str:
    """The verdict, or why there is none."""
    return str(row["verdict"] or NO_VERDICT[row["why"]])


def decide_tables(inputs: Inputs, comparisons: Mapping[str, Row], final: Mapping[str, Any]) -> None:
    """Add `verdict` and `why` to every difference.

    verdict: better, worse, equal, undecided or None; why: a key of `NO_VERDICT` where it is None.
    """
    headline = inputs.params.report.headline
    for split in inputs.active["splits"]:
        first: dict[str, Row] = {}
        for phase, rows in comparisons.items():
            named = _rows(rows.get(split))
            if headline in named:
                first[phase] = named.pop(headline)
            _decide(inputs, phase, split, {n: row for n, row in named.items() if "/" in n})
            _decide(inputs, phase, split, {n: row for n, row in named.items() if "/" not in n})
        _decide_together(inputs, split, headline, first)
        _decide(inputs, inputs.params.phase, split, _rows(final.get(split)))


def _rows(found: Mapping[str, Any] | None) -> dict[str, Row]:
    return {name: row for name, row in (found or {}).items() if isinstance(row, dict)}


def _decide(inputs: Inputs, phase: str, split: str, rows: Mapping[str, Row]) -> None:
    judged = {name: why_not(row, floor_of(inputs, phase, split, name)) for name, row in rows.items()}
    set_verdicts(rows, judged, inputs.params.report.margin)


def _decide_together(inputs: Inputs, split: str, metric: str, rows: Mapping[str, Row]) -> None:
    judged = {phase: why_not(row, floor_of(inputs, phase, split, metric)) for phase, row in rows.items()}
    set_verdicts(rows, judged, inputs.params.report.margin)


def set_verdicts(rows: Mapping[str, Row], judged: Mapping[str, str | None], margin: float) -> None:
    """Add `verdict` and `why` to the differences of one table. judged: `why_not` of each."""
    allowed = [name for name, why in judged.items() if why is None]
    words = dict(zip(allowed, decide([rows[name] for name in allowed], margin), strict=True))
    for name, row in rows.items():
        row |= {"verdict": words.get(name), "why": judged[name]}


def why_not(row: Row, floor: Row | None) -> str | None:
    """A key of `NO_VERDICT`, or None where a verdict can be given. floor: that of the score, if it has one."""
    if row["value"] is None:
        return "undefined"
    if floor is not None and floor["beaten"] is False:
        return "floor"
    if row["low"] is None:
        return "units" if row["n"] < FEWEST_UNITS else "usable"
    return None


def floor_of(inputs: Inputs, phase: str, split: str, metric: str) -> Row | None:
    """The best constant answer under a score: `{"value", "beaten", "answer"}`; None where a score has none."""
    scored: Row = inputs.metrics[phase]["splits"][split]
    name, _, of = metric.partition("/")
    if not of:
        return scored["floor"].get(metric)
    return scored["per_class"][of]["floor"] if name == inputs.per_class[0] else None
