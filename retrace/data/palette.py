"""Colors of classes in every picture: the study's own where given, else a fixed palette."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np

# Okabe & Ito (2008), told apart with any color vision, then Tol's "muted" (2021)
FIXED = (
    *("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499"),
)
UNSCORED = (60, 60, 60)
GOLDEN = 0.618033988749895  # successive hues that never bunch up


def palette(classes: Sequence[str], given: Mapping[str, str]) -> np.ndarray:
    """uint8 [C, 3] RGB, one row per class; `given` maps class names to `#rrggbb`."""
    return np.array([_rgb(given.get(name) or _color(index)) for index, name in enumerate(classes)], dtype=np.uint8)


def paint(mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Index mask uint8 [H, W] -> RGB uint8 [H, W, 3]; values beyond the classes (255 = not scored) are dark grey."""
    table = np.tile(np.array(UNSCORED, dtype=np.uint8), (256, 1))
    table[: len(colors)] = colors
    return table[mask]


def _color(index: int) -> str:
    if index < len(FIXED):
        return FIXED[index]
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.65, 0.95 if index % 2 else 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
