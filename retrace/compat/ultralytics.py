"""Ultralytics: imported offline with its settings inside the project, and its private interfaces under names of ours.

Its environment variables count only before its first import, so every other module gets Ultralytics from here.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from retrace.errors import UserError
from retrace.files import SCRATCH

OFF = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def _set_environment() -> None:
    rank = int(os.environ.get("RANK", "0"))  # of processes that train together, each has its own settings file
    folder = SCRATCH.absolute() / (f"ultralytics-{rank}" if rank else "ultralytics")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")  # checkpoints: known classes only, no other code


@contextmanager
def _without_world_size() -> Iterator[None]:
    """Hide from the import that other processes train, too: `share.py` of the engine joins them, not Ultralytics."""
    world = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if world is not None:
            os.environ["WORLD_SIZE"] = world


_set_environment()
if find_spec("ultralytics") is None:
    raise UserError(
        "this phase has engine: ultralytics, and Ultralytics is not installed; in the project's folder: make venv; "
        "elsewhere: pip install 'retrace[yolo]'; or take a phase with engine: fabric"
    )
with _without_world_size():
    import ultralytics as package
    from ultralytics.cfg import get_cfg as get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
    from ultralytics.nn.tasks import DetectionModel as DetectionModel
    from ultralytics.nn.tasks import torch_safe_load as torch_safe_load
    from ultralytics.utils import SETTINGS, nms, torch_utils


def ultralytics() -> Any:
    """The `ultralytics` package, ready for use: nothing is downloaded or reported, settings stay in `.retrace/`.

    Results depend neither on how many cores a machine has nor on how fast it is: the number of threads stays as it is
    at this call, and non-maximum suppression does not give up after some seconds.
    """
    wanted = {key: False for key in OFF if key in SETTINGS}
    if any(SETTINGS[key] != value for key, value in wanted.items()):
        SETTINGS.update(wanted)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    # `select_device` sets this many threads; it takes no number of its own
    torch_utils.NUM_THREADS = torch.get_num_threads()
    # trainer, validator and predictor call it without a time limit of ours, and no setting changes its default
    if not isinstance(nms.non_max_suppression, partial):
        nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=float("inf"))
    return package


def suppress(predictions: torch.Tensor, confidence: float, iou: float, **options: Any) -> list[torch.Tensor]:
    """Non-maximum suppression: per image float [K, 6], (x1, y1, x2, y2, score, class). No limit of time."""
    return nms.non_max_suppression(predictions, confidence, iou, **options)


class OpenDataset(YOLODataset):
    """Ultralytics' data set; images can be held in memory without its reading them from files."""

    ims: Any

    def hold(self, images: list[np.ndarray]) -> None:
        """Keep decoded images, BGR uint8 [H, W, 3]. Ultralytics has no public way to hand over decoded images."""
        self.ims = self._ImageCache(images)


class OpenTrainer(DetectionTrainer):
    """Ultralytics' trainer, which never goes back to an earlier state by itself: no setting turns that off."""

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False  # a loss that is not finite has stopped the run before, naming the batch


class OpenValidator(DetectionValidator):
    """Ultralytics' validator; one image's part of a batch can be asked for."""

    def part_of(self, batch: dict[str, Any], index: int) -> dict[str, Any]:
        """What Ultralytics compares the detections of image `index` with. No public method gives it."""
        return self._prepare_batch(index, batch)


ultralytics()
