"""The training loop on Lightning Fabric, for every task: `fit` runs epochs, `train_one_epoch` runs the steps of one.

    result = fit(fabric, model, optimizer, schedule, loader, task, plan, scratch, monitor)

What is particular to a task (its loss, its validation) comes in as a `Task`. Interruption is survived by construction:
every random number of an epoch follows from (seed, epoch), so a rerun that starts from the last complete epoch does
exactly what an uninterrupted one would have done.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from retrace.compat.fabric import loss_scale, loss_scaler, scales_loss
from retrace.errors import UserError
from retrace.models.layers import BATCH_NORMS
from retrace.seeds import derive, seed_everything
from retrace.training.checkpoints import Scratch
from retrace.training.digests import State
from retrace.training.epoch_metrics import Ledger
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, clip
from retrace.training.processes import align_buffers, weight_of_share
from retrace.training.record import Recorder, Trace

Row = dict[str, float | int | None]
NOTHING_MORE = Trace()


@dataclass(frozen=True)
class Task:
    """What the loop has to know of a task. A batch is whatever the loader yields, on the device."""

    compute_loss: Callable[[nn.Module, Any], dict[str, Tensor]]  # scalars; "loss" is minimized, the rest is recorded
    files: Callable[[Any], list[str]]  # the images of a batch, named when its loss is not finite
    validate: Callable[[nn.Module], dict[str, float | None]] | None = None  # metrics; the model is in eval, no grad
    monitor: str | None = None  # the metric that chooses the best epoch; higher is better
    amount: Callable[[Any], Tensor] | None = None  # what a batch's loss is a mean over, a scalar, on the batch's device


@dataclass(frozen=True)
class Plan:
    """How long and how: the part of a phase's parameters that the loop needs."""

    seed: int
    epochs: int
    accumulate: int = 1  # batches per optimizer step
    clip_norm: float | None = None  # of the whole gradient; None: no clipping
    patience: int | None = None  # epochs without a new best before stopping; None: never
    save_period: int = 1  # epochs between checkpoints
    ema: float = 0.0  # decay of the weight average that is scored and kept; 0: off


@dataclass
class Result:
    """What a training came to. Without validation the last epoch is the result and `best_value` is None."""

    state: dict[str, Tensor] = field(default_factory=dict)  # CPU weights of the best epoch
    best_epoch: int = 0
    best_value: float | None = None
    history: list[Row] = field(default_factory=list)  # one row per epoch, see `train_one_epoch`
    stopped: str = "completed"  # or "early"
    first_loss: float | None = None  # of the first batch
    last_loss: float | None = None  # mean over the last epoch
    hashes: dict[str, Any] = field(default_factory=dict)  # content of hashes.json; of several processes the first's

    @property
    def epochs_run(self) -> int:
        return len(self.history)

    @property
    def since_best(self) -> int:
        """Epochs after the best one."""
        return self.epochs_run - self.best_epoch


def fit(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    loader: DataLoader,
    task: Task,
    plan: Plan,
    scratch: Scratch | None,
    monitor: Monitor,
    trace: Trace = NOTHING_MORE,
) -> Result:
    """Train for `plan.epochs` epochs or until `plan.patience` runs out, from the state in `scratch` if it has one.

    model, optimizer: as built, before `fabric.setup`. loader: its `batch_sampler` has `start_epoch(epoch)` (see
    `dataset.loading.EpochBatches`). The best epoch is the first with the highest monitored value.
    trace: digests of steps, and what this run is compared with.
    Raises `UserError` when a loss is not finite, the monitored metric does not exist or the comparison ends.

    Of several processes each trains on its share of every batch (`task.amount` weighs it); all return the same result,
    only the first reads and writes `scratch` and shows progress.
    """
    wrapped, stepper = fabric.setup(model, optimizer)
    batches = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(plan.ema)) if plan.ema else None
    run = _Run(fabric, model, optimizer, average)
    result = run.restore(saved_state(fabric, scratch))
    recorder = run.recorder(result, trace) if fabric.is_global_zero else None
    if recorder:
        recorder.begin()
    monitor.begin(plan.epochs, len(loader), result.history, task.monitor)
    for epoch in range(result.epochs_run + 1, plan.epochs + 1):
        if _out_of_patience(result, plan):
            break
        seed_everything(derive(plan.seed, "epoch", epoch, fabric.global_rank))
        loader.batch_sampler.start_epoch(epoch)  # type: ignore[union-attr]
        scaled = scales_loss(fabric)
        several = fabric if fabric.world_size > 1 else None
        ledger = Ledger(monitor, epoch, (epoch - 1) * len(loader), fabric.device, scaled, several)
        train_one_epoch(fabric, wrapped, stepper, schedule, batches, task, plan, ledger, average, recorder)
        scored = model if average is None else average.module
        align_buffers(fabric, model)
        align_buffers(fabric, scored)
        row: Row = {"epoch": epoch, **ledger.means(), **validate(fabric, scored, task)}
        if result.first_loss is None:
            result.first_loss = ledger.first_loss
        _book(result, row, scored, task)
        monitor.epoch(row, result.best_epoch, result.best_value)
        if recorder:
            recorder.epoch(row)
        if scratch and fabric.is_global_zero and _saves(epoch, plan, scratch):
            scratch.save(epoch, run.state(result))
    if _out_of_patience(result, plan) and result.epochs_run < plan.epochs:
        result.stopped = "early"
    result.last_loss = result.history[-1]["train_loss"]
    return result


def train_one_epoch(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    schedule: Schedule,
    loader: Any,
    task: Task,
    plan: Plan,
    ledger: Ledger,
    average: AveragedModel | None = None,
    recorder: Recorder | None = None,
) -> None:
    """One pass over `loader`: an optimizer step every `plan.accumulate` batches (the last group may be smaller).

    model, optimizer, loader: as returned by Fabric's setup. The numbers go into `ledger`, which reads them from the
    device only now and then: no step waits for the one before.
    """
    set_training(model)
    count = len(loader)
    optimizer.zero_grad(set_to_none=True)
    for index, batch in enumerate(loader):
        start = index - index % plan.accumulate
        group = min(plan.accumulate, count - start)
        last_of_group = index + 1 == start + group
        rates = schedule.apply(optimizer, ledger.epoch, index)
        waits = fabric.world_size > 1 and not last_of_group
        with fabric.no_backward_sync(model, enabled=waits):
            losses = task.compute_loss(model, batch)
            if fabric.world_size > 1 and task.amount is not None:
                weight = weight_of_share(fabric, task.amount(batch))
                losses = {name: value * weight for name, value in losses.items()}
            fabric.backward(losses["loss"] / group)
        norm = skipped = None
        if last_of_group:
            norm = clip(fabric, model, optimizer, plan.clip_norm)
            skipped = step(fabric, optimizer)
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update_parameters(getattr(model, "module", model))
        ledger.add(losses, norm, rates, task.files(batch), skipped)
        if recorder:
            recorder.batch(task.files(batch), batch)
    ledger.flush()
    ledger.require_a_step()


def step(fabric: Fabric, optimizer: Any) -> Tensor | None:
    """One step. Under a loss scaler: whether it was skipped because a gradient overflowed, a bool on the device."""
    scaler = loss_scaler(fabric)
    if scaler is None:
        optimizer.step()
        return None
    before = loss_scale(scaler)
    optimizer.step()
    return loss_scale(scaler) < before  # lowered after an overflow, and then only


def validate(fabric: Fabric, model: nn.Module, task: Task) -> dict[str, float | None]:
    """The task's validation metrics of `model` (not wrapped), in eval and without gradients; {} without validation."""
    if task.validate is None:
        return {}
    model.eval()
    with torch.no_grad(), fabric.autocast():
        metrics = task.validate(model)
    if task.monitor not in metrics or task.monitor == "val_loss":  # the best epoch is the highest value
        allowed = ", ".join(sorted(set(metrics) - {"val_loss"}))
        raise UserError(f"monitor = {task.monitor!r}: no such validation metric; allowed: {allowed}")
    return metrics if fabric.world_size == 1 else fabric.broadcast(metrics)  # all must stop at the same epoch


def set_training(model: nn.Module) -> None:
    """Training mode, except BatchNorm layers whose parameters are frozen: their statistics must not move either."""
    model.train()
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def saved_state(fabric: Fabric, scratch: Scratch | None) -> dict[str, Any] | None:
    """What an interrupted run left, as the first process finds it."""
    state = scratch.load() if scratch and fabric.is_global_zero else None
    return state if fabric.world_size == 1 else fabric.broadcast(state)


def _saves(epoch: int, plan: Plan, scratch: Scratch) -> bool:
    return scratch.keeps or epoch % plan.save_period == 0 or epoch == plan.epochs


def _out_of_patience(result: Result, plan: Plan) -> bool:
    return plan.patience is not None and bool(result.history) and result.since_best >= plan.patience


def _book(result: Result, row: Row, scored: nn.Module, task: Task) -> None:
    """Append an epoch's row and keep its weights if it is the best so far (the first of equals)."""
    result.history.append(row)
    value = row[task.monitor] if task.validate and task.monitor else None
    better = value is not None and (result.best_value is None or value > result.best_value)
    if task.validate is None or better or result.best_epoch == 0:
        result.best_epoch, result.best_value = int(row["epoch"] or 0), value
        result.state = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in scored.state_dict().items()
        }


@dataclass(frozen=True)
class _Run:
    """The objects whose state makes up a checkpoint."""

    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None

    def recorder(self, result: Result, trace: Trace) -> Recorder:
        precision = self.fabric.strategy.precision
        state = State(self.model, self.optimizer, self.average, self.fabric.device, precision.state_dict)
        return Recorder(result.hashes, state, trace)

    def state(self, result: Result) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "result": {name: getattr(result, name) for name in Result.__dataclass_fields__},
        }

    def restore(self, state: dict[str, Any] | None) -> Result:
        if state is None:
            return Result()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        return Result(**state["result"])
