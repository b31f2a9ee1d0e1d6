"""The numbers of one epoch, read from the device in blocks so that no training step waits for them."""

import math
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from retrace.errors import UserError
from retrace.training.monitor import Monitor
from retrace.training.processes import mean_of_all, of_all

BLOCK = 25  # steps between two looks at the device: a non-finite loss is found this late, but the first one is named


class Ledger:
    """Collects the losses, gradient norms and learning rates of an epoch's batches.

    Of several processes each adds the losses of its share, weighted so that their mean is that of the whole batch; the
    numbers kept are these means, equal on all of them, so that all stop at the same non-finite loss.
    """

    def __init__(
        self,
        monitor: Monitor,
        epoch: int,
        offset: int,
        device: torch.device,
        scaled: bool,
        fabric: Fabric | None = None,
    ):
        """epoch: from 1. offset: batches of all epochs before, so that TensorBoard counts on.

        scaled: a loss scaler skips steps whose gradient overflowed, so that a non-finite norm is no fault.
        fabric: that of several processes; None: there is only this one.
        """
        self._fabric = fabric
        self.epoch = epoch
        self.first_loss: float | None = None
        self._monitor, self._offset, self._scaled = monitor, offset, scaled
        self._block = 1 if device.type == "cpu" else BLOCK
        self._pending: list[tuple[dict[str, Tensor], Tensor | None, dict[str, float], list[str]]] = []
        self._skips: list[Tensor] = []
        self._steps = self._skipped = 0
        self._sums: dict[str, list[float]] = {}
        self._rates: dict[str, float] = {}
        self._batches = 0

    def add(
        self,
        losses: dict[str, Tensor],
        norm: Tensor | None,
        rates: dict[str, float],
        files: list[str],
        skipped: Tensor | None = None,
    ) -> None:
        """Note one batch. norm: of the gradient, with the batch that ends an optimizer step; skipped: by the scaler."""
        if skipped is not None:
            self._skips.append(skipped)
        self._pending.append(({name: loss.detach() for name, loss in losses.items()}, norm, rates, files))
        self._monitor.advance()
        if len(self._pending) >= self._block:
            self.flush()

    def flush(self) -> None:
        """Read the pending numbers; raise `UserError` naming the first batch whose loss is not finite."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        if self._skips:
            self._steps += len(self._skips)
            self._skipped += int(torch.stack(self._skips).sum())
            self._skips = []
        names = list(pending[0][0])
        own = torch.stack([torch.stack([losses[name].float() for name in names]) for losses, *_ in pending])
        shared = own if self._fabric is None else mean_of_all(self._fabric, own)
        table = shared.tolist()
        measured = [norm for _, norm, _, _ in pending if norm is not None]
        norms = iter(torch.stack(measured).tolist() if measured else [])
        for index, (values, (_, norm, rates, files)) in enumerate(zip(table, pending, strict=True)):
            step = self._offset + self._batches + 1
            row: dict[str, Any] = dict(zip(names, values, strict=True))
            if norm is not None:
                row["grad_norm"] = next(norms)
            self._check(row, rates, files, own[index])
            self._book(row, rates)
            self._monitor.step(step, row, rates)

    def means(self) -> dict[str, float | None]:
        """The epoch's train_loss, train_<part>, lr and lr_encoder (of the last step) and grad_norm.

        Under a loss scaler also skipped_steps: how many steps it left out because a gradient overflowed.
        """
        sums = {name: math.fsum(values) / len(values) for name, values in self._sums.items()}
        row: dict[str, float | None] = {"train_loss": sums.pop("loss")}
        norm = sums.pop("grad_norm", None)
        row |= {f"train_{name}": value for name, value in sums.items()}
        row |= self._rates
        row |= {"grad_norm": norm}
        return row | {"skipped_steps": self._skipped} if self._scaled else row

    def require_a_step(self) -> None:
        """Raise `UserError` where the loss scaler has skipped every step of the epoch: nothing was learned."""
        if self._steps and self._skipped == self._steps:
            raise UserError(
                f"epoch {self.epoch}: the loss scaler of precision 16-mixed skipped all {self._steps} steps, because "
                "every gradient overflowed float16; set precision to 32-true (or bf16-mixed on sm_80 and later), or "
                "lower the learning rate"
            )

    def _book(self, row: dict[str, float], rates: dict[str, float]) -> None:
        if self.first_loss is None:
            self.first_loss = row["loss"]
        for name, value in row.items():
            if math.isfinite(value):  # an overflowed fp16 gradient is skipped by the scaler and not part of the mean
                self._sums.setdefault(name, []).append(value)
        self._rates = rates
        self._batches += 1

    def _check(self, row: dict[str, float], rates: dict[str, float], files: list[str], own: Tensor) -> None:
        bad = [name for name in row if not math.isfinite(row[name]) and not (name == "grad_norm" and self._scaled)]
        if not bad:
            return
        what = "the gradient norm" if bad == ["grad_norm"] else "the loss"
        if self._fabric is not None:
            parts = of_all(self._fabric, (bool(own.isfinite().all()), files))
            files = [file for fine, part in parts if not fine or bad == ["grad_norm"] for file in part]
        lr = ", ".join(f"{name} {value:.8g}" for name, value in rates.items())
        shown = ", ".join(files[:16]) + (f" and {len(files) - 16} more" if len(files) > 16 else "")
        raise UserError(
            f"epoch {self.epoch}, step {self._batches + 1}: {what} is not finite ({row[bad[0]]}) at {lr}; "
            f"batch: {shown}; lower the learning rate, set optimizer.clip_norm, or look at these files"
        )
