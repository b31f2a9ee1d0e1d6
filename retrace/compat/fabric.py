"""Interfaces of Lightning Fabric that its documentation does not name."""

from lightning_fabric import Fabric


def scales_loss(fabric: Fabric) -> bool:
    """Whether gradients are scaled (16-mixed on a GPU). Fabric has no public method that says so."""
    return getattr(fabric.strategy.precision, "scaler", None) is not None
