"""What a phase does differently from the one it is compared with: their parameter blocks, diffed."""

from typing import Any

from stages.reporting.inputs import Inputs


def changed(inputs: Inputs, phase: str) -> list[str]:
    """Dotted names of the parameters that differ, `note` left out; empty for the first phase."""
    other = inputs.compared_with(phase)
    if other is None:
        return []
    mine, theirs = flat_block(inputs, phase), flat_block(inputs, other)
    return [name for name in [*mine, *(n for n in theirs if n not in mine)] if mine.get(name) != theirs.get(name)]


def flat_block(inputs: Inputs, phase: str) -> dict[str, Any]:
    """`{"optimizer.lr": 0.001, ...}` of a phase, defaults filled in."""
    return flat(inputs.params.phases[phase].model_dump(mode="json", exclude={"note"}))


def flat(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optimizer": {"lr": 0.001}}` -> `{"optimizer.lr": 0.001}`."""
    result: dict[str, Any] = {}
    for name, value in block.items():
        key = f"{prefix}{name}"
        result |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return result
