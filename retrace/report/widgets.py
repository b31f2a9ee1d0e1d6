"""What the HTML page computes from a block to lay it out: the axis of a chart of intervals, cells, and slider data."""

import json
import math
from dataclasses import dataclass

from markupsafe import Markup

from retrace.report.blocks import Intervals, Slider
from retrace.report.drawings import Matrix
from retrace.report.numbers import Num

TICKS = 5  # at most, beside the first


@dataclass(frozen=True)
class Axis:
    """The range that a chart of intervals shows; places on it are percentages of its width."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]  # place, text

    def place(self, value: float) -> float:
        """Where a value stands, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def axis(block: Intervals) -> Axis:
    """The axis under all rows and the floor, with round ticks."""
    values = [end for row in block.rows for end in row.ends] + floor(block)
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.08 * (high - low) or 0.05
    low, high = max(0.0, low - room) if low >= 0 else low - room, min(1.0, high + room) if high <= 1 else high + room
    step = 10 ** math.floor(math.log10((high - low) / TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= TICKS)
    shown = Axis(low, high, ())
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    ticks = ((shown.place(index * step), f"{index * step:.6g}") for index in range(first, first + count))
    return Axis(low, high, tuple(ticks))


def floor(block: Intervals) -> list[float]:
    """The floor as a list of one number, or none."""
    numbers = [part.value for part in block.floor if isinstance(part, Num)]
    return [float(number) for number in numbers if isinstance(number, int | float)]


def matrix_rows(matrix: Matrix) -> list[list[dict[str, str | float | None]]]:
    """The cells of a confusion matrix: count, images, target, and share of the row in percent (None: an empty row)."""
    rows = []
    for truth, counts in enumerate(matrix.counts):
        total, cells = sum(counts), []
        for predicted, count in enumerate(counts):
            behind = matrix.images[truth][predicted] if matrix.images else ()
            said = "; ".join(f"{name}: {number:,} {matrix.unit}" for name, number in behind)
            share = 100 * count / total if total else None
            target = matrix.targets[truth][predicted] if matrix.targets else ""
            cells.append({"count": f"{count:,}", "share": share, "images": said, "target": target})
        rows.append(cells)
    return rows


def slider_data(slider: Slider) -> Markup:
    """The numbers of a confidence slider as JSON for a data attribute."""
    return Markup("{}").format(json.dumps({"confidence": slider.confidence, "points": slider.points}))
