"""Draw the figures of report.json as SVG: fixed ids, no dates, real text.

Settings and styles are those of matplotlib (`Axes.set`, `Line2D`), so that a drawing is data.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d1f", "#7f7f7f")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# replaced by the page's own colors where the SVG stands inline
INK, PAPER, GRID = "#2b3440", "#fefefe", "#d7dde4"
STYLE: dict[Any, object] = {
    "svg.hashsalt": "retrace",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Line:
    """A curve, or markers alone; with `steps`, a histogram: `x` are the edges, one more than `y`."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    style: dict[str, JsonValue]
    steps: bool = False


@dataclass(frozen=True)
class Rule:
    """A vertical line across the panel, with words at its top."""

    x: float
    text: str = ""
    width: float = 0.8
    style: Literal[":", "-"] = ":"


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    lines: tuple[Line, ...]
    settings: dict[str, JsonValue]
    legend: dict[str, JsonValue] | None = None
    rules: tuple[Rule, ...] = ()
    grid: Literal["both", "x"] = "both"
    whole_x: bool = False  # ticks at whole numbers only


@dataclass(frozen=True)
class Chart:
    """Panels side by side; width and height in inches."""

    panels: tuple[Panel, ...]
    width: float = 9.6
    height: float = 3.4
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, drawn as shares of each row. `counts`: [truth][predicted]."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    kind: Literal["matrix"] = "matrix"


def draw(drawing: Chart | Matrix, png: bool = False) -> dict[str, bytes]:
    """The drawing as files by their ending, without anything that changes from run to run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcdefaults()  # whatever a matplotlibrc of this machine or folder says
    matplotlib.rcParams.update(STYLE)
    figure = _chart(drawing) if isinstance(drawing, Chart) else _matrix(drawing)
    files = {}
    if png:  # before the SVG: each saving arranges the axes once more
        files["png"] = _saved(figure, format="png", dpi=130, metadata={"Software": None})
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    content = _saved(figure, format="svg", metadata=nothing)
    pyplot.close(figure)
    return files | {"svg": content[content.index(b"<svg") :]}


def _saved(figure: Any, **options: object) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, **options)
    return stream.getvalue()


def _subplots(columns: int, width: float, height: float) -> Any:
    from matplotlib import pyplot

    size = (width, height)
    return pyplot.subplots(1, columns, figsize=size, squeeze=False, layout="constrained")


def _chart(chart: Chart) -> Any:
    figure, axes = _subplots(len(chart.panels), chart.width, chart.height)
    for axis, panel in zip(axes[0], chart.panels, strict=True):
        _panel(axis, panel)
    return figure


def _panel(axis: Any, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    for line in panel.lines:
        if line.steps:
            axis.stairs(line.y, line.x, **line.style)
        else:
            axis.plot(line.x, line.y, **line.style)
    for rule in panel.rules:
        axis.axvline(rule.x, color=INK, linewidth=rule.width, linestyle=rule.style)
        if rule.text:
            top = axis.get_xaxis_transform()
            axis.text(rule.x, 1.0, f" {rule.text}", transform=top, fontsize=8, va="top")
    axis.set(**panel.settings)
    if panel.whole_x:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.settings.get("xscale") == "log":
        axis.minorticks_off()
    if panel.grid == "x":
        axis.grid(axis="y", visible=False)
    if panel.legend is not None:
        axis.legend(**panel.legend)


def _matrix(matrix: Matrix) -> Any:
    names = matrix.names
    shares = [[n / sum(row) if sum(row) else float("nan") for n in row] for row in matrix.counts]
    size = min(9.6, 3.4 + 0.42 * len(names))
    figure, axes = _subplots(1, size, size * 0.86)
    axis = axes[0][0]
    axis.grid(visible=False)
    axis.set_facecolor(GRID)  # rows of classes that are absent from the truth stay empty
    image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    ticks = {"xticks": range(len(names)), "yticks": range(len(names)), "yticklabels": names}
    axis.set(**ticks, xlabel="predicted", ylabel="truth")
    axis.set_xticklabels(names, rotation=45, ha="right")
    for y, row in enumerate(shares):
        for x, share in enumerate(row):
            if share >= 0.005 and len(names) <= 20:
                color = "#111111" if share > 0.5 else "#ffffff"
                place = {"ha": "center", "va": "center", "fontsize": 9}
                axis.text(x, y, f"{100 * share:.0f}", color=color, **place)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure


def adapt(svg: str, name: str) -> str:
    """The SVG for the HTML page, with unique ids, a clear background and the page's text color."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'font: ([^;"]*?)"sans-serif"', r"font: \1sans-serif", svg)
    style = r'\1 role="img" style="max-width: \2pt"'
    return re.sub(r'(<svg\b[^>]*?) width="([0-9.]+)pt"', style, svg, count=1)
