"""The figure of an ablation: every effect on the headline metric, and every factor's effect on every class."""

import io
from typing import Any

from retrace.report.blocks import Figure
from retrace.report.figures import INK, MARKERS, PALETTE, as_svg, canvas


def draw(found: dict[str, Any]) -> tuple[Figure, bytes]:
    """(figure for the pages, the same as PNG) from the contents of ablation.json."""
    classes = [name for name in next(iter(found["effects"].values())) if "/" in name]
    rows = _headline_rows(found)
    tall = max(len(rows) * 0.32, len(classes) * 0.16 * max(2, len(found["factors"]))) + 1.2
    figure, axes = canvas(1, 2, height=tall)
    _effects(axes[0][0], rows, f"{found['headline']}, points")
    _classes(axes[0][1], found, classes)
    for axis in axes[0]:
        axis.axvline(0, color=INK, linewidth=0.9)
        axis.grid(axis="y", visible=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    caption = (
        f"Effects on {found['headline']} of {found['split']} (left) and main effects on each class (right), in "
        "percentage points. Lines are 95 % intervals from seeds and images."
    )
    return Figure("effects", as_svg(figure), caption), stream.getvalue()


def _headline_rows(found: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    headline, label = found["headline"], {name: row["label"] for name, row in found["factors"].items()}
    rows = [(label[name], row[headline], PALETTE[0]) for name, row in found["effects"].items()]
    for pair, row in found["interactions"].items():
        first, second = pair.split(" x ")
        rows.append((f"{label[first]} × {label[second]}", row[headline], PALETTE[7]))
    if found["together"]:
        rows.append(("all together", found["together"][headline], PALETTE[4]))
    return rows


def _line(axis: Any, row: dict[str, Any], y: float, color: str, marker: str) -> None:
    if row["value"] is None:
        return
    if row["low"] is not None:
        axis.plot([100 * row["low"], 100 * row["high"]], [y, y], color=color, linewidth=1.8)
    axis.plot([100 * row["value"]], [y], marker, color=color, markersize=5)


def _effects(axis: Any, rows: list[tuple[str, dict[str, Any], str]], label: str) -> None:
    for y, (_, row, color) in enumerate(rows):
        _line(axis, row, y, color, "o")
    axis.set(yticks=range(len(rows)), yticklabels=[name for name, _, _ in rows], xlabel=label)
    axis.set_ylim(len(rows) - 0.5, -0.5)


def _classes(axis: Any, found: dict[str, Any], classes: list[str]) -> None:
    factors = list(found["factors"])
    for index, factor in enumerate(factors):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        axis.plot([], [], marker, color=color, label=found["factors"][factor]["label"])
        for place, name in enumerate(classes):
            y = place + 0.7 * ((index + 0.5) / len(factors) - 0.5)
            _line(axis, found["effects"][factor][name], y, color, marker)
    names = [name.partition("/")[2] for name in classes]
    main = classes[0].partition("/")[0] if classes else ""
    axis.set(yticks=range(len(classes)), yticklabels=names, xlabel=f"{main} per class, points")
    axis.set_ylim(len(classes) - 0.5, -0.5)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
