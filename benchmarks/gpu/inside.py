"""A stage with instruments: `python -m benchmarks.gpu.inside '<variant as JSON>' <stage> [<phase>]`.

Writes notes.json into the working folder: seconds of every epoch's steps, peak memory, places that wait for the
device, rates.
"""

import dataclasses
import importlib
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

NOTES = "notes.json"
KILLED = 9  # exit code of a training that is ended after its first checkpoint
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is different from a plain run of the stage."""

    free: bool = False  # every kernel is allowed; cuDNN chooses
    limit_gib: float | None = None  # device memory that may be used
    waits: bool = False  # note which lines wait for the device
    spoil_step: int | None = None  # NaN in a gradient of this step of the first epoch
    kill: bool = False  # end the process after the first checkpoint
    rates: bool = False  # before the first epoch, time the loader and the network alone

    @classmethod
    def parse(cls, text: str) -> "Variant":
        return cls(**json.loads(text))

    def text(self) -> str:
        """JSON; the same text for equal variants."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class Notes:
    """What is measured; written after every epoch, so that a failure leaves what was seen."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"epoch_seconds": [], "waits": []}

    def write(self) -> None:
        import torch

        if torch.cuda.is_available():
            self.values["peak_allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
            self.values["peak_reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
        Path(NOTES).write_text(json.dumps(self.values), encoding="utf-8")


def main(variant: Variant, module: str, *arguments: str) -> None:
    """Run a stage."""
    import torch

    if variant.limit_gib is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, variant.limit_gib * GIB / total))
    if variant.free:
        _allow_every_kernel()
    notes = Notes()
    if module in ("stages.pretrain", "stages.finetune"):
        from retrace.training import loop
        from retrace.training.checkpoints import Scratch

        if variant.kill:
            Scratch.save = _save_and_end(Scratch.save)  # type: ignore[method-assign]
        loop.train_one_epoch = _instrumented(loop.train_one_epoch, variant, notes)
    try:
        importlib.import_module(module).main(*arguments)
    finally:
        notes.write()


def _allow_every_kernel() -> None:
    import torch

    from retrace import seeds

    torch.use_deterministic_algorithms = lambda *_, **__: None  # type: ignore[assignment]
    seeds.make_deterministic = lambda runtime: torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.benchmark = True


def _save_and_end(save: Any) -> Any:
    def saved(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        os._exit(KILLED)

    return saved


def _instrumented(train_one_epoch: Any, variant: Variant, notes: Notes) -> Any:
    """`loop.train_one_epoch` with what the variant asks for."""

    def epoch(fabric: Any, model: Any, optimizer: Any, schedule: Any, loader: Any, *rest: Any) -> None:
        first = not notes.values["epoch_seconds"]
        given = (fabric, model, optimizer, schedule)
        if variant.rates and first:
            notes.values |= _rates(train_one_epoch, given, loader, rest)
        if variant.spoil_step is not None and first:
            _spoil(model, variant.spoil_step)
        seen: list[str] = []
        began = time.perf_counter()
        with _watched(seen, on=variant.waits and not first):  # the first epoch chooses kernels and fills caches
            train_one_epoch(*given, loader, *rest)
        _finish()
        notes.values["epoch_seconds"].append(time.perf_counter() - began)
        notes.values["waits"] = sorted({*notes.values["waits"], *seen})
        notes.write()

    return epoch


def _rates(train_one_epoch: Any, given: tuple[Any, ...], loader: Any, rest: tuple[Any, ...]) -> dict[str, float]:
    """Seconds per batch of the loader alone, and of the network alone on one batch that stays on the device."""
    began = time.perf_counter()
    batches = 0
    kept = None
    for batch in loader:
        kept = batch if kept is None else kept
        batches += 1
    _finish()
    loading = (time.perf_counter() - began) / batches
    repeated = [kept] * batches
    train_one_epoch(*given, repeated, *rest)  # warm up
    _finish()
    began = time.perf_counter()
    train_one_epoch(*given, repeated, *rest)
    _finish()
    return {"loader_seconds": loading, "network_seconds": (time.perf_counter() - began) / batches}


def _spoil(model: Any, step: int) -> None:
    """Make the gradient of one parameter NaN in the backward pass number `step`, counted from 0."""
    parameter = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    calls = [0]

    def hook(grad: Any) -> Any:
        calls[0] += 1
        return grad * float("nan") if calls[0] == step + 1 else grad

    parameter.register_hook(hook)


class _watched:
    """Collect the lines of the kit that wait for the device, from PyTorch's warnings."""

    def __init__(self, seen: list[str], on: bool):
        self.seen, self.on = seen, on

    def __enter__(self) -> None:
        import torch

        if self.on and torch.cuda.is_available():
            self.catcher = warnings.catch_warnings()
            self.catcher.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = self._show
            torch.cuda.set_sync_debug_mode("warn")

    def __exit__(self, *error: Any) -> None:
        import torch

        if self.on and torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
            self.catcher.__exit__(None, None, None)

    def _show(self, message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing" not in str(message):
            return
        ours = [frame for frame in traceback.extract_stack() if "/retrace/" in frame.filename]
        place = ours[-1] if ours else traceback.extract_stack()[-2]
        name = place.filename.rpartition("/retrace/")[2]
        self.seen.append(f"{name}:{place.lineno}: {place.line}")


def _finish() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(Variant.parse(sys.argv[1]), *sys.argv[2:])
