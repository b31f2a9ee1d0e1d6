"""Layers of a network in exchange for ours, in place."""

from collections.abc import Callable

from torch import nn


def swap(network: nn.Module, ours: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """`network` with every layer inside it for which `ours` gives another replaced by that; its mode is kept."""
    for parent in network.modules():
        for name, child in parent.named_children():
            layer = ours(child)
            if layer is not None:
                setattr(parent, name, layer.train(child.training))
    return network
