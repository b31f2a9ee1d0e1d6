"""Optimizers and the learning rate of every step, as pure functions of the parameters and the step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from retrace.compat.fabric import loss_scaler
from retrace.config.steps import Constant, Cosine, Poly, Precision, Sgd
from retrace.config.steps import Optimizer as OptimizerParams


def build_optimizer(
    params: OptimizerParams,
    model: nn.Module,
    encoder: Iterable[nn.Parameter] = (),
    precision: Precision = "32-true",
    device: str = "cpu",
) -> torch.optim.Optimizer:
    """AdamW or SGD over the trainable parameters of `model`.

    `encoder` (parameters of `model`) get `params.encoder_lr` where that is set. Weight decay applies to weights of two
    or more dimensions only, not to biases and normalization scales, which it would pull towards a dead layer.
    Group names: "lr" and "lr_encoder"; the base rate of a group is kept in its `initial_lr`.

    device: the kind on which it will train. The fused kernels take one launch where the plain ones take hundreds. On a
    CPU `16-mixed` keeps the plain ones, whose last bits the results of earlier versions have.
    """
    inside = {id(parameter) for parameter in encoder} if params.encoder_lr is not None else set()
    groups: list[dict] = []
    for name, lr, chosen in (("lr", params.lr, False), ("lr_encoder", params.encoder_lr, True)):
        mine = [p for p in model.parameters() if p.requires_grad and (id(p) in inside) is chosen]
        for decays in (True, False):
            members = [p for p in mine if (p.ndim > 1) is decays]
            if members:
                decay = params.weight_decay if decays else 0.0
                groups.append({"params": members, "lr": lr, "initial_lr": lr, "weight_decay": decay, "name": name})
    fused = device != "cpu" or precision != "16-mixed"
    if isinstance(params, Sgd):
        return torch.optim.SGD(groups, momentum=params.momentum, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def clip(fabric: Fabric, model: nn.Module, optimizer: torch.optim.Optimizer, limit: float | None) -> Tensor:
    """Scale the gradients down to a norm of at most `limit`; returns the norm they had, a scalar.

    None measures only. A loss scaler unscales first; under it an overflow is its own business, not an error: it keeps
    the fused kernels from stepping on the device, and nothing waits for the answer.
    """
    scaler = loss_scaler(fabric)
    if scaler is not None:
        scaler.unscale_(getattr(optimizer, "optimizer", optimizer))  # of Fabric's wrapper, which `step` hands on too
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        total = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if limit is not None:
            clip_grads_with_norm_(parameters, limit, total)
        return total
    if limit is None:
        # clipping at infinity would write every gradient once more, times one
        return get_total_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    norm = fabric.clip_gradients(model, optimizer, max_norm=limit, error_if_nonfinite=False)
    assert norm is not None
    return norm


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then the named decay to `params.final_lr`, stepped once per optimizer step.

    With u optimizer steps in all, w of them warm-up, at step t from 0: warm-up base * (t + 1) / w for t < w; after it
    final + (base - final) * d(p) with p = (t - w) / (u - w) and d = 1 (constant), (1 + cos(pi p)) / 2 (cosine;
    Loshchilov & Hutter 2017, eq. 5) or (1 - p)^power (poly; Chen et al. 2017).
    """

    params: Constant | Cosine | Poly
    epochs: int
    batches: int  # per epoch
    accumulate: int = 1

    def rate(self, base: float, epoch: int, batch: int) -> float:
        """The learning rate of a group with base rate `base` at `batch` (from 0) of `epoch` (from 1)."""
        per_epoch = math.ceil(self.batches / self.accumulate)
        step, total = (epoch - 1) * per_epoch + batch // self.accumulate, self.epochs * per_epoch
        warmup = min(round(self.params.warmup_epochs * per_epoch), total)
        if step < warmup:
            return base * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        if isinstance(self.params, Constant):
            return base
        if isinstance(self.params, Cosine):
            decay = (1 + math.cos(math.pi * progress)) / 2
        else:
            decay = (1 - progress) ** self.params.power
        return self.params.final_lr + (base - self.params.final_lr) * decay

    def apply(self, optimizer: torch.optim.Optimizer, epoch: int, batch: int) -> dict[str, float]:
        """Set the rates of all groups for this batch; returns them by group name."""
        rates = {}
        for group in optimizer.param_groups:
            group["lr"] = self.rate(group["initial_lr"], epoch, batch)
            rates[group["name"]] = group["lr"]
        return rates
