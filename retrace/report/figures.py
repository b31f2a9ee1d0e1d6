"""The data of the report's figures, in colors for the colorblind (Okabe & Ito 2008)."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from retrace.files import read_json
from retrace.report.blocks import Figure, Slider
from retrace.report.drawings import INK, LINES, MARKERS, PALETTE, Chart, Line, Matrix, Panel, Rule
from retrace.report.error_gallery import targets
from retrace.report.inputs import Inputs, values
from retrace.report.resamples import image_ids

AT = ("precision_at", "recall_at", "F1")  # of curves_<split>.json, by class, over the confidence
MOST = 3  # images that a cell of a confusion matrix names
BESIDE: dict[str, JsonValue] = {"loc": "center left", "bbox_to_anchor": [1, 0.5]}
TICKS = (4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048)  # pixels


def _curve(pairs: Sequence[tuple[float, float]], style: dict[str, JsonValue], series: str = "") -> Line:
    return Line(tuple(x for x, _ in pairs), tuple(y for _, y in pairs), style, series=series)


def training_curves(inputs: Inputs) -> Figure | None:
    """Training loss and the monitored metric by epoch, a line per phase, the best epoch marked."""
    if not any(inputs.history.values()):
        return None
    losses: list[Line] = []
    monitored: list[Line] = []
    for index, (phase, rows) in enumerate(inputs.history.items()):
        training = inputs.metrics[phase].training
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        for lines, column in ((losses, "train_loss"), (monitored, training.monitor)):
            pairs = values(rows, column) or values(rows, f"val_{column}")
            if pairs:
                shown = marker if len(pairs) <= 40 else None
                style: dict[str, JsonValue] = {"color": color, "label": phase, "marker": shown}
                lines.append(_curve(pairs, style | {"markersize": 4, "linewidth": 1.6}, phase))
            best = [pair for pair in pairs if pair[0] == training.best_epoch]
            if best and lines is monitored:
                ring: dict[str, JsonValue] = {"marker": "o", "linestyle": "None", "markersize": 11}
                lines.append(_curve(best, ring | {"fillstyle": "none", "color": color}, phase))
    monitors = sorted({document.training.monitor for document in inputs.metrics.values()})
    labels = f"{' / '.join(monitors)}, val"
    panels = (
        Panel(tuple(losses), {"xlabel": "epoch", "ylabel": "training loss"}, whole_x=True),
        Panel(tuple(monitored), {"xlabel": "epoch", "ylabel": labels}, legend={}, whole_x=True),
    )
    caption = (
        "Training loss and the monitored validation metric by epoch. Rings mark the epoch whose weights are shipped."
    )
    return Figure("training_curves", Chart(panels), caption)


def pretraining_curve(inputs: Inputs) -> Figure | None:
    """Loss of the self-supervised pre-training by epoch."""
    pairs = values(inputs.pretrain_history, "loss")
    if not pairs:
        return None
    marker = "o" if len(pairs) <= 40 else None
    line = _curve(pairs, {"color": PALETTE[0], "marker": marker, "markersize": 4})
    panel = Panel((line,), {"xlabel": "epoch", "ylabel": "reconstruction loss"}, whole_x=True)
    caption = "Loss of the masked-autoencoder pre-training by epoch."
    return Figure("pretraining_curve", Chart((panel,), 6.4, 2.8), caption)


def per_class(inputs: Inputs, split: str) -> Figure:
    """The main per-class score of every phase with its interval."""
    metric = inputs.per_class[0]
    names = [name for name in inputs.params.classes if inputs.seen(inputs.params.phase, split, name)]
    lines = []
    for index, (phase, document) in enumerate(inputs.metrics.items()):
        if split not in document.splits:
            continue
        color, points = PALETTE[index % len(PALETTE)], []
        for row, name in enumerate(names):
            score = document.splits[split].per_class[name].estimate(metric)
            y = row + 0.7 * ((index + 0.5) / len(inputs.metrics) - 0.5)
            if score.value is not None:
                points.append((score.value, y))
            if score.low is not None and score.high is not None:
                style: dict[str, JsonValue] = {"linewidth": 1.8, "color": color}
                lines.append(_curve([(score.low, y), (score.high, y)], style, phase))
        dots: dict[str, JsonValue] = {"marker": MARKERS[index % len(MARKERS)], "linestyle": "None"}
        dots |= {"markersize": 5, "label": phase, "clip_on": False, "color": color}
        lines.append(_curve(points, dots, phase))
    settings: dict[str, JsonValue] = {"yticks": list(range(len(names))), "yticklabels": [*names]}
    ends: list[JsonValue] = [len(names) - 0.45, -0.55]
    settings |= {"xlim": [0, 1], "ylim": ends, "xlabel": f"{metric}, {split}"}
    panel = Panel(tuple(lines), settings, BESIDE, grid="x")
    height = 1.2 + 0.2 * len(names) * max(2, len(inputs.metrics))
    caption = f"{metric} per class and phase on {split}. Lines show 95 % intervals."
    return Figure(f"per_class_{split}", Chart((panel,), height=height), caption)


def confusion(inputs: Inputs, split: str) -> Figure | None:
    """Row-normalized confusion matrix of the active phase."""
    counts = inputs.active.splits[split].confusion
    if not counts:
        return None
    more_rows = len(counts) > len(inputs.params.classes)
    names = (*inputs.params.classes, *(["background"] if more_rows else []))
    unit, more = "pixels", ""
    if inputs.params.task == "detection":
        unit = "objects"
        more = " The last column shows missed objects, the last row the classes of the false detections."
    caption = f"Confusion matrix of phase {inputs.params.phase} on {split}, in percent of each row's {unit}.{more}"
    shown, places = targets(inputs, split), range(len(counts))
    linked = tuple(tuple(shown.get((truth, given), "") for given in places) for truth in places)
    matrix = Matrix(names, tuple(map(tuple, counts)), unit, _images_behind(inputs, split), linked)
    return Figure(f"confusion_{split}", matrix, caption)


def _images_behind(inputs: Inputs, split: str) -> tuple[tuple[tuple[tuple[str, int], ...], ...], ...]:
    """[truth][predicted]: the images with the most pixels of that error, and how many; none for boxes."""
    path = Path("metrics", inputs.study, inputs.params.phase, f"confusion_{split}.npy")
    if not path.is_file():
        return ()
    import numpy as np

    matrices = np.load(path, allow_pickle=False)  # int64 [N, C, C]
    ids = image_ids(inputs, inputs.params.phase, split)
    rows = []
    for truth in range(matrices.shape[1]):
        cells = []
        for predicted in range(matrices.shape[2]):
            counts = matrices[:, truth, predicted]
            order = np.argsort(-counts, kind="stable")[: MOST if truth != predicted else 0].tolist()
            cells.append(tuple((ids[index], int(counts[index])) for index in order if counts[index]))
        rows.append(tuple(cells))
    return tuple(rows)


def curves(inputs: Inputs, split: str) -> Figure | None:
    """Precision over recall and F1 over confidence of the active phase, for detection."""
    path = Path("metrics", inputs.study, inputs.params.phase, f"curves_{split}.json")
    if inputs.params.task != "detection" or not path.is_file():
        return None
    drawn = read_json(path)
    left, right = [], []
    for index, name in enumerate(name for name in inputs.params.classes if name in drawn["precision"]):
        style: dict[str, JsonValue] = {"label": name, "color": PALETTE[index % len(PALETTE)]}
        style["linestyle"] = LINES[index // len(PALETTE) % len(LINES)]
        left.append(Line(tuple(drawn["recall"]), tuple(drawn["precision"][name]), style, series=name))
        right.append(Line(tuple(drawn["confidence"]), tuple(drawn["F1"][name]), style, series=name))
    if len(drawn["F1"]) > 1:
        mean: dict[str, JsonValue] = {"color": INK, "linewidth": 2.2, "label": "mean"}
        right.append(Line(tuple(drawn["confidence"]), tuple(drawn["mean_F1"]), mean))
    ends: dict[str, JsonValue] = {"xlim": [0, 1], "ylim": [0, 1.02]}
    rule = Rule(inputs.params.evaluate.confidence)
    panels = (
        Panel(tuple(left), {"xlabel": "recall", "ylabel": "precision at IoU 0.5", **ends}),
        Panel(tuple(right), {"xlabel": "confidence", "ylabel": "F1", **ends}, BESIDE, (rule,)),
    )
    caption = (
        f"Precision over recall and F1 over confidence, phase {inputs.params.phase} on {split}. The dotted line marks "
        "the confidence at which precision, recall and F1 are reported."
    )
    points = {name: tuple(zip(*(drawn[key][name] for key in AT), strict=True)) for name in drawn["precision"]}
    slider = Slider(tuple(drawn["confidence"]), points, inputs.params.evaluate.confidence)
    return Figure(f"curves_{split}", Chart(panels), caption, slider=slider)


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
    lines = []
    for index, (split, lengths) in enumerate(sorted(sides.items())):
        counts, _ = np.histogram(np.maximum(lengths, 4), edges)
        style: dict[str, JsonValue] = {"color": PALETTE[index % len(PALETTE)], "label": split, "linewidth": 1.8}
        shares = (counts / len(lengths)).tolist()
        lines.append(Line(tuple(edges.tolist()), tuple(shares), style, steps=True))
    rules = (Rule(32, "small | medium"), Rule(96, "medium | large"))
    ticks = [tick for tick in TICKS if tick <= edges[-1]]
    settings: dict[str, JsonValue] = {"xscale": "log"}
    settings |= {"xlabel": "box side: square root of its area, pixels", "ylabel": "share of the boxes"}
    settings |= {"xticks": [*ticks], "xticklabels": [str(tick) for tick in ticks]}
    caption = "Box sizes per split as given. Dotted lines mark COCO's limits between small, medium and large."
    chart = Chart((Panel(tuple(lines), settings, {}, rules),), height=3)
    return Figure("box_sizes", chart, caption)
