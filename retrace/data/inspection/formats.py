"""Which format a folder has: every recognizer is asked, and the one that explains most images is taken."""

from collections.abc import Callable

from retrace.config.data import TASKS
from retrace.data.inspection import boxes, masks, tools
from retrace.data.inspection.folder import Candidate, Folder, Task
from retrace.errors import UserError

Recognizer = Callable[[Folder], list[Candidate]]
# kind of source -> recognizer; among formats that explain as many images the first is taken
RECOGNIZERS: dict[str, Recognizer] = {
    "supervisely": tools.supervisely,
    "cvat": tools.cvat,
    "via": tools.via,
    "label_studio": tools.label_studio,
    "labelme": tools.labelme,
    "coco": boxes.coco,
    "yolo": boxes.yolo,
    "voc": boxes.voc,
    "bdd100k": masks.bdd100k,
    "masks": masks.masks,
}


def candidates(folder: Folder) -> list[Candidate]:
    """The formats of a folder that this version reads, the one that explains most images first."""
    found = []
    for kind, recognizer in RECOGNIZERS.items():
        if kind in TASKS:
            found += [one for one in recognizer(folder) if one.task in TASKS[kind]]
    return sorted(found, key=lambda candidate: -candidate.images)


def chosen(folder: Folder, kind: str | None, task: Task | None) -> tuple[Candidate, list[Candidate]]:
    """The candidate to use and the others.

    kind: only this kind of source; task: only this task. Raises `UserError` where nothing is left.
    """
    found = candidates(folder)
    fits = [one for one in found if kind in (None, one.source["kind"]) and task in (None, one.task)]
    if fits:
        return fits[0], [one for one in found if one is not fits[0]]
    if found:
        there = ", ".join(f"{one.source['kind']} ({one.task})" for one in found)
        raise UserError(f"{folder.root}: not in the format that you named; recognized: {there}")
    images = sum(len(names) for names in folder.images.values())
    kinds = ", ".join(kind for kind in RECOGNIZERS if kind in TASKS)
    raise UserError(
        f"{folder.root}: no known format recognized among {len(folder.files)} files ({images} images); "
        f"formats: {kinds}. Name the folder with the images and their labels, "
        "or write the study file by hand: docs/your-own-data.md"
    )
