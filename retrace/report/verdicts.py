"""Which difference of two phases gets which verdict, and why some get none.

Holm's correction runs over the verdicts that stand in one table: the headline of all phases; the
classes of a phase; the other overall scores of a phase.
"""

from collections.abc import Mapping
from dataclasses import replace

from retrace.documents.scores import Floor
from retrace.report.inputs import Inputs
from retrace.statistics.bootstrap import FEWEST_UNITS, LEAST_USABLE
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import BETTER, EQUAL, WORSE, decide

Rows = dict[str, Difference]  # by metric
BySplit = dict[str, Rows | None]  # None: not the same images

NO_VERDICT = {  # key of the reason -> in words
    "floor": "no verdict: not above a constant answer",
    "units": f"no verdict: fewer than {FEWEST_UNITS} independent units",
    "usable": "no verdict: undefined in most resamples",
    "seeds": "no verdict: all seeds score alike",
    "undefined": "undefined",
}


def words(row: Difference, over_seeds: bool = False) -> str:
    """The verdict, or why there is none.

    over_seeds: whether both phases were trained with several seeds. If not, the verdict is about these weights.
    """
    if row.verdict in (BETTER, WORSE, EQUAL) and not over_seeds:
        return f"{row.verdict} (these weights)"
    return row.verdict or NO_VERDICT[row.why or "undefined"]


def decide_tables(inputs: Inputs, comparisons: Mapping[str, BySplit], final: BySplit) -> None:
    """Give every difference its `verdict`, or `why` (a key of `NO_VERDICT`) it has none.

    comparisons: by phase. final: of the active phase.
    """
    headline = inputs.params.report.headline
    for split in inputs.active.splits:
        first = {}
        for phase, by_split in comparisons.items():
            rows = by_split.get(split) or {}
            others = {name: row for name, row in rows.items() if name != headline}
            of_class = {name: row for name, row in others.items() if "/" in name}
            overall = {name: row for name, row in others.items() if "/" not in name}
            rows |= _decided(inputs, phase, split, of_class)
            rows |= _decided(inputs, phase, split, overall)
            if headline in rows:
                first[phase] = rows[headline]
        floors = {phase: inputs.metrics[phase].floor(headline, split) for phase in first}
        for phase, row in decided(first, floors, inputs.params.report.margin).items():
            rows = comparisons[phase][split] or {}
            rows[headline] = row
        last = final.get(split) or {}
        last |= _decided(inputs, inputs.params.phase, split, last)


def _decided(inputs: Inputs, phase: str, split: str, rows: Rows) -> Rows:
    floors = {name: inputs.metrics[phase].floor(name, split) for name in rows}
    return decided(rows, floors, inputs.params.report.margin)


def decided(rows: Rows, floors: Mapping[str, Floor | None], margin: float) -> Rows:
    """The differences of one table with their verdicts. floors: under the score of each row."""
    reasons = {name: why_not(row, floors[name]) for name, row in rows.items()}
    allowed = [name for name, why in reasons.items() if why is None]
    verdicts = dict(zip(allowed, decide([rows[name] for name in allowed], margin), strict=True))
    result = {}
    for name, row in rows.items():
        result[name] = replace(row, verdict=verdicts.get(name), why=reasons[name])
    return result


def why_not(row: Difference, floor: Floor | None) -> str | None:
    """A key of `NO_VERDICT`, or None where a verdict can be given. floor: that of the score."""
    if row.value is None:
        return "undefined"
    if floor is not None and floor.beaten is False:
        return "floor"
    if row.low is None:
        if row.n < FEWEST_UNITS:
            return "units"
        return "usable" if row.usable < LEAST_USABLE else "seeds"
    return None
