"""The parameters that `pretrain` and `finetune` read, with the checks across their blocks.

Other stages' blocks are not imported here: a new key of the report makes no training stale.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict, model_validator

from retrace.config.base import Block, Index, Items, Name, refused
from retrace.config.machine import Machine, Runtime
from retrace.config.monitored import check_monitor
from retrace.config.phases import Phase, SegmentationPhase
from retrace.config.pretrain import Pretrain
from retrace.config.reading import PARAMS, read_params
from retrace.config.refusals import validated
from retrace.config.trainings import repeat_name

RESERVED = ("none", "pretrain")  # phase names that would collide with the starting weights' folders
MOST_CLASSES = 254  # in a mask's byte; 255 = not scored


class Focus(Block):
    """What a training needs of `report`."""

    model_config = ConfigDict(extra="ignore")

    focus_classes: Items[str] = ()


class Repeats(Block):
    """Phases that are trained again, once with each of `seeds`; dvc.yaml makes stages of them."""

    phases: Items[str] = ()
    seeds: Items[Index] = ()


class Trained(NamedTuple):
    """What a training trains: a phase, with a seed."""

    phase: str
    seed: int


class TrainingParams(Block):
    """params.yaml as a training reads it; every other key is ignored."""

    model_config = ConfigDict(extra="ignore")

    study: Name
    task: Literal["segmentation", "detection"]
    seed: Index
    classes: Items[str]
    pretrain: Pretrain = Pretrain()
    # the active phase: the one that metrics.json and the headline speak of; no training uses it, but each refuses a
    # slip in it, which would otherwise come to light after all of them
    phase: Name
    phases: dict[Name, Phase]
    repeats: Repeats = Repeats()
    report: Focus
    runtime: Runtime = Runtime()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _classes(self) -> "TrainingParams":
        if not self.classes:
            raise refused("classes", "name at least one class", [])
        if self.task == "segmentation" and len(self.classes) == 1:
            why = "with one class alone any answer is right; add a class for the background"
            raise refused("classes", why, list(self.classes))
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            why = f"{twice[0]!r} is named twice; every class needs its own name"
            raise refused("classes", why, list(self.classes))
        if len(self.classes) > MOST_CLASSES:
            why = f"{len(self.classes)} classes; a mask byte holds at most {MOST_CLASSES}"
            raise refused("classes", why)
        self.check_classes("report.focus_classes", self.report.focus_classes)
        return self

    def check_classes(self, key: str, names: tuple[str, ...]) -> None:
        """Refuse `key` if it names what is not a class."""
        for name in names:
            if name not in self.classes:
                raise refused(key, "is not a class", name, self.classes)

    @model_validator(mode="after")
    def _phases(self) -> "TrainingParams":
        if not self.phases:
            raise refused("phases", "name at least one training phase", {})
        if self.phase not in self.phases:
            raise refused("phase", "no such phase", self.phase, self.phases)
        for name, phase in self.phases.items():
            self._check_phase(name, phase)
        self._no_cycle()
        return self

    def _check_phase(self, name: str, phase: Phase) -> None:
        key, others = f"phases.{name}", [other for other in self.phases if other != name]
        if name in RESERVED:
            raise refused(key, "this name is taken by the starting weights; choose another")
        if phase.init not in (*RESERVED, *others):
            raise refused(f"{key}.init", "no such phase", phase.init, [*RESERVED, *others])
        if phase.init == "pretrain" and self.pretrain.method == "none":
            why = "but pretrain.method is 'none'; allowed methods: mae, weights"
            raise refused(f"{key}.init", why, phase.init)
        parent = self.phases.get(phase.init)
        if parent is not None and parent.engine != phase.engine:
            why = f"its engine is {parent.engine}, not {phase.engine}"
            raise refused(f"{key}.init", why, phase.init)
        segments = isinstance(phase, SegmentationPhase)
        if segments != (self.task == "segmentation"):
            what = "a segmentation network" if segments else "a detector"
            raise refused(f"{key}.model", f"is {what}, but task = {self.task!r}")
        check_monitor(f"{key}.monitor", phase.monitor, self.task, self.classes, self.report.focus_classes)

    def _no_cycle(self) -> None:
        for name in self.phases:
            chain = [name]
            while (parent := self.phases[chain[-1]].init) in self.phases:
                if parent in chain:
                    why = f"a cycle ({' -> '.join([*chain, parent])}); one must start from none"
                    raise refused(f"phases.{name}.init", why, self.phases[name].init)
                chain.append(parent)

    @model_validator(mode="after")
    def _repeats(self) -> "TrainingParams":
        phases, seeds = self.repeats.phases, self.repeats.seeds
        if seeds and not phases:
            why = "names no phase, so repeats.seeds would have no effect; name some"
            raise refused("repeats.phases", why, [], self.phases)
        for name in phases:
            if name not in self.phases:
                raise refused("repeats.phases", "no such phase", name, self.phases)
        for key, listed in (("phases", phases), ("seeds", seeds)):
            if len(set(listed)) < len(listed):
                raise refused(f"repeats.{key}", "names one twice", list(listed))
        for name in phases:
            if self.own_seed(name) in seeds:
                why = f"phase {name} is trained with seed {self.own_seed(name)} anyway; take it out"
                raise refused("repeats.seeds", why, list(seeds))
        return self

    @model_validator(mode="after")
    def _weights(self) -> "TrainingParams":
        allowed = ["all", *self.phases]
        for name in self.pretrain.weights or {}:
            if name not in allowed and self.pretrain.method == "weights":
                raise refused(f"pretrain.weights.{name}", "no such phase", allowed=allowed)
        return self

    def own_seed(self, phase: str) -> int:
        """The seed of a phase's first training, whose weights are shipped."""
        seed = self.phases[phase].seed
        return self.seed if seed is None else seed

    @property
    def trainings(self) -> dict[str, Trained]:
        """Every training by its name: `<phase>`, then for each of its repeats `<phase>-<seed>`.

        The names are those of the folders in models/ and metrics/, and of the stages in dvc.yaml.
        """
        found = {}
        for phase in self.phases:
            found[phase] = Trained(phase, self.own_seed(phase))
            for seed in self.repeats.seeds if phase in self.repeats.phases else ():
                found[repeat_name(phase, seed)] = Trained(phase, seed)
        return found

    def trainings_of(self, phase: str) -> dict[str, Trained]:
        """Those of one phase, the shipped one first."""
        return {name: one for name, one in self.trainings.items() if one.phase == phase}

    def class_index(self, name: str) -> int:
        """Index of a class in `classes`, which is its value in masks and its id in boxes."""
        return self.classes.index(name)


def load_training(path: Path = PARAMS) -> TrainingParams:
    """What a training reads of the project in the current folder; `UserError` for a wrong value."""
    return validated(TrainingParams, read_params(path), str(path))
