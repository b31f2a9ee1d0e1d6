"""Every metric of each task, declared once: name, label, format, place and use.

To add one, compute it in `retrace/evaluation/`, declare it here and give it a field in
`retrace/documents/scores.py`; tables, figures, claims, compare and ablate follow (CONTRIBUTING.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from retrace.config.base import refused
from retrace.config.monitored import of_class

SPLIT, CLASS, FILE, RUN, HISTORY = "split", "class", "file", "run", "history"  # places of a metric
VAL_LOSS = "val_loss"
GROUP = "group/"  # the mean main score of a group of classes (report.class_groups)


@dataclass(frozen=True)
class Metric:
    """A number that is measured.

    place: `SPLIT`: `splits.<split>.<name>` of metrics/<study>/<phase>.json; `CLASS`:
    `<name>/<class>`, at `splits.<split>.per_class.<class>.<name>`; `FILE`: at `key` of that file;
    `RUN`: the speed of this run; `HISTORY`: the lowest value in the training's history.
    """

    name: str
    label: str = ""  # in tables and figures; empty: the name
    place: str = SPLIT
    key: str = ""
    format: str = "fraction"  # of `retrace.report.numbers.FORMATS`
    smaller_is_better: bool = False
    fact: bool = False  # a property of the model, for which neither more nor less is better
    headline: bool = True  # whether `report.headline` may name it
    scalars: tuple[str, ...] = ()  # splits of which metrics.json has it
    missing: str = ""  # why no stage measures it, where a write-up may give it all the same


OF_THE_MODEL = (
    Metric("parameters", "", FILE, "parameters", "count", True, fact=True),
    Metric("bytes", "weights file", FILE, "weights.bytes", "size", True, fact=True),
    Metric("best_value", "", FILE, "training.best_value"),
    Metric("latency_ms", "latency (ms)", RUN, format="decimal", smaller_is_better=True),
    Metric("images_per_second", "images/s", RUN, format="decimal"),
    Metric(
        "video_frames_per_second",
        place=RUN,
        missing="retrace predict also times reading and writing, and does not record the result; "
        "images/s measures the model alone on batches in memory",
    ),
    Metric(VAL_LOSS, "", HISTORY, format="loss", smaller_is_better=True),
)
METRICS = {
    "segmentation": (
        Metric("mIoU", scalars=("val", "test")),
        Metric("focus_mIoU", scalars=("test",)),
        Metric("pixel_accuracy", "pixel accuracy"),
        Metric("balanced_accuracy", "balanced accuracy (mean per-class recall)"),
        Metric("mean_boundary_F1", "boundary F1, mean"),  # with evaluate.boundary
        Metric("IoU", place=CLASS),
        Metric("precision", place=CLASS),
        Metric("recall", place=CLASS),
        Metric("F1", place=CLASS),
        Metric("boundary_F1", "boundary F1", CLASS),  # with evaluate.boundary
        *OF_THE_MODEL,
    ),
    "detection": (
        Metric("AP50", "mAP@0.5", scalars=("val", "test")),
        Metric("AP", "mAP@[.5:.95]", scalars=("test",)),
        Metric("AR"),
        Metric("precision"),
        Metric("recall"),
        Metric("F1"),
        Metric("best_F1", "best F1"),
        Metric("AP_small", "mAP small"),
        Metric("AP_medium", "mAP medium"),
        Metric("AP_large", "mAP large"),
        Metric("best_F1_precision", headline=False),
        Metric("best_F1_recall", headline=False),
        Metric("AP50_as_logged", "mAP@0.5 as logged", headline=False),  # of YOLO phases
        Metric("AP50", "mAP@0.5", CLASS),
        Metric("AP", "mAP@[.5:.95]", CLASS),
        Metric("precision", place=CLASS),
        Metric("recall", place=CLASS),
        Metric("F1", place=CLASS),
        *OF_THE_MODEL,
    ),
}


def names(task: str, place: str) -> tuple[str, ...]:
    """The metrics of a task in one place, in their order."""
    return tuple(metric.name for metric in METRICS[task] if metric.place == place)


def headlines(task: str) -> tuple[str, ...]:
    """The overall metrics of a task that `report.headline` may name, the usual one first."""
    overall = (metric for metric in METRICS[task] if metric.place == SPLIT)
    return tuple(metric.name for metric in overall if metric.headline)


def find(task: str, name: str) -> Metric | None:
    """The metric that `mIoU`, `IoU/<class>` or `bytes` names; None where the task has none."""
    base, slash, _ = name.partition("/")
    for metric in METRICS[task]:
        if metric.name == base and (metric.place == CLASS) == bool(slash):
            return metric
    return None


def title(task: str, name: str) -> str:
    """How tables call a metric: `mAP@0.5`, `road IoU`."""
    metric = find(task, name)
    label = (metric.label if metric is not None else "") or name.partition("/")[0]
    of = name.partition("/")[2]
    return f"{of} {label}" if of else label


def place_of(task: str, name: str, split: str) -> tuple[str, str]:
    """(key, format) of a metric in metrics/<study>/<phase>.json."""
    metric = find(task, name)
    if metric is not None and metric.place == FILE:
        return metric.key, metric.format
    base, slash, of = name.partition("/")
    format = metric.format if metric is not None else "fraction"
    return (f"splits.{split}.per_class.{of}.{base}" if slash else f"splits.{split}.{name}"), format


def check_metric(
    key: str,
    name: str,
    task: str,
    classes: Sequence[str],
    groups: Sequence[str] = (),
    claim: bool = False,
) -> None:
    """Refuse `key` unless evaluation gives this metric.

    claim: those of the training and of the speed too, and the means over `groups` of classes.
    """
    plain = [*names(task, SPLIT), *names(task, FILE)]
    per_class = names(task, CLASS)
    if claim:
        plain += [*names(task, RUN), *names(task, HISTORY)]
    if name in plain or of_class(name, per_class, classes):
        return
    if claim and name.startswith(GROUP) and name.removeprefix(GROUP) in groups:
        return
    raise refused(key, f"not a metric of {task}", name, allowed(task, claim))


def allowed(task: str, claim: bool) -> list[str]:
    """What `claims` (`claim`) or `expected` may name, for messages."""
    per_class = [f"{name}/<class>" for name in names(task, CLASS)]
    listed = [*names(task, SPLIT), *per_class, *names(task, FILE)]
    if claim:
        listed += [f"{GROUP}<class group>", *names(task, RUN), f"{VAL_LOSS} (val only)"]
    return listed
