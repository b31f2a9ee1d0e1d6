"""Interfaces of Lightning Fabric that its documentation does not name."""

import torch
from lightning_fabric import Fabric
from torch import Tensor


def scales_loss(fabric: Fabric) -> bool:
    """Whether gradients are scaled (16-mixed on a GPU). Fabric has no public method that says so."""
    return loss_scaler(fabric) is not None


def loss_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The scaler of 16-mixed on a GPU. Fabric's own clipping refuses optimizers with fused kernels under it."""
    return getattr(fabric.strategy.precision, "scaler", None)


def loss_scale(scaler: torch.amp.GradScaler) -> Tensor:
    """A copy of the factor as it is now, a scalar on the device: the public `get_scale` waits for it."""
    scale = scaler._get_scale_async()
    assert scale is not None  # the backward pass has made it
    return scale.clone()
