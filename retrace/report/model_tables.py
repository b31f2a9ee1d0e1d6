"""The phases as models: what each is, weighs and costs, beside its score."""

from retrace.report.blocks import Cell, Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT, Ledger
from retrace.report.tables import caption_of, label


def models(inputs: Inputs, ledger: Ledger, split: str) -> Table:
    """Phases as models: size, classes, how many of them the predictions use, score and speed."""
    metric = inputs.params.report.headline
    rows = []
    for phase, document in inputs.metrics.items():
        file = inputs.file_metrics(phase)
        speed = [cell(ABSENT), cell(ABSENT)]
        if phase in inputs.speed:
            own = inputs.file_own("provenance.json")
            latency = ledger.num(own, f"speed.{phase}.latency_ms", "decimal")
            low, high = (ledger.num(own, f"speed.{phase}.latency_ms_{end}", "decimal") for end in ("low", "high"))
            rate = ledger.num(own, f"speed.{phase}.images_per_second", "decimal")
            speed = [cell(latency, " [", low, ", ", high, "]"), cell(rate)]
        score = ledger.interval(file, f"splits.{split}.{metric}") if split in document["splits"] else (ABSENT,)
        rows.append(
            (
                cell(phase),
                cell(architecture(inputs, phase)),
                cell(ledger.num(file, "parameters", "count")),
                cell(ledger.num(file, "weights.bytes", "size")),
                *_mask_file(inputs, ledger, phase, split),
                cell(ledger.num(inputs.file_own("derived.json"), "classes.count", "count")),
                cell(ledger.num(inputs.file_own("derived.json"), f"classes.predicted.{phase}.{split}", "count")),
                cell(score),
                *speed,
            )
        )
    columns = (
        "Phase",
        "Model",
        "Parameters",
        "Weights file",
        *(("Mask file, mean",) if inputs.params.task == "segmentation" else ()),
        "Classes",
        "Classes predicted",
        f"{label(inputs, metric)}, {split}",
    )
    return Table(
        "models",
        "Size, score and speed",
        (*columns, "Latency, ms", "Images/s"),
        tuple(rows),
        run(
            caption_of(inputs, ledger, inputs.params.phase, split),
            " Latency: median of single images after warm-up; images/s (FPS): in batches. "
            "Both are this run's; the brackets of the latency are quartiles.",
            " Mask file: a predicted mask as PNG at the image's own size; classes predicted: in any of them."
            if inputs.params.task == "segmentation"
            else "",
        ),
    )


def _mask_file(inputs: Inputs, ledger: Ledger, phase: str, split: str) -> list[Cell]:
    """What one predicted mask weighs as a file; no column for detection, which has no masks."""
    if inputs.params.task != "segmentation":
        return []
    if "masks" not in inputs.metrics[phase]["splits"].get(split, {}):
        return [cell(ABSENT)]
    key = f"splits.{split}.masks.bytes_mean"
    return [cell(ledger.interval(inputs.file_metrics(phase), key, "size"))]


def architecture(inputs: Inputs, phase: str) -> str:
    """e.g. `unet, tu-convnextv2_atto`."""
    block = inputs.params.phases[phase]
    if block.engine == "ultralytics":
        return block.model
    return ", ".join(filter(None, (block.model.architecture, block.model.encoder)))
