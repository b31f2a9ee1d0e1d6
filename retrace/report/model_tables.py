"""The phases as models: architecture, size and speed beside the score."""

from retrace.config.yolo import UltralyticsPhase
from retrace.documents.scores import SegmentationSplit
from retrace.documents.speed import Speed
from retrace.report.blocks import Cell, Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT, Ledger
from retrace.report.tables import caption_of, label


def models(inputs: Inputs, ledger: Ledger, split: str) -> Table:
    """One row per phase: size, number of classes, number of classes predicted, score and speed."""
    metric = inputs.params.report.headline
    rows = []
    for phase, document in inputs.metrics.items():
        file = inputs.file_metrics(phase)
        speed = [cell(ABSENT)] * 4
        if phase in inputs.speed:
            own = inputs.file_own("provenance.json")
            latency = ledger.num(own, f"speed.{phase}.latency_ms", "decimal")
            low, high = (ledger.num(own, f"speed.{phase}.latency_ms_{end}", "decimal") for end in ("low", "high"))
            rate = ledger.num(own, f"speed.{phase}.images_per_second", "decimal")
            size = ledger.num(own, f"speed.{phase}.input_size", "plain")
            where = computed_on(inputs.speed[phase])
            speed = [cell(size), cell(where), cell(latency, " [", low, ", ", high, "]"), cell(rate)]
        score = ledger.interval(file, f"splits.{split}.{metric}") if split in document.splits else (ABSENT,)
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
        (*columns, "Input, pixels", "Computed on", "Latency, ms", "Images/s"),
        tuple(rows),
        run(
            caption_of(inputs, ledger, inputs.params.phase, split),
            " Latency is the median over single images after warm-up, with quartiles in brackets; images/s (FPS) is "
            "measured in batches, both at the given input size, on the device and in the precision given. Both were "
            "measured in this run.",
            _same_network(inputs),
            " Mask file is a predicted mask, stored as PNG at the size of the image. Classes predicted counts the "
            "classes that occur in any of these masks."
            if inputs.params.task == "segmentation"
            else "",
        ),
    )


def computed_on(speed: Speed) -> str:
    """The device and the precision of a measured speed, e.g. `Tesla T4, 16-mixed`."""
    return f"{speed.device_name or speed.device}, {speed.precision}"


def _same_network(inputs: Inputs) -> str:
    """Phases whose networks differ in their weights alone take the same time."""
    alike: dict[tuple[str, int, str], list[str]] = {}
    for phase, scores in inputs.metrics.items():
        if phase in inputs.speed:
            size = str(inputs.speed[phase].input_size)
            alike.setdefault((architecture(inputs, phase), scores.parameters, size), []).append(phase)
    named = [" and ".join(phases) for phases in alike.values() if len(phases) > 1]
    if not named:
        return ""
    return f" The phases {'; '.join(named)} have the same network, so their difference in speed is noise."


def _mask_file(inputs: Inputs, ledger: Ledger, phase: str, split: str) -> list[Cell]:
    """The mean file size of a predicted mask; no column for detection, which has no masks."""
    if inputs.params.task != "segmentation":
        return []
    scored = inputs.metrics[phase].splits.get(split)
    if not isinstance(scored, SegmentationSplit) or scored.masks is None:
        return [cell(ABSENT)]
    key = f"splits.{split}.masks.bytes_mean"
    return [cell(ledger.interval(inputs.file_metrics(phase), key, "size"))]


def architecture(inputs: Inputs, phase: str) -> str:
    """e.g. `unet, tu-convnextv2_atto`."""
    block = inputs.params.phases[phase]
    if isinstance(block, UltralyticsPhase):
        return block.model
    return ", ".join(filter(None, (block.model.architecture, getattr(block.model, "encoder", None))))
