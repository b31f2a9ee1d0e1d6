"""Retrace: a reproducibility kit for computer-vision training studies (six DVC stages and the `retrace` command)."""

__version__ = "0.1.0"
