"""The figure of an ablation: every effect on the headline metric, and every factor's effect on every class."""

from pydantic import JsonValue

from retrace.documents.ablation import AblationResult
from retrace.report.blocks import Figure
from retrace.report.drawings import MARKERS, PALETTE, Chart, Line, Panel, Rule
from retrace.statistics.estimate import Interval

ZERO = Rule(0, width=0.9, style="-")


def effects_figure(found: AblationResult) -> Figure:
    """The figure from the contents of ablation.json."""
    classes = [name for name in next(iter(found.effects.values())) if "/" in name]
    rows = _headline_rows(found)
    tall = max(len(rows) * 0.32, len(classes) * 0.16 * max(2, len(found.factors))) + 1.2
    caption = (
        f"Effects on {found.headline} of {found.split} (left) and main effects on each class (right), in "
        "percentage points. Lines are 95 % intervals from seeds and images."
    )
    chart = Chart((_effects(rows, found), _classes(found, classes)), height=tall)
    return Figure("effects", chart, caption, png=True)


def _headline_rows(found: AblationResult) -> list[tuple[str, Interval, str]]:
    headline, label = found.headline, {name: row.label for name, row in found.factors.items()}
    rows = [(label[name], row[headline], PALETTE[0]) for name, row in found.effects.items()]
    for pair, row in found.interactions.items():
        first, second = pair.split(" x ")
        rows.append((f"{label[first]} × {label[second]}", row[headline], PALETTE[7]))
    if found.together:
        rows.append(("all together", found.together[headline], PALETTE[4]))
    return rows


def _lines(row: Interval, y: float, color: str, marker: str) -> list[Line]:
    """The interval and the value, in percentage points."""
    if row.value is None:
        return []
    lines = []
    if row.low is not None and row.high is not None:
        ends = (100 * row.low, 100 * row.high)
        lines.append(Line(ends, (y, y), {"color": color, "linewidth": 1.8}))
    dot: dict[str, JsonValue] = {"marker": marker, "linestyle": "None", "color": color, "markersize": 5}
    return [*lines, Line((100 * row.value,), (y,), dot)]


def _settings(names: list[str], label: str) -> dict[str, JsonValue]:
    ticks: dict[str, JsonValue] = {"yticks": list(range(len(names))), "yticklabels": [*names]}
    return ticks | {"xlabel": label, "ylim": [len(names) - 0.5, -0.5]}


def _effects(rows: list[tuple[str, Interval, str]], found: AblationResult) -> Panel:
    lines = [line for y, (_, row, color) in enumerate(rows) for line in _lines(row, y, color, "o")]
    settings = _settings([name for name, _, _ in rows], f"{found.headline}, points")
    return Panel(tuple(lines), settings, rules=(ZERO,), grid="x")


def _classes(found: AblationResult, classes: list[str]) -> Panel:
    factors, lines = list(found.factors), list[Line]()
    for index, factor in enumerate(factors):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        label = found.factors[factor].label
        lines.append(Line((), (), {"marker": marker, "linestyle": "None", "color": color, "label": label}))
        for place, name in enumerate(classes):
            y = place + 0.7 * ((index + 0.5) / len(factors) - 0.5)
            lines += _lines(found.effects[factor][name], y, color, marker)
    main = classes[0].partition("/")[0] if classes else ""
    settings = _settings([name.partition("/")[2] for name in classes], f"{main} per class, points")
    below: dict[str, JsonValue] = {"loc": "upper center", "bbox_to_anchor": [0.5, -0.08], "ncols": 2}
    return Panel(tuple(lines), settings, below, (ZERO,), grid="x")
