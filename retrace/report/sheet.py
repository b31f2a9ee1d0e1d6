"""The fields that a detector's write-up has to fill, each read from a file: nothing is left to be typed in.

A field that cannot be filled says why (a step that was restored from the cache leaves no date or duration here).
"""

from collections.abc import Callable
from typing import Any

from retrace.report.blocks import Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.model_tables import architecture
from retrace.report.numbers import ABSENT, Inline, Ledger, plain
from retrace.report.run_tables import clock
from retrace.report.tables import BRACKETS, label
from retrace.report.training_log import convergence

NOT_RUN = ("not recorded: restored from the cache, nothing ran here",)
TENSORBOARD = {  # what the logs must hold -> start of the tag
    "loss per batch": "train/loss",
    "val mAP per epoch": "val/AP50",
    "learning-rate schedule": "learning_rate/",
    "gradient norms": "train/grad_norm",
}


class Sheet:
    """Fills the fields for the active phase; every method returns what stands in one of them."""

    def __init__(self, inputs: Inputs, ledger: Ledger, derived: dict[str, Any], document: dict[str, Any]):
        self.inputs, self.ledger, self.derived, self.document = inputs, ledger, derived, document
        self.phase = inputs.params.phase
        self.file, self.origin = inputs.file_metrics(self.phase), inputs.file_own("provenance.json")

    def score(self, split: str, metric: str) -> Inline:
        """A score with its interval, the number of images and the target, precision and the like with confidence."""
        scored = self.inputs.active["splits"].get(split, {})
        if not scored.get("images"):
            return (f"{split} was not scored",)
        if scored[metric]["value"] is None:
            return ("undefined: nothing was detected",)
        images = self.ledger.num(self.file, f"splits.{split}.images", "count")
        value = self.ledger.interval(self.file, f"splits.{split}.{metric}")
        at = () if metric.startswith("AP") else self._at(split)
        return run(*value, f" on {split}, n = ", images, " images", at, self._target(split, metric))

    def _target(self, split: str, metric: str) -> Inline:
        """`; target at least 0.85: met`"""
        for index, claim in enumerate(self.inputs.params.report.claims):
            mine = (claim.phase or self.phase) == self.phase and claim.kind == "target"
            if mine and (claim.metric, claim.split) == (metric, split) and claim.low is not None:
                low = self.ledger.num(self.inputs.file_own("parameters.json"), f"report.claims.{index}.low", "given")
                return ("; target at least ", low, f": {self.derived['claims'][index]['status']}")
        return ()

    def _at(self, split: str) -> Inline:
        if split not in self.inputs.active["splits"]:
            return ()
        return (" at confidence ", self.ledger.num(self.file, f"splits.{split}.confidence", "plain"))

    def device(self) -> Inline:
        """GPU by name, or the CPU."""
        if names := self.document["hardware"]["names"]:
            return (", ".join(names),)
        if not self.document["devices"]:
            return NOT_RUN
        return (f"none was used; {', '.join(self.document['devices'])}: {self.document['cpu'] or 'name not known'}",)

    def cuda(self) -> Inline:
        """Its version where a GPU was used."""
        found = self.document["hardware"]["cuda"]
        if found:
            return (", ".join(found),)
        return ("none: this run used no CUDA device",) if self.document["devices"] else NOT_RUN

    def version(self, package: str) -> Inline:
        """Of an installed package."""
        return (str(self.document["packages"].get(package, "not installed")),)

    def date(self) -> Inline:
        """When the training began."""
        row = self.document["run"]["stages"][f"finetune@{self.phase}"]
        return (clock(row["started"]),) if row["started"] else NOT_RUN

    def duration(self) -> Inline:
        """Of the training."""
        key = f"run.stages.finetune@{self.phase}.seconds"
        number = self.ledger.num(self.origin, key, "duration")
        return NOT_RUN if number.text == ABSENT else (number,)

    def training(self, key: str, format: str = "count") -> Inline:
        """A fact of train.json."""
        return (self.ledger.num(self.file, f"training.{key}", format),)

    def epochs(self) -> Inline:
        """Run, of planned, and how it ended."""
        stopped = {"early": ", stopped early"}.get(self.inputs.active["training"]["stopped"], ", completed")
        return run(self.training("epochs_run"), " of ", self.training("epochs_planned"), stopped)

    def inference(self) -> Inline:
        """Milliseconds an image and images a second."""
        if self.phase not in self.inputs.speed:
            return NOT_RUN
        key = f"speed.{self.phase}"
        one, low, high, rate = (
            self.ledger.num(self.origin, f"{key}.{name}", "decimal")
            for name in ("latency_ms", "latency_ms_low", "latency_ms_high", "images_per_second")
        )
        size = self.ledger.num(self.origin, f"{key}.batch_size", "count")
        device = self.inputs.speed[self.phase].get("device", "")
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
            f", on {device}",
        )

    def samples(self, kind: str) -> Inline:
        """How many pictures of a kind, and what the first shows."""
        rows = self.inputs.samples[self.phase]
        split = self.inputs.headline_split
        found = [index for index, row in enumerate(rows) if (row["split"], row["kind"]) == (split, kind)]
        if not found:
            return ("no picture: evaluate.samples is 0 or no image has objects",)
        file = f"metrics/{self.inputs.study}/{self.phase}/samples.json"
        truth, predicted, iou, sure = (
            self.ledger.num(file, f"{found[0]}.{name}", "count" if name in ("truth", "predicted") else "fraction")
            for name in ("truth", "predicted", "IoU", "confidence")
        )
        facts = (f"{rows[found[0]]['id']}: ground truth ", truth, ", predicted ", predicted, ", mean IoU ", iou)
        return run(facts, ", mean confidence ", sure, f"; pictures under Sample predictions ({len(found)})")

    def sizes(self) -> Inline:
        """Of every phase's shipped file."""
        parts: list[Any] = []
        for phase in self.inputs.metrics:
            size = self.ledger.num(self.inputs.file_metrics(phase), "weights.bytes", "size")
            parts += [", " if parts else "", f"{phase} ", size]
        return tuple(parts)

    def tensorboard(self) -> Inline:
        """Which of the wanted curves the logs hold."""
        tags = self.document["tensorboard"].get(self.phase)
        where = f"logs/{self.inputs.study}/{self.phase}/tensorboard"
        if not tags:
            return (f"{where} is not on this machine: the training was restored from the cache",)
        parts = [f"{where}: "]
        for name, start in TENSORBOARD.items():
            found = [tag for tag in tags if tag.startswith(start)]
            points = sum(tags[tag] for tag in found[:1])
            parts.append(f"{name} ({points} points)" if found else f"{name} MISSING")
            parts.append(", ")
        return ("".join(parts[:-1]),)

    def other(self, phase: str) -> Inline:
        """Another phase as a baseline: score, parameters, speed."""
        file, metric = self.inputs.file_metrics(phase), self.inputs.params.report.headline
        split = "val" if "val" in self.inputs.metrics[phase]["splits"] else self.inputs.headline_split
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
        ("training curve", lambda: ("table and plot under Training",)),
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


def table(inputs: Inputs, ledger: Ledger, derived: dict[str, Any], document: dict[str, Any]) -> Table | None:
    """Every field with its value, for detection."""
    if inputs.params.task != "detection":
        return None
    sheet = Sheet(inputs, ledger, derived, document)
    rows = []
    for name, fill in _fields(sheet):
        value = fill()
        empty = not plain(value) or plain(value) == ABSENT
        rows.append((cell(name), cell("undefined" if empty else value, tone="warn" if empty else "")))
    note = (
        f"Phase {inputs.params.phase}, the shipped weights after reloading. {BRACKETS} Date and times are this run's."
    )
    return Table("sheet", "Every field of the write-up", ("Field", "Value"), tuple(rows), (note,))
