"""Every data source behind one function: `read(root, params, problems) -> list[Item]`.

A source only lists what is there and reads annotations; opening, checking, hashing and converting the images is
`stages.collect`'s work and the same for all of them. Adding one is a module with `read`, and a line in `READERS`.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath

from retrace.config.schema import Params
from retrace.data.formats.problems import Problems
from retrace.data.shapes import Drawing
from retrace.documents.manifest import Box

# kind -> the module whose `read` reads it; imported when used, so that `collect` starts fast
READERS = {
    "masks": "retrace.data.formats.masks",
    "bdd100k": "retrace.data.formats.bdd100k",
    "yolo": "retrace.data.formats.yolo",
    "coco": "retrace.data.formats.coco",
    "voc": "retrace.data.formats.voc",
    "labelme": "retrace.data.formats.labelme",
    "cvat": "retrace.data.formats.cvat",
    "via": "retrace.data.formats.via",
    "label_studio": "retrace.data.formats.label_studio",
    "supervisely": "retrace.data.formats.supervisely",
}

LARGEST = 2**24 - 1  # raw mask value: the color #ffffff


@dataclass(frozen=True)
class Codes:
    """How raw mask values become class indices."""

    classes: tuple[tuple[int, int], ...]  # (raw value, colors as 0xRRGGBB; class index, 255 = not scored)
    colors: bool = False  # whether the raw values are RGB colors
    hint: str = ""  # said when a value is not in `classes`


@dataclass(frozen=True)
class Item:
    """One image that a source found; nothing has been read from it yet.

    A detection reader gives `boxes` in pixels of the stored image (`dataset.hashing.image_size` where the labels are
    relative), clipped to it, and `size` where the annotations state one: `collect` checks it against the file.
    """

    path: Path  # the file to read
    name: str  # its path below the root, with /; the id is made from it
    split: str | None  # as given: train | val | test | unlabeled; None: `collect` deals it out (`split: {by: ratio}`)
    mask: Path | None = None
    codes: Codes | None = None  # with a mask
    drawing: Drawing | None = None  # segmentation: the shapes that the mask is drawn from, instead of a mask
    boxes: tuple[Box, ...] = ()
    labelled: bool = True  # False: a detection image that nobody annotated, taken as background
    size: tuple[int, int] | None = None  # (width, height) that the annotations state
    origin: str = ""  # which folder, archive part or video, for the counts by source; default: the folder in `name`
    group: str | None = None  # set by a source that knows better than `data.group`, e.g. the frames of one video

    @property
    def source(self) -> str:
        """The name under which this image is counted."""
        return self.origin or str(PurePosixPath(self.name).parent)


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """The labelled images below `root`, by the source that `data.source.kind` names, sorted by name.

    A damaged or unpaired file becomes a row of `problems` and no item (`problems.add`), a missing folder a row that
    stops the stage (`problems.stop`), a wrong setting a `UserError`.
    """
    module = import_module(READERS[params.data.source.kind])
    return sorted(module.read(root, params, problems), key=lambda item: item.name)
