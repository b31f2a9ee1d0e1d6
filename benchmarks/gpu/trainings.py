"""Runs of stages in processes of their own, each done once: parts of the check share them."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu import ROOT
from benchmarks.gpu.inside import KILLED, NOTES, Variant
from benchmarks.gpu.settings import ordered, settings

PLAIN = Variant()


class CheckFailed(Exception):
    """A check that did not come out; the message says what was seen."""


class Unavailable(Exception):
    """A check that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Run:
    """A finished run. outs: a copy of what it wrote; hashes: sha256 by file."""

    code: int
    message: str
    seconds: float
    notes: dict[str, Any]
    outs: Path
    hashes: dict[str, str] = field(default_factory=dict)


class Clock:
    """The time that is left."""

    def __init__(self, budget: float):
        self._end = time.monotonic() + budget

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._end - time.monotonic())


class Study:
    """A study at full size in a folder of its own."""

    def __init__(self, name: str, folder: Path, device: str, steps: int, clock: Clock):
        self.name, self.folder, self.clock = name, folder, clock
        self.values = settings(name, device, steps)
        self._done: dict[str, Run] = {}
        self._prepared = False

    @property
    def trainings(self) -> list[str]:
        """`pretrain`, where there is one to train, and the phases, each after the one it starts from."""
        first = ["pretrain"] if self.values["pretrain"]["method"] == "mae" else []
        return first + ordered(self.values["phases"])

    def block(self, name: str) -> dict[str, Any]:
        """The parameters of a training."""
        block: dict[str, Any] = self.values["pretrain"]["mae"] if name == "pretrain" else self.values["phases"][name]
        return block

    def train(self, name: str, variant: Variant = PLAIN, **machine: Any) -> Run:
        """Train a phase; the same call again gives the run of before.

        machine: replaces keys of the `machine` block.

        Raises:
            CheckFailed: the training, or one that it starts from, failed.
        """
        run = self.attempt(name, variant, self.values | {"machine": self.values["machine"] | machine})
        if run.code:
            raise CheckFailed(run.message)
        return run

    def attempt(self, name: str, variant: Variant, values: dict[str, Any], label: str = "") -> Run:
        """The same with parameters of its own, failed or not. label: parts runs that are equal in all else."""
        self._available(name)
        self._prepare()
        if name != "pretrain":
            start = self.values["phases"][name]["init"]
            if start == "none" and "pretrain" in self.trainings:
                start = "pretrain"  # its stage writes the start of those that start from nothing, too
            if start in self.trainings:
                self.restore(start)
        key = json.dumps([name, variant.text(), values, label], sort_keys=True)
        if key not in self._done:
            self.write(values)
            module, arguments = ("stages.pretrain", []) if name == "pretrain" else ("stages.finetune", [name])
            outs = self.folder / "models" / self.name / name
            shutil.rmtree(outs, ignore_errors=True)
            code, message, seconds = self.stage(module, *arguments, variant=variant)
            kept = self.folder / "kept" / str(len(self._done))
            if outs.is_dir():
                shutil.copytree(outs, kept)
            self._done[key] = Run(code, message, seconds, self._notes(), kept, hashes(kept))
        return self._done[key]

    def resumed(self, name: str) -> Run:
        """Train a phase, end it after its first checkpoint, and let it go on."""
        killed = self.attempt(name, Variant(kill=True), self.values)
        if killed.code != KILLED:
            raise CheckFailed(f"the training was to end with code {KILLED}, not {killed.code}: {killed.message}")
        return self.attempt(name, PLAIN, self.values, "resumed")

    def stage(self, module: str, *arguments: str, variant: Variant = PLAIN) -> tuple[int, str, float]:
        """(exit code, the last lines of its messages, seconds) of a stage.

        Raises:
            Unavailable: the time is up before it ends.
        """
        command = [sys.executable, "-m", "benchmarks.gpu.inside", variant.text(), module, *arguments]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=self.clock.left,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable("the time is up") from None
        lines = done.stderr.strip().splitlines() or ["no message"]
        return done.returncode, " ".join(line.strip() for line in lines[-3:]), time.monotonic() - began

    def _available(self, name: str) -> None:
        if "hyperparameters" in self.block(name):
            try:
                import ultralytics  # noqa: F401
            except ImportError:
                raise Unavailable("ultralytics is not installed") from None

    def _prepare(self) -> None:
        """Draw the data, once."""
        if self._prepared:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write(self.values)
        stages = ["stages.collect", "stages.rebalance"]
        if self.values["pretrain"]["method"] != "mae":
            stages.append("stages.pretrain")
        for module in stages:
            code, message, _ = self.stage(module)
            if code:
                raise CheckFailed(f"{module}: {message}")
        self._prepared = True

    def restore(self, start: str) -> None:
        """Put the files of a plain run of the phase `start` where other stages look for them."""
        run = self.train(start)
        outs = self.folder / "models" / self.name / start
        shutil.rmtree(outs, ignore_errors=True)
        shutil.copytree(run.outs, outs)

    def write(self, values: dict[str, Any]) -> None:
        """Write params.yaml."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def _notes(self) -> dict[str, Any]:
        path = self.folder / NOTES
        if not path.is_file():
            return {}
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        return notes


def environment() -> dict[str, str]:
    """The caller's, with the project first on the path that was given."""
    given = os.environ.get("PYTHONPATH")
    path = [str(ROOT), *([given] if given else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by path."""
    from retrace.files import sha256_of

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def difference(first: Run, second: Run) -> str | None:
    """What differs between the files of two runs, with the first tensor that does; None where they are equal."""
    changed = sorted(set(first.hashes.items()) ^ set(second.hashes.items()))
    if not changed:
        return None
    names = sorted({name for name, _ in changed})
    for name in names:
        paths = (first.outs / name, second.outs / name)
        if name.endswith(".safetensors") and all(path.is_file() for path in paths):
            return f"differ: {', '.join(names)}; first {_first_tensor(*paths)}"
    return f"differ: {', '.join(names)}"


def _first_tensor(first: Path, second: Path) -> str:
    """The first tensor that is not the same in two files of weights, and by how much."""
    from safetensors.torch import load_file

    one, other = load_file(first), load_file(second)
    for name, tensor in one.items():
        if name not in other or tensor.shape != other[name].shape:
            return f"{name}: not of the same shape in both"
        apart = (tensor.double() - other[name].double()).abs()
        if apart.max() > 0:
            return f"{name}: {int((apart > 0).sum())} of {apart.numel()} numbers, by up to {float(apart.max()):.3g}"
    return "differs in its header alone"
