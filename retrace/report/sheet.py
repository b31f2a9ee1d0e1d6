"""The fact sheet of a detector: the fields that a write-up needs, each read from a file.

A field that cannot be filled gives the reason, e.g. a step that was restored from the cache has no date or duration.
"""

from collections.abc import Callable
from typing import Any

from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance
from retrace.report.blocks import Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.model_tables import architecture, computed_on
from retrace.report.numbers import ABSENT, Inline, Ledger, plain
from retrace.report.run_tables import clock
from retrace.report.tables import counted, label
from retrace.report.training_log import convergence

NOT_RUN = ("not recorded: restored from the cache, nothing ran here",)
TENSORBOARD = {  # required curve -> start of its tag
    "loss per batch": "train/loss",
    "val mAP per epoch": "val/AP50",
    "learning-rate schedule": "learning_rate/",
    "gradient norms": "train/grad_norm",
}


class Sheet:
    """Fills the fields for the active phase; every method returns the text of one field."""

    def __init__(self, inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance):
        self.inputs, self.ledger, self.derived, self.document = inputs, ledger, derived, document
        self.phase = inputs.params.phase
        self.file, self.origin = inputs.file_metrics(self.phase), inputs.file_own("provenance.json")

    def score(self, split: str, metric: str) -> Inline:
        """A score with its interval, number of images and target; precision, recall and F1 also with the confidence."""
        scored = self.inputs.active.splits.get(split)
        if scored is None or not scored.images:
            return (f"{split} was not scored",)
        if scored.estimate(metric).value is None:
            return ("undefined: nothing was detected",)
        images = counted(self.inputs, self.ledger, self.phase, split)
        value = self.ledger.interval(self.file, f"splits.{split}.{metric}")
        at = () if metric.startswith("AP") else self._at(split)
        return run(*value, f" on {split}, n = ", *images, at, self._target(split, metric))

    def _target(self, split: str, metric: str) -> Inline:
        """`; target at least 0.85: met`"""
        for index, claim in enumerate(self.inputs.params.report.claims):
            is_target = (claim.phase or self.phase) == self.phase and claim.kind == "target"
            if is_target and (claim.metric, claim.split) == (metric, split) and claim.low is not None:
                low = self.ledger.num(self.inputs.file_own("parameters.json"), f"report.claims.{index}.low", "given")
                return ("; target at least ", low, f": {self.derived.claims[index].status}")
        return ()

    def _at(self, split: str) -> Inline:
        if split not in self.inputs.active.splits:
            return ()
        return (" at confidence ", self.ledger.num(self.file, f"splits.{split}.confidence", "plain"))

    def device(self) -> Inline:
        """The name of the GPU, or of the CPU."""
        if names := self.document.hardware.names:
            return (", ".join(names),)
        if not self.document.devices:
            return NOT_RUN
        return (f"none was used; {', '.join(self.document.devices)}: {self.document.cpu or 'name not known'}",)

    def cuda(self) -> Inline:
        """The CUDA version where a GPU was used."""
        versions = self.document.hardware.cuda
        if versions:
            return (", ".join(versions),)
        return ("none: this run used no CUDA device",) if self.document.devices else NOT_RUN

    def version(self, package: str) -> Inline:
        """The version of an installed package."""
        return (str(self.document.packages.get(package, "not installed")),)

    def date(self) -> Inline:
        """The time at which the training started."""
        row = self.document.run.stages[f"finetune@{self.phase}"]
        return (clock(row.started),) if row.started else NOT_RUN

    def duration(self) -> Inline:
        """The duration of the training."""
        key = f"run.stages.finetune@{self.phase}.seconds"
        number = self.ledger.num(self.origin, key, "duration")
        return NOT_RUN if number.text == ABSENT else (number,)

    def training(self, key: str, style: str = "count") -> Inline:
        """A value from train.json."""
        return (self.ledger.num(self.file, f"training.{key}", style),)

    def epochs(self) -> Inline:
        """Epochs run, epochs planned, and whether the training stopped early."""
        stopped = {"early": ", stopped early"}.get(self.inputs.active.training.stopped, ", completed")
        return run(self.training("epochs_run"), " of ", self.training("epochs_planned"), stopped)

    def inference(self) -> Inline:
        """Milliseconds per image and images per second."""
        if self.phase not in self.inputs.speed:
            return NOT_RUN
        key = f"speed.{self.phase}"
        one, low, high, rate = (
            self.ledger.num(self.origin, f"{key}.{name}", "decimal")
            for name in ("latency_ms", "latency_ms_low", "latency_ms_high", "images_per_second")
        )
        size = self.ledger.num(self.origin, f"{key}.batch_size", "count")
        pixels = self.ledger.num(self.origin, f"{key}.input_size", "plain")
        return (
            one,
            " ms/image [quartiles ",
            low,
            ", ",
            high,
            "], ",
            rate,
            " FPS in batches of ",
            size,
            " at ",
            pixels,
            f" pixels, on {computed_on(self.inputs.speed[self.phase])}",
        )

    def samples(self, kind: str) -> Inline:
        """The first picture of a kind, and how many there are."""
        rows = self.inputs.samples[self.phase]
        split = self.inputs.headline_split
        pictures = [index for index, row in enumerate(rows) if (row.split, row.kind) == (split, kind)]
        if not pictures:
            return ("no picture: evaluate.samples is 0 or no image has objects",)
        file = f"metrics/{self.inputs.study}/{self.phase}/samples.json"
        truth, predicted, iou, sure = (
            self.ledger.num(file, f"{pictures[0]}.{name}", "count" if name in ("truth", "predicted") else "fraction")
            for name in ("truth", "predicted", "IoU", "confidence")
        )
        facts = (f"{rows[pictures[0]].id}: ground truth ", truth, ", predicted ", predicted, ", mean IoU ", iou)
        return run(facts, ", mean confidence ", sure, f"; pictures under Sample predictions ({len(pictures)})")

    def sizes(self) -> Inline:
        """The size of every phase's shipped file."""
        parts: list[Any] = []
        for phase in self.inputs.metrics:
            size = self.ledger.num(self.inputs.file_metrics(phase), "weights.bytes", "size")
            parts += [", " if parts else "", f"{phase} ", size]
        return tuple(parts)

    def tensorboard(self) -> Inline:
        """Which of the required curves the logs contain."""
        tags = self.document.tensorboard.get(self.phase)
        where = f"logs/{self.inputs.study}/{self.phase}/tensorboard"
        if not tags:
            return (f"{where} is not on this machine: the training was restored from the cache",)
        parts = [f"{where}: "]
        for name, start in TENSORBOARD.items():
            matching = [tag for tag in tags if tag.startswith(start)]
            points = sum(tags[tag] for tag in matching[:1])
            parts.append(f"{name} ({points} points)" if matching else f"{name} MISSING")
            parts.append(", ")
        return ("".join(parts[:-1]),)

    def other(self, phase: str) -> Inline:
        """Another phase as a baseline: score, parameters, speed."""
        file, metric = self.inputs.file_metrics(phase), self.inputs.params.report.headline
        split = "val" if "val" in self.inputs.metrics[phase].splits else self.inputs.headline_split
        score = self.ledger.interval(file, f"splits.{split}.{metric}")
        count = self.ledger.num(file, "parameters", "count")
        parts = run(f"{label(self.inputs, metric)} ", *score, f" on {split}, ", count, " parameters")
        if phase in self.inputs.speed:
            rate = self.ledger.num(self.origin, f"speed.{phase}.images_per_second", "decimal")
            parts = run(parts, ", ", rate, " FPS")
        return parts


def _fields(sheet: Sheet) -> list[tuple[str, Callable[[], Inline]]]:
    inputs = sheet.inputs
    losses = (("initial loss", "first_loss"), ("final loss", "last_loss"))
    held_out = [
        (f"test {label(inputs, name)}", lambda name=name: sheet.score("test", name))
        for name in ("AP50", "precision", "recall")
    ]
    return [
        ("GPU", sheet.device),
        ("CUDA version", sheet.cuda),
        ("PyTorch version", lambda: sheet.version("torch")),
        ("date", sheet.date),
        ("duration of the training", sheet.duration),
        ("best mAP@0.5", lambda: sheet.score("val", "AP50")),
        *((name, lambda name=name: sheet.score("val", name)) for name in ("precision", "recall", "F1")),
        ("best epoch", lambda: sheet.training("best_epoch")),
        ("total epochs", sheet.epochs),
        ("training curve", lambda: ("see the table and plot under Training",)),
        *((name, lambda key=key: sheet.training(key, "loss")) for name, key in losses),
        ("convergence", lambda: convergence(inputs, sheet.ledger, sheet.derived)),
        *held_out,
        ("inference time", sheet.inference),
        ("sample predictions, good", lambda: sheet.samples("best")),
        ("sample predictions, challenging", lambda: sheet.samples("worst")),
        ("checkpoint sizes", sheet.sizes),
        ("TensorBoard logs", sheet.tensorboard),
        *(
            (f"comparison: {phase} ({architecture(inputs, phase)})", lambda phase=phase: sheet.other(phase))
            for phase in inputs.metrics
        ),
    ]


def table(inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance) -> Table | None:
    """Every field with its value; None for segmentation."""
    if inputs.params.task != "detection":
        return None
    sheet = Sheet(inputs, ledger, derived, document)
    rows = []
    for name, fill in _fields(sheet):
        value = fill()
        empty = not plain(value) or plain(value) == ABSENT
        rows.append((cell(name), cell("undefined" if empty else value, tone="warn" if empty else "")))
    note = f"Values of phase {inputs.params.phase}, scored with the shipped file. Date and times are those of this run."
    return Table("sheet", "Fields for a write-up", ("Field", "Value"), tuple(rows), (note,))
