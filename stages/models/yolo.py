"""Ultralytics, tamed: imported offline, with its settings inside the project and its own loggers and telemetry off."""

import logging
import os
from typing import Any

from stages.files import SCRATCH

OFF = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def ultralytics() -> Any:
    """The `ultralytics` package, ready for use: nothing is downloaded or reported, settings stay in `.retrace/`.

    Its environment variables count only before its first import, so every part of the kit gets it from here.
    """
    folder = SCRATCH.absolute() / "ultralytics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    import ultralytics as package
    from ultralytics.utils import SETTINGS

    wanted = {key: False for key in OFF if key in SETTINGS}
    if any(SETTINGS[key] != value for key, value in wanted.items()):
        SETTINGS.update(wanted)
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    return package
