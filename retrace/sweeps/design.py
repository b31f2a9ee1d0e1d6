"""The experiments of an ablation and their names.

A name says study, phase, the factors that are on, the seed's label, and eight digits of a hash of all that the result
depends on (code, data, starting weights, parameters): the same inputs give the same name, changed inputs a new one.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from retrace.config.ablation import Ablation, changed
from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.seeds import derive
from retrace.sweeps.inputs import read_pipeline, stage_inputs

Design = Literal["full", "one-at-a-time", "leave-one-out"]
Cell = tuple[int, ...]  # 0 (off) or 1 (on) per factor, in the order of params.yaml


@dataclass(frozen=True)
class Experiment:
    """One training: a combination of levels and a replicate of it."""

    name: str
    cell: Cell
    seed: int  # the label in ablation.seeds
    training_seed: int  # phases.<phase>.seed of this run
    changes: dict[str, Any]  # dotted key of params.yaml -> value
    made_from: dict[str, str] = field(default_factory=dict)  # path -> hash of code, data, lock and starting weights

    def overrides(self) -> list[str]:
        """What `dvc exp run -S` is given; `++` sets a key whether or not params.yaml has it."""
        return [f"++{key}={_hydra(value)}" for key, value in self.changes.items()]


def cells(design: Design, factors: int) -> list[Cell]:
    """The combinations of levels: every one; none and each alone; or all and all but one."""
    if design == "full":
        return [tuple(levels) for levels in itertools.product((0, 1), repeat=factors)]
    rest = 0 if design == "one-at-a-time" else 1
    single = [tuple(1 - rest if index == chosen else rest for index in range(factors)) for chosen in range(factors)]
    return [(rest,) * factors, *single]


def experiments(design: Design, params: Params, values: dict[str, Any]) -> list[Experiment]:
    """All experiments of a design, seeds within combinations.

    values: params.yaml as read. Every combination goes through the schema; raises `UserError` for a value it refuses.
    """
    assert params.ablation is not None
    ablation, pipeline, result = params.ablation, read_pipeline(), []
    for cell in cells(design, len(ablation.factors)):
        for seed in ablation.seeds:
            own = training_seed(seed, _on(ablation, cell))
            changes = _changes(params, ablation, cell, own)
            wanted = changed(values, changes)
            parse(wanted, f"params.yaml with {', '.join(_on(ablation, cell)) or 'every factor off'}")
            inputs = {
                stage: stage_inputs(pipeline, stage, ablation.phase, wanted) for stage in ("finetune", "evaluate")
            }
            made_from = {path: md5 for each in inputs.values() for path, md5 in each["deps"].items()}
            name = _name(params.study, ablation, cell, seed, inputs)
            result.append(Experiment(name, cell, seed, own, changes, made_from))
    return result


def training_seed(label: int, on: Iterable[str]) -> int:
    """The seed that a combination is trained with: another one for every label and every set of factors that are on.

    With one seed for all combinations, what it does to one change and not to another would be counted as the change's
    effect. 31 bits, which every library takes; the order of the factors does not matter.
    """
    return derive(label, "ablation", *sorted(on)) >> 32


def _changes(params: Params, ablation: Ablation, cell: Cell, seed: int) -> dict[str, Any]:
    block = f"phases.{ablation.phase}"
    changes: dict[str, Any] = {} if params.phase == ablation.phase else {"phase": ablation.phase}
    if params.repeats.seeds:  # an experiment is one training: metrics.json must hold its score, not a mean
        changes |= {"repeats.phases": [], "repeats.seeds": []}
    for (name, factor), level in zip(ablation.factors.items(), cell, strict=True):
        for key, value in (factor.on if level else factor.off).items():
            if isinstance(value, dict):  # DVC would merge it into what stands there
                raise UserError(
                    f"params.yaml: ablation.factors.{name}: {key} holds several keys; write each with its whole name, "
                    f"{key}.{next(iter(value), '...')}: ..."
                )
            changes[f"{block}.{key}"] = value
    return changes | {f"{block}.seed": seed}


def _on(ablation: Ablation, cell: Cell) -> list[str]:
    return [name for name, level in zip(ablation.factors, cell, strict=True) if level]


def _name(study: str, ablation: Ablation, cell: Cell, seed: int, inputs: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([study, ablation.phase, *(_on(ablation, cell) or ["none"]), f"s{seed}", digest])


def _hydra(value: Any) -> str:
    """A value in Hydra's override grammar, quoted so that no text is read as anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, str):  # a backslash is doubled before a quote alone
        escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value)
        return f"'{escaped}'"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_hydra(item) for item in value) + "]"
    return repr(value)
