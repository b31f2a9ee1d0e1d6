"""Numbers from the training log, kept apart from the headline: best epoch, curve and Ultralytics' own figures."""

from typing import Any

from retrace.config.metrics import place_of
from retrace.documents.derived import Convergence, Derived, Log
from retrace.report.blocks import Cell, Table, Text, cell, run
from retrace.report.inputs import Inputs, values
from retrace.report.numbers import ABSENT, Ledger
from retrace.report.tables import label

ROWS = 24  # epochs of a long training that the table shows
FEWEST = 4  # epochs needed to judge convergence
SETTLED = 0.05  # a training loss that fell by less than this share over its last quarter has converged
OWN = {  # Ultralytics' own figure -> ours on the shipped file; its precision and recall are those at its best F1
    "mAP50": "AP50",
    "mAP50-95": "AP",
    "precision": "best_F1_precision",
    "recall": "best_F1_recall",
}
COLUMNS = ("train_loss", "val_loss", "lr", "grad_norm")


def derive(inputs: Inputs) -> Log:
    """Whether the trainings converged, and our scores minus Ultralytics' own figures of the best epoch."""
    convergence, own = {}, {}
    for phase, rows in inputs.history.items():
        losses = [loss for _, loss in values(rows, "train_loss")]
        start = losses[(3 * (len(losses) - 1)) // 4] if len(losses) >= FEWEST else 0.0
        if start > 0:
            change = losses[-1] / start - 1
            convergence[phase] = Convergence(last_quarter=change, converged=abs(change) < SETTLED)
        if inputs.params.phases[phase].engine == "ultralytics":
            own[phase] = {name: _difference(inputs, phase, name) for name in OWN}
    return Log(convergence=convergence, ultralytics=own)


def _logged(inputs: Inputs, phase: str, column: str) -> float | None:
    best = inputs.metrics[phase].training.best_epoch
    return dict(values(inputs.history[phase], column)).get(best)


def _difference(inputs: Inputs, phase: str, name: str) -> float | None:
    logged = _logged(inputs, phase, f"ultralytics_{name}")
    shipped = inputs.metrics[phase].metric(OWN[name], "val").value
    return None if logged is None or shipped is None else shipped - logged


def apart(inputs: Inputs, ledger: Ledger, derived: Derived) -> Text | None:
    """The best value in the log beside the score of the shipped file, with the difference."""
    phase, facts = inputs.params.phase, inputs.active.training
    if phase not in derived.training:
        return None
    file, name = inputs.file_metrics(phase), label(inputs, facts.monitor)
    return Text(
        run(
            f"In the training log, the best {name} on val is ",
            ledger.num(file, "training.best_value"),
            " (epoch ",
            ledger.num(file, "training.best_epoch", "count"),
            "). On the same images the shipped file, loaded back from disk, scores ",
            *ledger.interval(file, place_of(inputs.params.task, facts.monitor, "val")[0]),
            ", a difference of ",
            ledger.num(inputs.file_own("derived.json"), f"training.{phase}.difference", "signed"),
            ".",
        )
    )


def as_logged(inputs: Inputs, ledger: Ledger) -> Text | None:
    """Why the log of a YOLO training can promise more than its weights keep, with both scores of the shipped file."""
    phase, val = inputs.params.phase, inputs.active.splits.get("val")
    if val is None or not val.has("AP50_as_logged"):
        return None
    file = inputs.file_metrics(phase)
    return Text(
        run(
            "The log of a YOLO training is measured on detections from confidence ",
            ledger.num(file, "splits.val.logged_confidence", "plain"),
            " on (conf), and Ultralytics 8.3 closes the precision-recall curve that ends there with a straight line, "
            "which adds area. By that rule the shipped file of ",
            phase,
            " scores mAP@0.5 ",
            *ledger.interval(file, "splits.val.AP50_as_logged"),
            " on val; by COCO's rule, from confidence 0 on, ",
            *ledger.interval(file, "splits.val.AP50"),
            ". A figure from a log and a score of the saved weights can differ for this reason alone.",
        )
    )


def curve(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Loss, monitored metric, learning rate and gradient norm of the active phase by epoch."""
    phase = inputs.params.phase
    rows, facts = inputs.history[phase], inputs.active.training
    columns = [name for name in ("train_loss", "val_loss", facts.monitor, "lr", "grad_norm") if _has(rows, name)]
    epochs = _selected([int(float(row["epoch"])) for row in rows], facts.best_epoch)
    if not columns or not epochs:
        return None
    file = inputs.file_history(phase)
    table = []
    for epoch in epochs:
        cells = [cell(ledger.num(file, f"{name}[epoch={epoch}]", _format(name))) for name in columns]
        table.append(
            (cell(str(epoch)), *cells, cell("best epoch: its weights are shipped" * (epoch == facts.best_epoch)))
        )
    note = run(
        f"Phase {phase}, measured during training, with validation on val. ", *_convergence(ledger, inputs, derived)
    )
    left = (
        f" {file} also has the {len(rows) - len(epochs)} epochs that are not listed." if len(epochs) < len(rows) else ""
    )
    titles = tuple({"lr": "learning rate", "grad_norm": "gradient norm"}.get(n, n.replace("_", " ")) for n in columns)
    headings = ("Epoch", *(label(inputs, t) for t in titles), "Note")
    return Table("training_curve", "Training by epoch", headings, tuple(table), run(note, left))


def _has(rows: list[dict[str, str]], name: str) -> bool:
    return bool(values(rows, name))


def _format(name: str) -> str:
    return "loss" if name in COLUMNS else "fraction"


def _selected(epochs: list[int], best: int) -> list[int]:
    """At most about `ROWS` epochs: the first, the last, the best, and some evenly in between."""
    if len(epochs) <= ROWS:
        return epochs
    step = -(-len(epochs) // ROWS)
    return sorted({*epochs[::step], epochs[-1], best} & set(epochs))


def _convergence(ledger: Ledger, inputs: Inputs, derived: Derived) -> tuple[Any, ...]:
    phase = inputs.params.phase
    facts = derived.log.convergence.get(phase)
    if facts is None:
        return ("There are too few epochs to judge convergence.",)
    change = ledger.num(inputs.file_own("derived.json"), f"log.convergence.{phase}.last_quarter", "percent")
    word = "converged" if facts.converged else "not converged"
    start = "The training loss changed by "
    return (start, change, f" over the last quarter of the epochs: {word} (a change below 5 % counts as converged).")


def convergence(inputs: Inputs, ledger: Ledger, derived: Derived) -> tuple[Any, ...]:
    """The sentence on convergence alone."""
    return _convergence(ledger, inputs, derived)


def ultralytics(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Ultralytics' own figures of the best epoch, beside ours from the same epoch's log and from the shipped file."""
    rows, own = [], inputs.file_own("derived.json")
    for phase, differences in derived.log.ultralytics.items():
        epoch = inputs.metrics[phase].training.best_epoch
        file, log = inputs.file_metrics(phase), inputs.file_history(phase)
        for name, ours in OWN.items():
            if _logged(inputs, phase, f"ultralytics_{name}") is None:
                continue
            reported = cell(ledger.num(log, f"ultralytics_{name}[epoch={epoch}]"))
            logged = _logged(inputs, phase, ours)
            same = cell(ledger.num(log, f"{ours}[epoch={epoch}]")) if logged is not None else cell(ABSENT)
            shipped: Cell = cell(ABSENT)
            if inputs.metrics[phase].metric(ours, "val").value is not None:
                shipped = cell(ledger.interval(file, f"splits.val.{ours}"))
            gap = cell(ABSENT)
            if differences[name] is not None:
                gap = cell(ledger.num(own, f"log.ultralytics.{phase}.{name}", "signed"))
            rows.append((cell(phase), cell(name), reported, same, shipped, gap))
    columns = (
        "Phase",
        "Figure",
        "Ultralytics' own (log)",
        "Ours, same epoch (log)",
        "Ours, shipped file",
        "Difference",
    )
    note = (
        "All scores are on val. Ultralytics computes its own figures during training with its own definitions (other "
        "interpolation, up to max_det detections, several classes per box, precision and recall at its best F1) and "
        "gives no interval. Ours are measured on the shipped file after loading it back from disk, with precision and "
        "recall at the confidence of the best F1. Difference is the shipped file minus Ultralytics' figure."
    )
    return Table("ultralytics", "Ultralytics' own figures", columns, tuple(rows), (note,)) if rows else None
