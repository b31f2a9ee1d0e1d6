"""The parts of the check, in the order in which they are made: each gives named checks, a check its figures.

A check raises `CheckFailed` where it did not come out and `Unavailable` where it cannot be made here.
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.gpu import ops
from benchmarks.gpu.inside import Variant
from benchmarks.gpu.settings import batch_keys
from benchmarks.gpu.trainings import CheckFailed, Run, Study, Unavailable, difference

LIMITS = (15.0, 7.5, 3.5)  # GiB that a 16, 8 and 4 GB card leave to a program
SPOILED = 1  # the step whose gradient is made NaN
Figures = dict[str, Any]
Checks = Iterator[tuple[str, Callable[[], Figures]]]


def operations(studies: Sequence[Study], device: str) -> Checks:
    """Each layer and kernel alone."""
    for name, check in ops.checks(device, tiny=device == "cpu"):
        yield name, functools.partial(_operation, check)


def _operation(check: Callable[[], Figures]) -> Figures:
    try:
        return check()
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise CheckFailed(str(error).splitlines()[0]) from None


def memory(studies: Sequence[Study], device: str) -> Checks:
    """Every training as published in the memory of a 16, 8 and 4 GB card: the largest batch that fits."""
    for limit in LIMITS:
        for study in studies:
            for name in study.trainings:
                yield f"{study.name} {name}, {limit} GiB", functools.partial(_fits, study, name, limit, device)


def _fits(study: Study, name: str, limit: float, device: str) -> Figures:
    """Halve the batch and double the accumulation until the training fits."""
    if device != "cuda":
        raise Unavailable("no device memory to limit")
    values: dict[str, Any] = json.loads(json.dumps(study.values))
    block = values["pretrain"]["mae"] if name == "pretrain" else values["phases"][name]
    mapping, batch_key, accumulate_key = batch_keys(block)
    published = mapping[batch_key]
    while True:
        run = study.attempt(name, Variant(limit_gib=limit), values)
        peak = run.notes.get("peak_reserved_gib")
        if run.code == 0:
            return {
                "batch": mapping[batch_key],
                "published_batch": published,
                "accumulate": mapping.get(accumulate_key, 1),
                "peak_gib": peak,
                "seconds_per_epoch": _last(run),
            }
        if "memory" not in run.message.lower() or mapping[batch_key] == 1:
            raise CheckFailed(f"batch {mapping[batch_key]}: {run.message}")
        mapping[batch_key] //= 2
        if accumulate_key:
            mapping[accumulate_key] = mapping.get(accumulate_key, 1) * 2


def bits(studies: Sequence[Study], device: str) -> Checks:
    """Every training twice, and ended after its first epoch and continued: the same files."""
    for study in studies:
        for name in study.trainings:
            yield f"{study.name} {name}, twice", functools.partial(_twice, study, name)
            yield f"{study.name} {name}, resumed", functools.partial(_resumed, study, name)


def _twice(study: Study, name: str) -> Figures:
    return _equal(study.train(name), study.attempt(name, Variant(), study.values, "again"))


def _resumed(study: Study, name: str) -> Figures:
    return _equal(study.train(name), study.resumed(name))


def _equal(first: Run, second: Run) -> Figures:
    if second.code:
        raise CheckFailed(second.message)
    found = difference(first, second)
    if found:
        raise CheckFailed(found)
    return {"files": len(first.hashes), "seconds": second.seconds}


def waits(studies: Sequence[Study], device: str) -> Checks:
    """The lines of a training step that wait for the device."""
    for study in studies:
        for name in study.trainings:
            yield f"{study.name} {name}", functools.partial(_waits, study, name, device)


def _waits(study: Study, name: str, device: str) -> Figures:
    if device != "cuda":
        raise Unavailable("a CPU never waits for a device")
    if "hyperparameters" in study.block(name):
        raise Unavailable("the steps are Ultralytics'")
    lines = study.train(name, Variant(waits=True)).notes["waits"]
    if lines:
        raise CheckFailed("; ".join(lines))
    return {"lines": 0}


def scaler(studies: Sequence[Study], device: str) -> Checks:
    """A NaN in one step's gradient in mixed precision: the step is skipped and the training goes on."""
    for study in studies:
        for name in study.trainings:
            if study.block(name).get("precision") == "16-mixed":
                yield f"{study.name} {name}", functools.partial(_survives, study, name, device)


def _survives(study: Study, name: str, device: str) -> Figures:
    if device != "cuda":
        raise Unavailable("the loss is scaled on CUDA only")
    run = study.train(name, Variant(spoil_step=SPOILED))
    if not difference(study.train(name), run):
        raise CheckFailed("the NaN changed nothing: it was not met")
    return {"seconds": run.seconds}


def evaluate(studies: Sequence[Study], device: str) -> Checks:
    """The same weights scored on the device and on the CPU."""
    for study in studies:
        for name in study.trainings:
            if name != "pretrain":
                yield f"{study.name} {name}", functools.partial(_scores, study, name, device)


def _scores(study: Study, name: str, device: str) -> Figures:
    found = []
    study.train(name)
    study.restore(name)
    for machine in (device, "cpu"):
        study.write(study.values | {"machine": study.values["machine"] | {"device": machine}})
        code, message, seconds = study.stage("stages.evaluate", name)
        if code:
            raise CheckFailed(f"{machine}: {message}")
        path = study.folder / "metrics" / study.name / f"{name}.json"
        found.append((numbers(json.loads(path.read_text(encoding="utf-8"))["splits"]), seconds))
    (here, seconds), (there, on_cpu) = found
    apart = max((abs(here[key] - there[key]) for key in here if key in there), default=0.0)
    return {"scores": len(here), "largest_difference": apart, "seconds": seconds, "cpu_seconds": on_cpu}


def numbers(node: Any, place: str = "") -> dict[str, float]:
    """Every `value` below a node of a document, by its path."""
    found = {}
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "value" and isinstance(value, float):
                found[place] = value
            else:
                found |= numbers(value, f"{place}/{key}")
    return found


def workers(studies: Sequence[Study], device: str) -> Checks:
    """The same files with 0 and with 2 loader workers."""
    for study in studies:
        for name in study.trainings:
            yield f"{study.name} {name}", functools.partial(_workers, study, name)


def _workers(study: Study, name: str) -> Figures:
    return _equal(study.train(name, workers=0), study.train(name, workers=2))


def rate(studies: Sequence[Study], device: str) -> Checks:
    """Images per second of the loader alone, of the network alone and of both; the price of determinism."""
    for study in studies:
        for name in study.trainings:
            yield f"{study.name} {name}", functools.partial(_rates, study, name)


def _rates(study: Study, name: str) -> Figures:
    mapping, key, _ = batch_keys(study.block(name))
    batch = mapping[key]
    if "hyperparameters" in study.block(name):
        raise Unavailable("the steps are Ultralytics'")
    run, free = study.train(name, Variant(rates=True)), study.train(name, Variant(free=True))
    fixed, quick = _last(run), _last(free)
    return {
        "batch": batch,
        "loader_images_per_second": batch / run.notes["loader_seconds"],
        "network_images_per_second": batch / run.notes["network_seconds"],
        "seconds_per_epoch": fixed,
        "seconds_per_epoch_with_every_kernel": quick,
        "price_of_determinism": fixed / quick if fixed and quick else None,
    }


def _last(run: Run) -> float | None:
    """Seconds of the last epoch's steps; None for Ultralytics' loop."""
    seconds = run.notes.get("epoch_seconds")
    return float(seconds[-1]) if seconds else None


PARTS: dict[str, Callable[[Sequence[Study], str], Checks]] = {
    "ops": operations,
    "memory": memory,
    "bits": bits,
    "waits": waits,
    "scaler": scaler,
    "evaluate": evaluate,
    "workers": workers,
    "rate": rate,
}
