"""Parameters of studies that read shapes, and their results in memory, to test the readers of polygons and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.problems import Problems
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.shapes import draw
from stages import collect as stage
from tests.support.detection_sets import params as detection
from tests.support.detection_sets import read
from tests.support.projects import demo, write_params

RATIO = {"by": "ratio", "val": 0.2, "test": 0.2}
CLASSES = ("background", "a", "b")


def segmentation(source: Mapping[str, Any], classes: Sequence[str] = CLASSES, **data: Any) -> Params:
    """Valid parameters of a segmentation study that reads `source`; the background is a class."""
    phase = {
        "init": "none",
        "model": {"architecture": "unet", "encoder": "resnet18", "decoder_channels": [16, 16, 8, 8, 8]},
        "input_size": [64, 64],
        "epochs": 1,
        "batch_size": 1,
        "optimizer": {"lr": 0.1},
        "monitor": "mIoU",
    }
    return parse(
        {
            "study": "masks",
            "task": "segmentation",
            "phase": "one",
            "seed": 1,
            "classes": list(classes),
            "data": {"root": "source", "source": {"background": "background", **source}, **data},
            "phases": {"one": phase},
            "report": {"title": "Masks"},
        }
    )


def masks(root: Path, settings: Params, size: tuple[int, int]) -> tuple[dict[str, NDArray[np.uint8]], Problems]:
    """Class indices [H, W] of every image of (width, height) by its name, and what was found wrong."""
    items, problems = read(root, settings)
    return {name: mask_of(item, size) for name, item in items.items()}, problems


def mask_of(item: Item, size: tuple[int, int]) -> NDArray[np.uint8]:
    assert item.drawing is not None
    return draw(item.drawing, size)[0]


def collected(
    folder: Path, study: str, source: Mapping[str, Any], classes: Sequence[str], root: str = "input", **data: Any
) -> Manifest:
    """What `python -m stages.collect` wrote in the current folder, with a demo's parameters and this source."""
    values = {**demo(study), "classes": list(classes), "report": {"title": "a test"}, "ablation": None}
    values |= {"rebalance": {"min_units": 1}, "data": {"root": root, "source": dict(source), **data}, "expected": []}
    write_params(folder, values)
    stage.main()
    return read_manifest(folder / "data" / study / "raw")


__all__ = ["CLASSES", "RATIO", "collected", "detection", "mask_of", "masks", "read", "segmentation"]
