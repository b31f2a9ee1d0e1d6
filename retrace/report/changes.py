"""The parameters in which a phase differs from the phase it is compared with."""

from typing import Any

from retrace.report.inputs import Inputs


def changed(inputs: Inputs, phase: str) -> list[str]:
    """Dotted names of the parameters of this phase that differ; empty for the first phase.

    A parameter that came with another choice, such as OHEM's threshold, counts unless it is at its default.
    """
    other = inputs.compared_with(phase)
    if other is None:
        return []
    after, before = (flat_block(inputs, name) for name in (phase, other))
    given = flat(inputs.params.phases[phase].model_dump(mode="json", exclude_defaults=True))
    return [name for name in after if (after[name] != before[name] if name in before else name in given)]


def flat_block(inputs: Inputs, phase: str) -> dict[str, Any]:
    """`{"optimizer.lr": 0.001, ...}` of a phase with defaults, without its note, which changes nothing."""
    return flat(inputs.params.phases[phase].model_dump(mode="json", exclude={"note"}))


def flat(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optimizer": {"lr": 0.001}}` -> `{"optimizer.lr": 0.001}`."""
    result: dict[str, Any] = {}
    for name, value in block.items():
        key = f"{prefix}{name}"
        result |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return result
