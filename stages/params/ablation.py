"""Parameters of `retrace ablate`: which changes of one phase are switched off and on, and with which seeds."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.params.base import Block, Index, Items

FactorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Factor(Block):
    """One change: dotted keys of the phase's block with the values that they have without and with the change."""

    label: str = ""  # in tables and sentences; empty: the factor's name
    off: dict[str, Any]
    on: dict[str, Any]

    @model_validator(mode="after")
    def _same_keys(self):
        if not self.off or set(self.off) != set(self.on):
            raise ValueError("off and on must set the same keys, at least one")
        if self.off == self.on:
            raise ValueError("off and on set the same values; nothing would be compared")
        return self


class Ablation(Block):
    """`retrace ablate`: no stage depends on this block, so editing it reruns nothing."""

    phase: str  # the phase whose changes are measured
    # labels: for each, every combination is trained once, with a seed of its own that follows from label and factors
    seeds: Annotated[Items[Index], Field(min_length=2)]
    factors: Annotated[dict[FactorName, Factor], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _distinct(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is named twice; a repeated run adds nothing")
        if "none" in self.factors:
            raise ValueError("factors.none: this name stands for 'no change'; choose another")
        owner: dict[str, str] = {}
        for name, factor in self.factors.items():
            for key in factor.off:
                for other, of in owner.items():
                    nested = f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
                    if of != name and nested:
                        raise ValueError(f"factors: {of} and {name} both set {key}; a key belongs to one factor")
                owner[key] = name
        return self

    def title(self, factor: str) -> str:
        """How a factor is called in tables."""
        return self.factors[factor].label or factor.replace("_", " ")


def changed(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings with dotted keys set; missing mappings on the way are made."""
    result = dict(block)
    for key, value in changes.items():
        first, dot, rest = key.partition(".")
        inner = result.get(first)
        result[first] = changed(inner if isinstance(inner, Mapping) else {}, {rest: value}) if dot else value
    return result


def check_levels(ablation: Ablation, phase: BaseModel) -> None:
    """Put every level of every factor through the phase's schema; a `ValueError` names factor, level and key."""
    for name, factor in ablation.factors.items():
        for level, values in (("off", factor.off), ("on", factor.on)):
            try:
                type(phase).model_validate(changed(phase.model_dump(), values))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or ", ".join(values)
                message = first["msg"].removeprefix("Value error, ")
                raise ValueError(f"ablation.factors.{name}.{level}: {where}: {message}") from None
