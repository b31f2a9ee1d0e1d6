"""Tables about the run: steps and times, configuration, changes between phases and training results."""

from datetime import UTC, datetime

from retrace.config.metrics import place_of
from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance, StageRun
from retrace.report.blocks import Cell, Table, Text, cell, run
from retrace.report.changes import changed, flat_block
from retrace.report.inputs import Inputs, values
from retrace.report.model_tables import architecture
from retrace.report.numbers import ABSENT, Ledger, Num
from retrace.report.tables import label, weights_path

CONFIGURATION = (  # (name in the report, parameter of a fabric phase and of pretrain.mae, Ultralytics' parameter)
    ("starts from", "init", "init"),
    ("epochs, at most", "epochs", "hyperparameters.epochs"),
    ("batch size", "batch_size", "hyperparameters.batch"),
    ("accumulated batches", "accumulate", None),
    ("input size", "input_size", "hyperparameters.imgsz"),
    ("optimizer", "optimizer.name", "hyperparameters.optimizer"),
    ("learning rate", "optimizer.lr", "hyperparameters.lr0"),
    ("encoder learning rate", "optimizer.encoder_lr", None),
    ("weight decay", "optimizer.weight_decay", "hyperparameters.weight_decay"),
    ("schedule", "schedule.name", "hyperparameters.cos_lr"),
    ("warm-up epochs", "schedule.warmup_epochs", "hyperparameters.warmup_epochs"),
    ("loss", "loss.name", None),
    ("frozen", "freeze", "hyperparameters.freeze"),
    ("precision", "precision", "hyperparameters.amp"),
    ("patience", "patience", "hyperparameters.patience"),
    ("monitored metric", "monitor", "monitor"),
)
WORDS = {  # Ultralytics' switches in the words that the other engine has for them
    "hyperparameters.cos_lr": "cosine",
    "hyperparameters.amp": "mixed",
    "hyperparameters.freeze": "layers",
}


def summary(inputs: Inputs, ledger: Ledger, document: Provenance) -> Text:
    """Date, start, duration and SUCCESS or FAILED of the run."""
    times, file = document.run, inputs.file_own("provenance.json")
    if times.started is None:
        return Text(("Every step was restored from the cache. Nothing ran here, so there is no date and no duration.",))
    return Text(
        run(
            f"{times.status}. Started {clock(times.started)}; the steps that ran here took ",
            ledger.num(file, "run.seconds", "duration"),
            " together.",
        )
    )


def steps(inputs: Inputs, ledger: Ledger, document: Provenance) -> Table:
    """Status and duration of every step, what it wrote and where its log is."""
    file, rows = inputs.file_own("provenance.json"), []
    on_gpu = any(row.gpu_memory_mib is not None for row in document.run.stages.values())
    for name, row in document.run.stages.items():
        tone = {"SUCCESS": "good", "restored from cache": "quiet"}.get(row.status, "bad")
        seconds = ledger.num(file, f"run.stages.{name}.seconds", "duration")
        started = clock(row.started)
        written, log = _paths(inputs, name)
        rows.append(
            (
                cell(name),
                cell(row.status, tone=tone),
                cell(started, tone="line"),
                cell(seconds),
                *([_gpu_memory(ledger, file, name, row)] if on_gpu else []),
                code(written),
                code(log),
            )
        )
    memory = ("GPU memory, MiB",) if on_gpu else ()
    note = ("GPU memory is the most that PyTorch reserved at a time; CUDA itself takes some hundred MiB more.",)
    columns = ("Step", "Status", "Started", "Duration", *memory, "Written to", "Log")
    return Table("steps", "Steps", columns, tuple(rows), note if on_gpu else ())


def _gpu_memory(ledger: Ledger, file: str, name: str, row: StageRun) -> Cell:
    if row.gpu_memory_mib is None:
        return cell(ABSENT)
    return cell(ledger.num(file, f"run.stages.{name}.gpu_memory_mib", "count"))


def clock(started: str | None) -> str:
    """`2031-05-06 07:10 UTC` of an ISO 8601 time."""
    if started is None:
        return ABSENT
    return datetime.fromisoformat(started).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _paths(inputs: Inputs, name: str) -> tuple[str, str]:
    study = inputs.study
    stage, _, phase = name.partition("@")
    stage = stage.removesuffix("_repeat")
    log = f"logs/{study}/{phase}/" if phase else f"logs/{study}/{stage}.json"
    written = {
        "collect": f"data/{study}/raw",
        "rebalance": f"data/{study}/splits",
        "pretrain": f"models/{study}/pretrain",
        "evaluate": f"metrics/{study}/{phase}.json",
    }
    return weights_path(inputs.scores(phase)) if stage == "finetune" else written[stage], log


def code(text: str) -> Cell:
    """A path, hash or parameter name."""
    return cell(text, tone="code")


def configuration(inputs: Inputs, ledger: Ledger) -> Table:
    """The settings that matter most, pre-training and phases side by side, and their output folders."""
    file, params = inputs.file_own("parameters.json"), inputs.params
    mae = params.pretrain.mae if params.pretrain.method == "mae" else None
    rows = []
    for name, fabric, other in CONFIGURATION:
        cells = [_setting(ledger, file, "pretrain.mae", fabric)] if mae else []
        cells += [_of_phase(inputs, ledger, phase, fabric, other) for phase in params.phases]
        if any(part.text != ABSENT for part in cells):
            rows.append((cell(name), *cells))
    folders = [code(f"models/{params.study}/pretrain")] if mae else []
    folders += [code(f"models/{params.study}/{phase}") for phase in params.phases]
    rows.append((cell("output folder"), *folders))
    columns = ("Setting", *(["pre-training"] if mae else []), *params.phases)
    return Table(
        "configuration",
        "Configuration",
        columns,
        tuple(rows),
        (f"{ABSENT}: not set, or this phase has no such parameter. parameters.json lists all of them.",),
    )


def _of_phase(inputs: Inputs, ledger: Ledger, phase: str, fabric: str, other: str | None) -> Cell:
    """A setting by its name in either engine; absent where the phase does not use it."""
    block = inputs.params.phases[phase]
    key = fabric if block.engine == "fabric" else other
    if key is None:
        return cell(ABSENT)
    return _setting(ledger, inputs.file_own("parameters.json"), f"phases.{phase}", key)


def _setting(ledger: Ledger, file: str, block: str, key: str) -> Cell:
    try:
        return cell(ledger.num(file, f"{block}.{key}", WORDS.get(key, "plain")))
    except KeyError:
        return cell(ABSENT)


def changes(inputs: Inputs, ledger: Ledger) -> Table | None:
    """The parameters in which each phase differs from the phase it is compared with."""
    file, several = inputs.file_own("parameters.json"), []
    rows: list[tuple[Cell, ...]] = []
    for phase in inputs.metrics:
        other, names = inputs.compared_with(phase), changed(inputs, phase)
        if other is None:
            continue
        if inputs.params.phases[phase].engine != inputs.params.phases[other].engine:
            several.append(phase)
            rows += _other_engine(inputs, ledger, phase, other)
            continue
        if len([name for name in names if name != "init"]) > 1:
            several.append(phase)
        for name in names:
            before, after = (
                cell(ledger.num(file, f"phases.{side}.{name}", "plain") if name in flat_block(inputs, side) else ABSENT)
                for side in (other, phase)
            )
            rows.append((cell(phase), cell(other), code(name), before, after))
        if not names:
            rows.append((cell(phase), cell(other), cell("nothing"), cell(ABSENT), cell(ABSENT)))
    note = ""
    if several:
        note = (
            f" Several parameters change at once in {', '.join(several)}, so the verdict covers all of them together. "
            "To measure each change on its own, run `retrace ablate`."
        )
    columns = ("Phase", "Compared with", "Parameter", "Before", "After")
    return (
        Table(
            "changes",
            "What each phase changes",
            columns,
            tuple(rows),
            (f"{ABSENT}: the parameter is not set, or the phase does not have it.{note}",),
        )
        if rows
        else None
    )


def _other_engine(inputs: Inputs, ledger: Ledger, phase: str, other: str) -> list[tuple[Cell, ...]]:
    """For two engines, which share few parameters: the network and those common settings that differ."""
    file, sides = inputs.file_own("parameters.json"), (other, phase)
    engines = [cell(ledger.num(file, f"phases.{side}.engine", "plain")) for side in sides]
    rows = [(code("engine"), *engines), (code("model"), *(cell(architecture(inputs, side)) for side in sides))]
    for name, fabric, ultralytics in CONFIGURATION:
        before, after = (_of_phase(inputs, ledger, side, fabric, ultralytics) for side in sides)
        if ABSENT not in (before.text, after.text) and before.text.lower() != after.text.lower():
            rows.append((cell(name), before, after))
    rest = cell("specific to the engine, see parameters.json", tone="quiet")
    return [(cell(phase), cell(other), *row) for row in [*rows, (cell("every other setting"), rest, rest)]]


def pretraining(inputs: Inputs, ledger: Ledger) -> Text | None:
    """Images, epochs, first and final loss of the pre-training, and whether it decreased."""
    start, file = inputs.start, inputs.file_start
    if start is None:
        return Text(("There was no pre-training. A phase that continues no other phase starts from random weights.",))
    if start.method != "mae":
        names = ", ".join(entry.file for entry in start.files.values())
        return Text((f"The starting weights are the checked files {names}.",))
    word = "decreased" if start.decreased else "did NOT decrease"
    return Text(
        run(
            f"Masked-autoencoder pre-training of {start.encoder} on ",
            ledger.num(file, "images", "count"),
            " unlabeled images for ",
            ledger.num(file, "epochs", "count"),
            f" epochs: the loss {word}, from ",
            ledger.num(file, "first_loss", "loss"),
            " to ",
            ledger.num(file, "last_loss", "loss"),
            ".",
        ),
        tone="" if start.decreased else "warn",
    )


def training(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table:
    """Best epoch, early stopping and losses of every phase; the best value in the log and the shipped file's score."""
    rows = []
    for phase, document in inputs.metrics.items():
        file, facts = inputs.file_metrics(phase), document.training
        shipped, gap = cell(ABSENT), cell(ABSENT)
        best = cell(label(inputs, facts.monitor), " ", ledger.num(file, "training.best_value"))
        if phase in derived.training:
            shipped = cell(ledger.interval(file, place_of(inputs.params.task, facts.monitor, "val")[0]))
            gap = cell(ledger.num(inputs.file_own("derived.json"), f"training.{phase}.difference", "signed"))
        stopped = "early" if facts.stopped == "early" else "completed"
        rows.append(
            (
                cell(phase),
                cell(ledger.num(file, "training.best_epoch", "count")),
                cell(
                    ledger.num(file, "training.epochs_run", "count"),
                    " of ",
                    ledger.num(file, "training.epochs_planned", "count"),
                ),
                cell(stopped),
                best,
                shipped,
                gap,
                cell(
                    ledger.num(file, "training.first_loss", "loss"),
                    " to ",
                    ledger.num(file, "training.last_loss", "loss"),
                ),
            )
        )
    columns = (
        "Phase",
        "Best epoch",
        "Epochs run",
        "Stopped",
        "Best in the log (val)",
        "Shipped file (val)",
        "Difference",
        "Training loss",
    )
    note = (
        "The best epoch is the first epoch with the best monitored value on val. The best value in the log was "
        "measured during training; the result is the score of the shipped file. Training loss runs from "
        "the first batch to the mean of the last epoch."
    )
    return Table("training", "Best epochs and early stopping", columns, tuple(rows), (note,))


def published_epochs(inputs: Inputs, ledger: Ledger) -> Table | None:
    """The published per-epoch figures beside the ones in this run's training logs."""
    metric, rows = inputs.params.report.headline, []
    parameters = inputs.file_own("parameters.json")
    for phase, epochs in inputs.params.report.published_epochs.items():
        if phase not in inputs.metrics:
            continue
        measured = {int(epoch) for epoch, _ in values(inputs.history[phase], metric)}
        best = inputs.metrics[phase].training.best_epoch
        for epoch in sorted({int(epoch) for epoch in epochs} | ({best} & measured)):
            file = inputs.file_history(phase)
            ours = ledger.num(file, f"{metric}[epoch={epoch}]", "fraction4") if epoch in measured else ABSENT
            published: Num | str = ABSENT
            if str(epoch) in epochs:
                published = ledger.num(parameters, f"report.published_epochs.{phase}.{epoch}", "fraction4")
            note = "best epoch of this run" if epoch == best else ""
            rows.append((cell(phase), cell(str(epoch)), cell(published), cell(ours), cell(note)))
    columns = ("Phase", "Epoch", f"Published {label(inputs, metric)}", "This run, val (training log)", "Note")
    note = "" if inputs.params.report.real_data else "Demo data: the two columns are not comparable."
    return (
        Table(
            "published_epochs", "Published and measured, epoch by epoch", columns, tuple(rows), (note,) if note else ()
        )
        if rows
        else None
    )
