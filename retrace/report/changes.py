"""The parameters in which a phase differs from the phase it is compared with."""

from typing import Any

from retrace.config.phases import FabricPhase, Phase
from retrace.report.inputs import Inputs

FASTER_RCNN = (
    *("model.trainable_layers", "model.min_size", "model.max_size", "model.max_detections", "model.anchor_sizes"),
    *("model.box_batch_size_per_image", "model.rpn_post_nms_top_n_train", "model.rpn_post_nms_top_n_test"),
)


def changed(inputs: Inputs, phase: str) -> list[str]:
    """Dotted names of the parameters that this phase uses and that differ; empty for the first phase."""
    other = inputs.compared_with(phase)
    if other is None:
        return []
    after, before = (flat(inputs.params.phases[name].model_dump(mode="json")) for name in (phase, other))
    return [name for name in after if after[name] != before.get(name) and used(inputs.params.phases[phase], name)]


def flat_block(inputs: Inputs, phase: str) -> dict[str, Any]:
    """`{"optimizer.lr": 0.001, ...}` of a phase with defaults, without those its network or engine ignores."""
    block = inputs.params.phases[phase]
    return {name: value for name, value in flat(block.model_dump(mode="json")).items() if used(block, name)}


def used(phase: Phase, name: str) -> bool:
    """Whether the parameter at this dotted name has any effect in this phase; the note has none."""
    if name == "note":
        return False
    if not isinstance(phase, FabricPhase):
        return True
    return not name.startswith(_without_effect(phase))


def _without_effect(phase: FabricPhase) -> tuple[str, ...]:
    model, loss, optimizer, schedule = phase.model, phase.loss, phase.optimizer, phase.schedule
    detects = model.architecture == "fasterrcnn"
    unused = {  # dotted names, or what they begin with -> without effect
        ("model.encoder",): model.architecture == "unet_classic",
        ("model.width",): model.architecture != "unet_classic",
        ("model.decoder_channels",): model.architecture not in ("unet", "dpt"),
        FASTER_RCNN: not detects,
        ("model.trainable_layers",): phase.init == "none",  # from scratch every block trains
        ("loss.", "augment.crop", "augment.scale"): detects,
        ("resize_range",): not detects,
        ("loss.max_class_weight",): loss.class_weights == "none",
        ("loss.ohem_",): loss.name != "ohem",
        ("optimizer.momentum",): optimizer.name != "sgd",
        ("optimizer.encoder_lr",): phase.freeze == "encoder",
        ("schedule.final_lr",): schedule.name == "constant",
        ("schedule.power",): schedule.name != "poly",
    }
    return tuple(name for names, without in unused.items() if without for name in names)


def flat(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optimizer": {"lr": 0.001}}` -> `{"optimizer.lr": 0.001}`."""
    result: dict[str, Any] = {}
    for name, value in block.items():
        key = f"{prefix}{name}"
        result |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return result
