"""Parameters of `retrace ablate`: which changes of one phase are switched off and on, and with which seeds."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from retrace.config.base import Block, Index, Items

FactorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


MOST = 8  # factors: every combination of them, twice, is 512 trainings
NOT_FACTORS = {
    "seed": "the seed of every run follows from ablation.seeds",
    "note": "it is a sentence for the report and changes no training",
}


class Factor(Block):
    """One change: dotted keys of the phase's block with the values that they have without and with the change."""

    label: str = ""  # in tables and sentences; empty: the factor's name
    off: dict[str, Any]
    on: dict[str, Any]

    @model_validator(mode="after")
    def _same_keys(self):
        for key, why in NOT_FACTORS.items():
            if key in self.off or key in self.on:
                raise ValueError(f"{key} cannot be a factor's key: {why}; take it out")
        if not self.off or set(self.off) != set(self.on):
            raise ValueError("off and on must set the same keys, at least one")
        if self.off == self.on:
            raise ValueError("off and on set the same values; nothing would be compared")
        return self


class Ablation(Block):
    """`retrace ablate`: no stage depends on this block, so editing it reruns nothing."""

    phase: str  # the phase whose changes are measured
    # labels: for each, every combination is trained once, with a seed of its own that follows from label and factors
    seeds: Items[Index]
    factors: dict[FactorName, Factor]

    @field_validator("seeds")
    @classmethod
    def _replicates(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < 2:
            raise ValueError("allowed: two or more; with one run of a combination nothing tells a change from chance")
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice; a repeated run adds nothing")
        return seeds

    @field_validator("factors")
    @classmethod
    def _number(cls, factors: dict[str, Factor]) -> dict[str, Factor]:
        if not 1 <= len(factors) <= MOST:
            raise ValueError(f"{len(factors)} factors; allowed: 1 to {MOST}")
        return factors

    @model_validator(mode="after")
    def _distinct(self):
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
    """Put every level of every factor through the phase's schema; a `ValueError` names factor, level, key and value."""
    for name, factor in ablation.factors.items():
        for level, values in (("off", factor.off), ("on", factor.on)):
            try:
                type(phase).model_validate(changed(phase.model_dump(), values))
            except ValidationError as error:
                words = _words(error.errors()[0], phase, values)
                raise ValueError(f"ablation.factors.{name}.{level}: {words}") from None


def _words(problem: Any, phase: BaseModel, values: Mapping[str, Any]) -> str:
    """One refusal of a phase's schema: key, value, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        block: Any = phase
        for part in problem["loc"][:-1]:
            block = getattr(block, str(part), None)
        names = type(block).model_fields if isinstance(block, BaseModel) else ()
        return f"{key}: unknown key; allowed: {', '.join(sorted(names)) or 'none'}"
    if not key or isinstance(problem["input"], (dict, BaseModel)):
        return f"{key or ', '.join(values)}: {message}"
    return f"{key} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"
