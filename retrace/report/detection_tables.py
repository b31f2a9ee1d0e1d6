"""Tables for detection only: operating points and object sizes."""

from retrace.report.blocks import Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger
from retrace.report.tables import caption_of, label, unreliable

POINTS = {  # confidence -> precision, recall and F1 there, as keys of a split
    "confidence": ("precision", "recall", "F1"),
    "best_F1_confidence": ("best_F1_precision", "best_F1_recall", "best_F1"),
}
SIZES = ("small", "medium", "large")


def operating_points(inputs: Inputs, ledger: Ledger, split: str) -> Table | None:
    """Precision, recall and F1 of every phase, at the reported confidence and at the confidence with the best F1."""
    rows = []
    for phase, document in inputs.metrics.items():
        if inputs.params.task != "detection" or split not in document.splits:
            continue
        file, key = inputs.file_metrics(phase), f"splits.{split}"
        for name, scores in POINTS.items():
            kind = "reported" if name == "confidence" else "best F1"
            confidence = cell(ledger.num(file, f"{key}.{name}", "plain"))
            rows.append(
                (cell(phase), cell(kind), confidence, *(cell(ledger.interval(file, f"{key}.{s}")) for s in scores))
            )
    if not rows:
        return None
    note = caption_of(inputs, ledger, inputs.params.phase, split)
    columns = ("Phase", "Confidence chosen", "Confidence", "Precision", "Recall", "F1")
    return Table(
        f"operating_points_{split}",
        f"Operating points, {split}",
        columns,
        tuple(rows),
        run(note, unreliable(inputs, ledger, inputs.params.phase, [split])),
    )


def sizes(inputs: Inputs, ledger: Ledger, split: str) -> Table | None:
    """AP by object size and AR of every phase, and the number of objects of each size."""
    if inputs.params.task != "detection":
        return None
    rows = []
    for phase, document in inputs.metrics.items():
        if split in document.splits:
            file = inputs.file_metrics(phase)
            names = (*(f"AP_{size}" for size in SIZES), "AR")
            rows.append((cell(phase), *(cell(ledger.interval(file, f"splits.{split}.{name}")) for name in names)))
    file = inputs.file_metrics(inputs.params.phase)
    counts = [cell(ledger.num(file, f"splits.{split}.instances.{size}", "count")) for size in (*SIZES, "all")]
    rows.append((cell("objects"), *counts))
    note = run(
        caption_of(inputs, ledger, inputs.params.phase, split),
        " Small objects have an area of up to 32² pixels, large objects of more than 96² pixels. AR is the mean recall "
        "over IoU 0.5 to 0.95 with at most 100 detections per image.",
    )
    columns = ("Phase", *(label(inputs, f"AP_{size}") for size in SIZES), "AR")
    return Table(f"sizes_{split}", f"By object size, {split}", columns, tuple(rows), note)
