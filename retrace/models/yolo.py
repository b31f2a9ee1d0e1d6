"""Ultralytics, tamed: imported offline, with its settings inside the project and its own loggers and telemetry off."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from retrace.errors import UserError
from retrace.files import SCRATCH

OFF = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def ultralytics() -> Any:
    """The `ultralytics` package, ready for use: nothing is downloaded or reported, settings stay in `.retrace/`.

    Its environment variables count only before its first import, so every part of the kit gets it from here.
    Results depend neither on how many cores a machine has nor on how fast it is: the number of threads stays as it
    is at this call, and non-maximum suppression does not give up after some seconds.
    """
    rank = int(os.environ.get("RANK", "0"))  # of processes that train together, each has its own settings file
    folder = SCRATCH.absolute() / (f"ultralytics-{rank}" if rank else "ultralytics")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")  # checkpoints: known classes only, no other code
    import torch

    if find_spec("ultralytics") is None:
        raise UserError(
            "this phase has engine: ultralytics, and Ultralytics is not installed; in the project's folder: make venv; "
            "elsewhere: pip install 'retrace[yolo]'; or take a phase with engine: fabric"
        )
    with _alone():
        import ultralytics as package
        from ultralytics.utils import SETTINGS, nms, torch_utils

    wanted = {key: False for key in OFF if key in SETTINGS}
    if any(SETTINGS[key] != value for key, value in wanted.items()):
        SETTINGS.update(wanted)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    torch_utils.NUM_THREADS = torch.get_num_threads()  # select_device sets this many
    if not isinstance(nms.non_max_suppression, partial):
        nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=float("inf"))
    return package


@contextmanager
def _alone() -> Iterator[None]:
    """Hide from the import that other processes train, too: `training.yolo_share` joins them, not Ultralytics."""
    world = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if world is not None:
            os.environ["WORLD_SIZE"] = world
