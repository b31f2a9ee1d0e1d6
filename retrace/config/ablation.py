"""Parameters of `retrace ablate`: which changes of a phase are switched, and with which seeds."""

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator

from retrace.config.base import Block, Index, Items, Name, refused
from retrace.config.phases import FabricPhase, Phase
from retrace.config.reading import Values
from retrace.config.refusals import refusal
from retrace.config.yolo import UltralyticsPhase

MOST = 8  # factors: every combination of them, twice, is 512 trainings
NOT_FACTORS = {
    "seed": "the seed of every run follows from ablation.seeds",
    "note": "it is a sentence for the report and changes no training",
}


class Factor(Block):
    """One change: dotted keys of the phase's block, with their values without it and with it."""

    label: str = ""  # in tables and sentences; empty: the factor's name
    off: Values
    on: Values

    @model_validator(mode="after")
    def _same_keys(self) -> "Factor":
        for key, why in NOT_FACTORS.items():
            if key in self.off or key in self.on:
                raise refused("", f"{key} cannot be a factor's key: {why}; take it out")
        if not self.off or set(self.off) != set(self.on):
            raise refused("", "off and on must set the same keys, at least one")
        if self.off == self.on:
            raise refused("", "off and on set the same values; nothing would be compared")
        return self


class Ablation(Block):
    """`retrace ablate`: no stage depends on this block, so editing it reruns nothing."""

    phase: str  # the phase whose changes are measured
    # labels: for each, every combination is trained once; label and factors make its seed
    seeds: Items[Index]
    factors: dict[Name, Factor]

    @field_validator("seeds")
    @classmethod
    def _replicates(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < 2:
            why = "give two or more; with one run of a combination nothing tells a change from chance"
            raise refused("", why, list(seeds))
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            why = f"{twice[0]} is named twice; a repeated run adds nothing"
            raise refused("", why, list(seeds))
        return seeds

    @field_validator("factors")
    @classmethod
    def _number(cls, factors: dict[str, Factor]) -> dict[str, Factor]:
        if not 1 <= len(factors) <= MOST:
            raise refused("", f"{len(factors)} factors", allowed=[f"1 to {MOST}"])
        return factors

    @model_validator(mode="after")
    def _distinct(self) -> "Ablation":
        if "none" in self.factors:
            raise refused("factors.none", "this name stands for 'no change'; choose another")
        owner: dict[str, str] = {}
        for name, factor in self.factors.items():
            for key in factor.off:
                for other, of in owner.items():
                    one, two = f"{key}.", f"{other}."
                    if of != name and (one.startswith(two) or two.startswith(one)):
                        why = f"{of} and {name} both set {key}; a key belongs to one factor"
                        raise refused("factors", why)
                owner[key] = name
        return self

    def title(self, factor: str) -> str:
        """How a factor is called in tables."""
        return self.factors[factor].label or factor.replace("_", " ")


def changed(block: Mapping[str, object], changes: Mapping[str, object]) -> Values:
    """A copy of nested mappings with dotted keys set; missing mappings on the way are made."""
    result = dict(block)
    for key, value in changes.items():
        first, dot, rest = key.partition(".")
        inner = result.get(first)
        below = inner if isinstance(inner, Mapping) else {}
        result[first] = changed(below, {rest: value}) if dot else value
    return result


_PHASE: TypeAdapter[FabricPhase | UltralyticsPhase] = TypeAdapter(Phase)


def check_levels(ablation: Ablation, phase: FabricPhase | UltralyticsPhase) -> None:
    """Refuse a level of a factor that the phase's schema refuses: factor, level, key and value."""
    block = phase.model_dump(exclude_unset=True)
    for name, factor in ablation.factors.items():
        for level, values in (("off", factor.off), ("on", factor.on)):
            try:
                _PHASE.validate_python(changed(block, values))
            except ValidationError as error:
                why = refusal(Phase, error.errors()[0])
                key = f"ablation.factors.{name}.{level}.{why.key}".rstrip(".")
                raise refused(key, why.why, why.value, why.allowed) from None
