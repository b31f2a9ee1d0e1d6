"""Files for DVC: metrics.json (flat scalars of the active phase), plots/*.csv and pictures for `dvc plots show`."""

import csv
import io
from pathlib import Path
from typing import Any

from retrace.config.metrics import METRICS
from retrace.files import read_json, write_bytes, write_text
from retrace.report.inputs import Inputs
from retrace.report.numbers import number
from retrace.report.pictures import shrink

SIDE = 640  # pixels, longer side of a sample picture
LIMIT = 40_000  # bytes of a sample picture


def scalars(inputs: Inputs) -> dict[str, float]:
    """`{"<split>_<metric>": value}` of the active phase, at most three; means where it has several seeds.

    With DVC's own columns (Experiment, Created, State, Executor) and `phase`, two take 95 characters of a line; in a
    narrower terminal `dvc exp show` cuts words and then leaves columns out.
    """
    result = {}
    scored = inputs.active.splits
    trainings = [inputs.scores(name) for name in inputs.params.trainings_of(inputs.params.phase)]
    for split in ("val", "test"):
        listed = split if "test" in scored else "test"
        for metric in METRICS[inputs.params.task]:
            values = [row.splits[split].estimate(metric.name).value for row in trainings if split in row.splits]
            known = [value for value in values if value is not None]
            if listed in metric.scalars and len(known) == len(trainings):
                result[f"{split}_{metric.name}"] = sum(known) / len(known)
    return result


def write_plots(folder: Path, inputs: Inputs) -> None:
    """Tables of every phase, and `samples/`, the pictures of the active phase on the split of the headline.

    precision_recall.csv has no rows for segmentation.
    """
    _write(folder / "history.csv", ("phase", "epoch", "train_loss", "val_metric"), _history(inputs))
    columns = ("phase", "split", "class", "n", "score", *inputs.per_class)
    _write(folder / "per_class.csv", columns, _per_class(inputs))
    _write(
        folder / "confusion.csv",
        ("phase", "active", "split", "truth", "predicted", "count", "share"),
        _confusion(inputs),
    )
    _write(
        folder / "precision_recall.csv", ("phase", "split", "class", "recall", "precision"), _precision_recall(inputs)
    )
    _samples(folder / "samples", inputs)


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _history(inputs: Inputs) -> list[dict[str, Any]]:
    rows = []
    for phase, history in inputs.history.items():
        monitor = inputs.metrics[phase].training.monitor
        for row in history:
            value = number(row.get(monitor) or row.get(f"val_{monitor}"))
            loss = number(row.get("train_loss"))
            rows.append({"phase": phase, "epoch": row["epoch"], "train_loss": loss, "val_metric": value})
    return rows


def _per_class(inputs: Inputs) -> list[dict[str, Any]]:
    rows = []
    for phase, document in inputs.metrics.items():
        for split, scored in document.splits.items():
            for name, row in scored.per_class.items():
                values = {metric: row.estimate(metric).value for metric in inputs.per_class}
                start = {"phase": phase, "split": split, "class": name, "n": row.seen}
                rows.append(start | {"score": values[inputs.per_class[0]], **values})
    return rows


def _confusion(inputs: Inputs) -> list[dict[str, Any]]:
    rows = []
    for phase, document in inputs.metrics.items():
        active = "yes" if phase == inputs.params.phase else "no"
        for split, scored in document.splits.items():
            names = [*inputs.params.classes, "background"]
            for truth, counts in zip(names, scored.confusion, strict=False):
                for predicted, count in zip(names, counts, strict=False):
                    row: dict[str, object] = {"phase": phase, "active": active, "split": split, "truth": truth}
                    row |= {"predicted": predicted, "count": count}
                    rows.append(row | {"share": count / sum(counts) if sum(counts) else None})
    return rows


def _precision_recall(inputs: Inputs) -> list[dict[str, Any]]:
    rows = []
    split = inputs.headline_split
    for phase in inputs.metrics:
        path = Path("metrics", inputs.study, phase, f"curves_{split}.json")
        if inputs.params.task != "detection" or not path.is_file():
            continue
        curves = read_json(path)
        for name in (name for name in inputs.params.classes if name in curves["precision"]):
            start = {"phase": phase, "split": split, "class": name}
            for recall, precision in zip(curves["recall"], curves["precision"][name], strict=True):
                rows.append(start | {"recall": recall, "precision": precision})
    return rows


def _samples(folder: Path, inputs: Inputs) -> None:
    phase = inputs.params.phase
    for sample in inputs.samples[phase]:
        if sample.split == inputs.headline_split:
            source = Path("metrics", inputs.study, phase, sample.file)
            write_bytes(folder / source.with_suffix(".jpg").name, shrink(source, LIMIT, SIDE))
