"""Private interfaces of timm."""

from typing import Any

from timm.layers.grn import GlobalResponseNorm as GlobalResponseNorm  # `timm.layers` does not export it
from torch import Tensor


def with_positions(encoder: Any, patches: Tensor) -> Tensor:
    """Patches of a vision transformer with its positions added and its prefix tokens in front: [N, prefix + L, D].

    `forward_features`, the public method, goes on to the blocks; a masked autoencoder drops patches before them.
    """
    return encoder._pos_embed(patches)
