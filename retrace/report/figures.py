"""Figures as SVG with fixed ids, no dates, real text and colorblind-safe colors (Okabe & Ito 2008)."""

import io
import re
from pathlib import Path
from typing import Any

from retrace.files import read_json
from retrace.report.blocks import Figure
from retrace.report.inputs import Inputs, values

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d1f", "#7f7f7f")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, PAPER, GRID = "#2b3440", "#fefefe", "#d7dde4"  # replaced by the page's own colors where the SVG stands inline


def canvas(rows: int = 1, columns: int = 1, width: float = 9.6, height: float = 3.4) -> tuple[Any, Any]:
    """(figure, axes [rows, columns]) in the style of the reports; width and height in inches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {
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
    )
    return pyplot.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")


def as_svg(figure: Any) -> str:
    """The figure as SVG, without anything that changes from run to run. Closes the figure."""
    from matplotlib import pyplot

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def adapt(svg: str, name: str) -> str:
    """The SVG for the HTML page, with unique ids, a transparent background and the page's text color."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'font: ([^;"]*?)"sans-serif"', r"font: \1sans-serif", svg)
    style = r'\1 role="img" style="max-width: \2pt"'
    return re.sub(r'(<svg\b[^>]*?) width="([0-9.]+)pt"', style, svg, count=1)


def training_curves(inputs: Inputs) -> Figure | None:
    """Training loss and the monitored metric by epoch, one line per phase, with the best epoch marked."""
    if not any(inputs.history.values()):
        return None
    figure, axes = canvas(1, 2)
    for index, (phase, rows) in enumerate(inputs.history.items()):
        training = inputs.metrics[phase]["training"]
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        for axis, column in zip(axes[0], ("train_loss", training["monitor"]), strict=True):
            pairs = values(rows, column) or values(rows, f"val_{column}")
            if pairs:
                style = {"marker": marker if len(pairs) <= 40 else None, "markersize": 4, "linewidth": 1.6}
                axis.plot(*zip(*pairs, strict=True), color=color, label=phase, **style)
            best = [value for epoch, value in pairs if epoch == training["best_epoch"]]
            if best and axis is axes[0][1]:
                axis.plot([training["best_epoch"]], best, "o", markersize=11, fillstyle="none", color=color)
    monitors = sorted({document["training"]["monitor"] for document in inputs.metrics.values()})
    axes[0][0].set(xlabel="epoch", ylabel="training loss")
    axes[0][1].set(xlabel="epoch", ylabel=f"{' / '.join(monitors)}, val")
    axes[0][1].legend()
    _whole_epochs(axes[0])
    caption = (
        "Training loss and the monitored validation metric by epoch. Rings mark the epoch whose weights are shipped."
    )
    return Figure("training_curves", as_svg(figure), caption)


def pretraining_curve(inputs: Inputs) -> Figure | None:
    """Loss of the self-supervised pre-training by epoch."""
    pairs = values(inputs.pretrain_history, "loss")
    if not pairs:
        return None
    figure, axes = canvas(width=6.4, height=2.8)
    axes[0][0].plot(*zip(*pairs, strict=True), color=PALETTE[0], marker="o" if len(pairs) <= 40 else None, markersize=4)
    axes[0][0].set(xlabel="epoch", ylabel="reconstruction loss")
    _whole_epochs(axes[0])
    return Figure("pretraining_curve", as_svg(figure), "Loss of the masked-autoencoder pre-training by epoch.")


def _whole_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def per_class(inputs: Inputs, split: str) -> Figure:
    """The main per-class score of every phase with its interval."""
    metric = inputs.per_class[0]
    names = [name for name in inputs.params.classes if inputs.seen(inputs.params.phase, split, name)]
    figure, axes = canvas(height=1.2 + 0.2 * len(names) * max(2, len(inputs.metrics)))
    axis = axes[0][0]
    for index, (phase, document) in enumerate(inputs.metrics.items()):
        if split not in document["splits"]:
            continue
        nodes = [document["splits"][split]["per_class"][name][metric] for name in names]
        place = [row + 0.7 * ((index + 0.5) / len(inputs.metrics) - 0.5) for row in range(len(names))]
        points = [(node, y) for node, y in zip(nodes, place, strict=True) if node["value"] is not None]
        style = {"color": PALETTE[index % len(PALETTE)]}
        for node, y in points:
            if node["low"] is not None:
                axis.plot([node["low"], node["high"]], [y, y], linewidth=1.8, **style)
        xs = [node["value"] for node, _ in points]
        marker = MARKERS[index % len(MARKERS)]
        axis.plot(xs, [y for _, y in points], marker, markersize=5, label=phase, clip_on=False, **style)
    ends = (len(names) - 0.45, -0.55)
    axis.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1), ylim=ends, xlabel=f"{metric}, {split}")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return Figure(
        f"per_class_{split}", as_svg(figure), f"{metric} per class and phase on {split}. Lines show 95 % intervals."
    )


def confusion(inputs: Inputs, split: str) -> Figure | None:
    """Row-normalized confusion matrix of the active phase."""
    counts = inputs.active["splits"][split].get("confusion")
    if not counts:
        return None
    names = [*inputs.params.classes, *(["background"] if len(counts) > len(inputs.params.classes) else [])]
    shares = [[value / sum(row) if sum(row) else float("nan") for value in row] for row in counts]
    size = min(9.6, 3.4 + 0.42 * len(names))
    figure, axes = canvas(width=size, height=size * 0.86)
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
                text = f"{100 * share:.0f}"
                axis.text(
                    x, y, text, ha="center", va="center", color="#111111" if share > 0.5 else "#ffffff", fontsize=9
                )
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    unit, more = "pixels", ""
    if inputs.params.task == "detection":
        unit = "objects"
        more = " The last column shows missed objects, the last row the classes of the false detections."
    caption = f"Confusion matrix of phase {inputs.params.phase} on {split}, in percent of each row's {unit}.{more}"
    return Figure(f"confusion_{split}", as_svg(figure), caption)


def curves(inputs: Inputs, split: str) -> Figure | None:
    """Precision over recall and F1 over confidence of the active phase, for detection."""
    path = Path("metrics", inputs.study, inputs.params.phase, f"curves_{split}.json")
    if inputs.params.task != "detection" or not path.is_file():
        return None
    drawn = read_json(path)
    figure, axes = canvas(1, 2)
    left, right = axes[0]
    for index, name in enumerate(name for name in inputs.params.classes if name in drawn["precision"]):
        style = {"color": PALETTE[index % len(PALETTE)], "linestyle": LINES[index // len(PALETTE) % len(LINES)]}
        left.plot(drawn["recall"], drawn["precision"][name], label=name, **style)
        right.plot(drawn["confidence"], drawn["F1"][name], label=name, **style)
    if len(drawn["F1"]) > 1:
        right.plot(drawn["confidence"], drawn["mean_F1"], color=INK, linewidth=2.2, label="mean")
    right.axvline(inputs.params.evaluate.confidence, color=INK, linewidth=0.8, linestyle=":")
    left.set(xlabel="recall", ylabel="precision at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="confidence", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    caption = (
        f"Precision over recall and F1 over confidence, phase {inputs.params.phase} on {split}. The dotted line marks "
        "the confidence at which precision, recall and F1 are reported."
    )
    return Figure(f"curves_{split}", as_svg(figure), caption)


def box_sizes(inputs: Inputs) -> Figure | None:
    """Histogram of box sizes (square root of the area) per split, for detection."""
    if inputs.params.task != "detection":
        return None
    import numpy as np

    from retrace.data.manifest import read_manifest

    sides: dict[str, list[float]] = {}
    for record in read_manifest(Path("data", inputs.study, "raw")).records.values():
        for box in record.boxes:
            sides.setdefault(record.split or "unsplit", []).append((box.xywh[2] * box.xywh[3]) ** 0.5)
    if not sides:
        return None
    largest = max(max(lengths) for lengths in sides.values())
    edges = np.geomspace(4, max(largest, 8) * 1.01, 24)
    figure, axes = canvas(height=3)
    axis = axes[0][0]
    for index, (split, lengths) in enumerate(sorted(sides.items())):
        counts, _ = np.histogram(np.maximum(lengths, 4), edges)
        axis.stairs(counts / len(lengths), edges, color=PALETTE[index % len(PALETTE)], label=split, linewidth=1.8)
    for limit, name in ((32, "small | medium"), (96, "medium | large")):
        axis.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
        axis.text(limit, 1.0, f" {name}", transform=axis.get_xaxis_transform(), fontsize=8, va="top")
    axis.set(xscale="log", xlabel="box side: square root of its area, pixels", ylabel="share of the boxes")
    ticks = [tick for tick in (4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048) if tick <= edges[-1]]
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.legend()
    return Figure(
        "box_sizes",
        as_svg(figure),
        "Box sizes per split as given. Dotted lines mark COCO's limits between small, medium and large.",
    )
