"""The precision in which a network predicts: `machine.inference_precision`, which counts on a GPU only."""

from contextlib import AbstractContextManager, nullcontext

import torch

from retrace.config.machine import InferencePrecision, Machine


def inference_precision(machine: Machine, device: str) -> InferencePrecision | None:
    """What is asked for, where `device` is "cuda"; None elsewhere, so that a CPU's results stay the same."""
    return machine.inference_precision if device == "cuda" else None


def computing_in(precision: InferencePrecision | None, device: str) -> AbstractContextManager[None]:
    """Inside the block networks compute in this precision; None: as outside of it."""
    if precision is None:
        return nullcontext()
    # without the cache of converted weights, which may hold those of a training in bfloat16
    return torch.autocast(device, torch.float16, enabled=precision == "16-mixed", cache_enabled=False)


def precision_mark(precision: InferencePrecision | None) -> dict[str, str]:
    """For outs whose numbers were not computed in float32, else nothing: those of a CPU keep their bytes."""
    return {"inference_precision": precision} if precision == "16-mixed" else {}
