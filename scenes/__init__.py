"""Embedded scene generators: they draw a data set in the layout that `data.source` reads; demo and real share a path.

A scene is a module with three functions (see `Scene`). Every image is drawn from (seed, name of the image) alone: it is
the same whatever the counts, the order or the number of workers.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from retrace.config.data import Synthetic
from retrace.files import whole_folder
from retrace.progress import track
from scenes import driving, lanes, offroad, plates, slopes

ALONE = 64  # below this many images a second process costs more than it saves


class Scene(Protocol):
    """What a scene module offers."""

    def tasks(self, scene: Synthetic) -> Sequence[Any]:
        """One small picklable value per image to draw, in a fixed order."""

    def write(self, scene: Synthetic, task: Any, folder: Path) -> Any:
        """Draw one image (and its labels) into `folder`; may run in another process. Returns what `finish` needs."""

    def finish(self, scene: Synthetic, folder: Path, rows: Sequence[Any]) -> None:
        """Write what ties the images together (lists, annotations, videos); `rows` are the results in task order."""


SCENES: dict[str, Scene] = {"driving": driving, "lanes": lanes, "offroad": offroad, "plates": plates, "slopes": slopes}


def generate(scene: Synthetic, target: Path, workers: int | None = None) -> None:
    """Draw the whole data set into the folder `target`, which is replaced.

    `workers` processes share the drawing (default: one per core, one for small sets); the files do not depend on it.
    Raises `UserError` when the folder cannot be written; nothing half-written is left.
    """
    module = SCENES[scene.scene]
    tasks = module.tasks(scene)
    if workers is None:
        workers = 1 if len(tasks) < ALONE else os.cpu_count() or 1
    with whole_folder(target) as folder:
        draw = partial(module.write, scene, folder=folder)
        if workers == 1:
            rows = [draw(task) for task in track(tasks, f"drawing {scene.scene}")]
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                results = pool.map(draw, tasks, chunksize=8)
                rows = list(track(results, f"drawing {scene.scene}", total=len(tasks)))
        module.finish(scene, folder, rows)
