"""What the training log says, kept apart from the headline: its best epoch, its curve, and Ultralytics' own figures."""

from typing import Any

from retrace.report.blocks import Cell, Table, Text, cell, run
from retrace.report.inputs import Inputs, values
from retrace.report.numbers import ABSENT, Ledger
from retrace.report.tables import BRACKETS, label

ROWS = 24  # epochs of a long training that the table shows
FEWEST = 4  # epochs that say something of convergence
SETTLED = 0.05  # a training loss that fell by less than this share over its last quarter has converged
OWN = {  # Ultralytics' own figure -> ours on the shipped file; its precision and recall are those at its best F1
    "mAP50": "AP50",
    "mAP50-95": "AP",
    "precision": "best_F1_precision",
    "recall": "best_F1_recall",
}
COLUMNS = ("train_loss", "val_loss", "lr", "grad_norm")


def derive(inputs: Inputs) -> dict[str, Any]:
    """`{"convergence": {phase: {"last_quarter", "converged"}}, "ultralytics": {phase: {figure: difference}}}`.

    `last_quarter`: change of the training loss from the epoch that begins the last quarter to the last, as a share.
    `difference`: the shipped file's score on val less Ultralytics' own figure in the log of the best epoch.
    """
    convergence, own = {}, {}
    for phase, rows in inputs.history.items():
        losses = [loss for _, loss in values(rows, "train_loss")]
        start = losses[(3 * (len(losses) - 1)) // 4] if len(losses) >= FEWEST else 0.0
        if start > 0:
            change = losses[-1] / start - 1
            convergence[phase] = {"last_quarter": change, "converged": abs(change) < SETTLED}
        if inputs.params.phases[phase].engine == "ultralytics":
            own[phase] = {name: _difference(inputs, phase, name) for name in OWN}
    return {"convergence": convergence, "ultralytics": own}


def _logged(inputs: Inputs, phase: str, column: str) -> float | None:
    best = inputs.metrics[phase]["training"]["best_epoch"]
    return dict(values(inputs.history[phase], column)).get(best)


def _difference(inputs: Inputs, phase: str, name: str) -> float | None:
    logged = _logged(inputs, phase, f"ultralytics_{name}")
    node = inputs.metrics[phase]["splits"].get("val", {}).get(OWN[name])
    return None if logged is None or node is None or node["value"] is None else node["value"] - logged


def apart(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Text | None:
    """The log's best value is not the headline: said where the headline stands, with the difference."""
    phase, facts = inputs.params.phase, inputs.active["training"]
    if phase not in derived["training"]:
        return None
    file, name = inputs.file_metrics(phase), label(inputs, facts["monitor"])
    return Text(
        run(
            f"The training log is another matter: there {name} on val was at best ",
            ledger.num(file, "training.best_value"),
            " (epoch ",
            ledger.num(file, "training.best_epoch", "count"),
            "). On the same images the shipped file scores ",
            *ledger.interval(file, f"splits.val.{facts['monitor']}"),
            " after reloading; difference ",
            ledger.num(inputs.file_own("derived.json"), f"training.{phase}.difference", "signed"),
            ".",
        )
    )


def curve(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Table | None:
    """Loss, monitored metric, learning rate and gradient norm of the active phase by epoch."""
    phase = inputs.params.phase
    rows, facts = inputs.history[phase], inputs.active["training"]
    found = [name for name in ("train_loss", "val_loss", facts["monitor"], "lr", "grad_norm") if _has(rows, name)]
    shown = _shown([int(float(row["epoch"])) for row in rows], facts["best_epoch"])
    if not found or not shown:
        return None
    file = inputs.file_history(phase)
    table = []
    for epoch in shown:
        cells = [cell(ledger.num(file, f"{name}[epoch={epoch}]", _format(name))) for name in found]
        table.append(
            (cell(str(epoch)), *cells, cell("best: these weights are shipped" * (epoch == facts["best_epoch"])))
        )
    note = run(
        f"Phase {phase}, validation on val, as measured during training. ", *_convergence(ledger, inputs, derived)
    )
    left = f" {len(rows) - len(shown)} epochs in between: {file}." if len(shown) < len(rows) else ""
    titles = tuple({"lr": "learning rate", "grad_norm": "gradient norm"}.get(n, n.replace("_", " ")) for n in found)
    columns = ("Epoch", *(label(inputs, t) for t in titles), "Note")
    return Table("training_curve", "Training by epoch", columns, tuple(table), run(note, left))


def _has(rows: list[dict[str, str]], name: str) -> bool:
    return bool(values(rows, name))


def _format(name: str) -> str:
    return "loss" if name in COLUMNS else "fraction"


def _shown(epochs: list[int], best: int) -> list[int]:
    """At most about `ROWS` epochs: the first, the last, the best, and some evenly in between."""
    if len(epochs) <= ROWS:
        return epochs
    step = -(-len(epochs) // ROWS)
    return sorted({*epochs[::step], epochs[-1], best} & set(epochs))


def _convergence(ledger: Ledger, inputs: Inputs, derived: dict[str, Any]) -> tuple[Any, ...]:
    phase = inputs.params.phase
    found = derived["log"]["convergence"].get(phase)
    if found is None:
        return ("Too few epochs to speak of convergence.",)
    change = ledger.num(inputs.file_own("derived.json"), f"log.convergence.{phase}.last_quarter", "percent")
    word = "converged" if found["converged"] else "not converged"
    return ("The training loss changed by ", change, f" over the last quarter: {word} (less than 5 % is converged).")


def convergence(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> tuple[Any, ...]:
    """The sentence on convergence alone."""
    return _convergence(ledger, inputs, derived)


def ultralytics(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Table | None:
    """Ultralytics' own figures of the best epoch beside ours: in the same epoch's log, and of the shipped file."""
    rows, own = [], inputs.file_own("derived.json")
    for phase, differences in derived["log"]["ultralytics"].items():
        epoch = inputs.metrics[phase]["training"]["best_epoch"]
        file, log = inputs.file_metrics(phase), inputs.file_history(phase)
        for name, ours in OWN.items():
            if _logged(inputs, phase, f"ultralytics_{name}") is None:
                continue
            theirs = cell(ledger.num(log, f"ultralytics_{name}[epoch={epoch}]"))
            logged = _logged(inputs, phase, ours)
            same = cell(ledger.num(log, f"{ours}[epoch={epoch}]")) if logged is not None else cell(ABSENT)
            shipped: Cell = cell(ABSENT)
            if ours in inputs.metrics[phase]["splits"].get("val", {}):
                shipped = cell(ledger.interval(file, f"splits.val.{ours}"))
            gap = cell(ABSENT)
            if differences[name] is not None:
                gap = cell(ledger.num(own, f"log.ultralytics.{phase}.{name}", "signed"))
            rows.append((cell(phase), cell(name), theirs, same, shipped, gap))
    columns = (
        "Phase",
        "Figure",
        "Ultralytics' own (log)",
        "Ours, same epoch (log)",
        "Ours, shipped file",
        "Difference",
    )
    note = (
        "All on val. Ultralytics' figures are those it computed while training, at the best epoch and by its own "
        "definitions (other interpolation, up to max_det detections, several classes a box, precision and recall where "
        "its F1 is best); no interval can be given. Ours beside them: the shipped file after reloading, precision and "
        f"recall at the best-F1 confidence. Difference: shipped file less Ultralytics'. {BRACKETS}"
    )
    return Table("ultralytics", "Ultralytics' own figures", columns, tuple(rows), (note,)) if rows else None
