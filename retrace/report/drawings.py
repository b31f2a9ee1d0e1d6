"""Draw the figures of report.json as SVG: fixed ids, no dates, real text.

Settings and styles are those of matplotlib (`Axes.set`, `Line2D`), so that a drawing is data.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

from pydantic import JsonValue

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d1f", "#7f7f7f")
HOVERED = 60  # points of a curve that can be hovered over one by one
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
    series: str = ""  # the phase or class that it belongs to, which a reader can switch off


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
    """A confusion matrix, drawn as shares of each row. `counts`: [truth][predicted].

    `images`: [truth][predicted], the images with the most of each kind of error and their counts. `targets`:
    [truth][predicted], the id of the gallery with pictures of the cell, or "".
    """

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    unit: str = "pixels"
    images: tuple[tuple[tuple[tuple[str, int], ...], ...], ...] = ()
    targets: tuple[tuple[str, ...], ...] = ()
    kind: Literal["matrix"] = "matrix"


@dataclass(frozen=True)
class Point:
    """A value of a chart: its place in the SVG, in points from the top left corner, and what it says."""

    x: float
    y: float
    series: str
    text: str


@dataclass(frozen=True)
class Drawn:
    """The drawing as files by their ending, and the values that a reader can hover over."""

    files: dict[str, bytes]
    points: tuple[Point, ...]


def draw(drawing: Chart | Matrix, png: bool = False) -> Drawn:
    """The drawing, without anything that changes from run to run."""
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
    points = _points(figure, drawing) if isinstance(drawing, Chart) else ()
    pyplot.close(figure)
    return Drawn(files | {"svg": content[content.index(b"<svg") :]}, points)


def _points(figure: Any, chart: Chart) -> tuple[Point, ...]:
    height, scale = figure.get_figheight() * 72, 72 / figure.dpi
    points = []
    for axis, panel in zip(figure.axes, chart.panels, strict=True):
        for line in panel.lines:
            if line.steps or len(line.x) > HOVERED or not line.series or line.style.get("fillstyle") == "none":
                continue
            for x, y in zip(line.x, line.y, strict=True):
                left, bottom = axis.transData.transform((x, y)) * scale
                text = _said(panel, line, x, y)
                points.append(Point(round(float(left), 1), round(float(height - bottom), 1), line.series, text))
    return tuple(points)


def _said(panel: Panel, line: Line, x: float, y: float) -> str:
    """`baseline: epoch 3, training loss 0.52`, or for a row per class `baseline, Sky: 0.85`."""
    names = panel.settings.get("yticklabels")
    if isinstance(names, list):
        row = min(max(round(y), 0), len(names) - 1)
        return f"{line.series}, {names[row]}: {x:.3f}"
    words = panel.settings
    return f"{line.series}: {words.get('xlabel')} {x:.4g}, {words.get('ylabel')} {y:.4g}"


def _saved(figure: Any, **options: object) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, **options)
    return stream.getvalue()


def _subplots(columns: int, width: float, height: float) -> Any:
    from matplotlib import pyplot

    size = (width, height)
    return pyplot.subplots(1, columns, figsize=size, squeeze=False, layout="constrained")


def series(chart: Chart) -> list[str]:
    """The names of the phases or classes that can be switched off, in the order in which they are drawn."""
    return list(dict.fromkeys(line.series for panel in chart.panels for line in panel.lines if line.series))


def _chart(chart: Chart) -> Any:
    figure, axes = _subplots(len(chart.panels), chart.width, chart.height)
    names = series(chart)
    for place, (axis, panel) in enumerate(zip(axes[0], chart.panels, strict=True)):
        _panel(axis, panel, names, place)
    return figure


def _panel(axis: Any, panel: Panel, names: list[str], place: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for number, line in enumerate(panel.lines):
        if line.steps:
            axis.stairs(line.y, line.x, **line.style)
            continue
        (drawn,) = axis.plot(line.x, line.y, **line.style)
        if line.series:
            drawn.set_gid(f"series-{names.index(line.series)}-{place}-{number}")
    for number, rule in enumerate(panel.rules):
        drawn = axis.axvline(rule.x, color=INK, linewidth=rule.width, linestyle=rule.style)
        drawn.set_gid(f"rule-{place}-{number}")
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


def adapt(drawn: Drawn, name: str, title: str, drawing: Chart | Matrix) -> str:
    """The SVG for the HTML page: named, with unique ids, a clear background, the page's text color and its values."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn.files["svg"].decode())
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'font: ([^;"]*?)"sans-serif"', r"font: \1sans-serif", svg)
    if isinstance(drawing, Chart):
        names = [quoteattr(word) for word in series(drawing)]
        mark = rf'id="{re.escape(name)}-series-([0-9]+)-'
        svg = re.sub(mark, lambda match: f"data-series={names[int(match[1])]} {match[0]}", svg)
    style = rf'\1 role="img" aria-labelledby="{name}-title" style="max-width: \2pt"'
    svg = re.sub(r'(<svg\b[^>]*?) width="([0-9.]+)pt"', style, svg, count=1)
    start, end = svg.index(">", svg.index("<svg")) + 1, svg.rindex("</svg>")
    named = f'<title id="{name}-title">{escape(title)}</title>'
    return svg[:start] + named + svg[start:end] + "".join(map(_hover, drawn.points)) + svg[end:]


def _hover(point: Point) -> str:
    """A circle that nobody sees, whose title a browser shows over it."""
    place = f'cx="{point.x}" cy="{point.y}" r="6"'
    said = escape(point.text)
    return f'<circle class="hover" data-series={quoteattr(point.series)} {place}><title>{said}</title></circle>'
