"""Parameters of `collect` and `rebalance`: where the images come from and how they are split."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from retrace.config.base import Block, Count, Fraction, Index, Items, Sha256, chosen_by, refused

Split = Literal["train", "val", "test"]


class SplitByFolder(Block):
    """Each split is a folder; its name replaces `{split}` in `images` and `masks`."""

    by: Literal["folder"]
    folders: dict[Split, str]


class SplitByList(Block):
    """Each split is a text file: one image path (or first column) a line, relative to the root."""

    by: Literal["list"]
    lists: dict[Split, str]


class SplitByRatio(Block):
    """Whole groups are dealt out so that val and test get about these shares of the images."""

    by: Literal["ratio"]
    val: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _room_for_train(self) -> "SplitByRatio":
        if self.val + self.test >= 1:
            why = f"val + test = {self.val + self.test:g} leaves nothing for train; keep it below 1"
            raise refused("", why)
        return self


SplitRule = Annotated[
    SplitByFolder | SplitByList | SplitByRatio,
    Field(discriminator="by"),
    chosen_by("by", (SplitByFolder, SplitByList, SplitByRatio)),
]
RawValue = int | Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class MasksSource(Block):
    """A folder of images and a folder of masks (8-bit index, 16-bit id or RGB color)."""

    kind: Literal["masks"]
    images: str  # folder below the root; may hold {split}
    masks: str
    image_pattern: str = "*"  # glob below `images`, searched recursively
    # regular expression that the whole stem of every image matches; its groups are placeholders of
    # mask_name: {1}, {2}, ..., or {name} of (?P<name>...)
    image_name: str | None = None
    # of image sub/a.jpg: {stem} = a, {name} = a.jpg; looked up in masks/sub/. {stem%END} and
    # {stem#START} cut off an ending or a start, {stem/OLD/NEW} replaces the first OLD
    mask_name: str = "{stem}.png"
    # class -> raw mask values, e.g. {Sky: [10000]} or {Road: ["#804080"]}; null: from class_file
    values: dict[str, Items[RawValue]] | None = None
    # _classes.csv, labels.txt, a data.yaml or JSON with the names by value; may hold {split}
    # (null: _classes.csv in the folder of the masks)
    class_file: str | None = None
    # class -> names in class_file; null: the same names
    classes: dict[str, Items[str]] | None = None
    ignore: Items[RawValue] = ()  # raw values that become 255, "not scored"
    split: SplitRule


class Bdd100kSource(Block):
    """The official BDD100K 10k semantic-segmentation layout (train-id masks, 255 ignored)."""

    kind: Literal["bdd100k"]
    images: str = "bdd100k/images/10k"
    masks: str = "bdd100k/labels/sem_seg/masks"


class Shapes(Block):
    """What all kinds of sources share that hold polygons, rectangles or masks of objects."""

    # class -> names in the annotations; null: the same names
    classes: dict[str, Items[str]] | None = None
    # segmentation: the class of pixels that no shape covers, or `ignore` (not scored)
    background: str | None = None
    # names whose pixels are not scored (segmentation), or whose objects are left out (detection)
    ignore: Items[str] = ()
    # segmentation: each shape lies over those before it, or over all that are larger
    overlap: Literal["order", "smaller_on_top"] = "order"


class Outlines(Shapes):
    """Shapes of label tools, which also draw points and lines, and leave images out."""

    without_area: Literal["refuse", "leave_out"] = "refuse"  # points and lines
    missing_labels: Literal["refuse", "background"] = "refuse"  # an image without annotation


class YoloSource(Shapes):
    """A YOLO data set: data.yaml, image folders or list files, label files beside them."""

    kind: Literal["yolo"]
    data_yaml: str = "data.yaml"
    polygons: Literal["refuse", "to_boxes"] = "refuse"  # detection
    # an image without label file; an empty one is background
    missing_labels: Literal["refuse", "background"] = "refuse"


class CocoSource(Shapes):
    """COCO JSON, plain or from Roboflow: an annotation file and an image folder per split."""

    kind: Literal["coco"]
    annotations: dict[Split, str]  # e.g. {train: train/_annotations.coco.json}
    images: dict[Split, str]  # e.g. {train: train}
    empty_images: Literal["keep", "drop"] = "keep"
    # detection: kept crowd boxes are ignored in training and scoring; segmentation: kept crowd
    # regions are pixels of their class, dropped ones are not scored
    crowd: Literal["keep", "drop"] = "keep"


class VocSource(Block):
    """Pascal VOC: one XML per image, splits by list files (image stems)."""

    kind: Literal["voc"]
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    classes: dict[str, Items[str]] | None = None
    # what a whole image's box is: 1: 1, 1, width, height; 0: 0, 0, width, height; null: 1, and a
    # fraction or a corner below 1 stops the stage
    origin: Literal[0, 1] | None = None
    difficult: Literal["keep", "drop", "crowd"] = "keep"
    empty_images: Literal["keep", "drop"] = "keep"
    split: SplitRule


class LabelmeSource(Outlines):
    """LabelMe: one JSON file per image."""

    kind: Literal["labelme"]
    annotations: str = "."  # folder of the JSON files; may hold {split}
    images: str = "."
    labels: str | None = None  # labels.txt: the names that the tool offered
    split: SplitRule


class CvatSource(Outlines):
    """CVAT 1.1 XML, of images or of videos whose frames are files (the last number is the frame)."""

    kind: Literal["cvat"]
    annotations: str = "annotations.xml"  # may hold {split}
    images: str = "images"
    split: SplitRule


class ViaSource(Outlines):
    """VGG Image Annotator 1 and 2: a JSON or CSV file for many images."""

    kind: Literal["via"]
    annotations: str  # may hold {split}
    images: str = "."
    attribute: str | None = None  # that holds the class; null: the only one there is
    split: SplitRule


class LabelStudioSource(Outlines):
    """Label Studio's JSON export of tasks."""

    kind: Literal["label_studio"]
    annotations: str  # may hold {split}
    images: str = "."
    split: SplitRule


class SuperviselySource(Outlines):
    """Supervisely: meta.json, and folders with `ann` and `img` in each."""

    kind: Literal["supervisely"]
    meta: str = "meta.json"
    annotations: str = "ds0/ann"  # may hold {split}
    images: str = "ds0/img"
    split: SplitRule


SOURCES = (
    *(MasksSource, Bdd100kSource, YoloSource, CocoSource, VocSource),
    *(LabelmeSource, CvatSource, ViaSource, LabelStudioSource, SuperviselySource),
)
BOTH = ("segmentation", "detection")
# what the kinds of sources hold labels for
TASKS: dict[str, tuple[str, ...]] = {
    "masks": ("segmentation",),
    "bdd100k": ("segmentation",),
    "yolo": BOTH,
    "coco": BOTH,
    "voc": ("detection",),
    "labelme": BOTH,
    "cvat": BOTH,
    "via": BOTH,
    "label_studio": BOTH,
    "supervisely": BOTH,
}
Source = Annotated[
    MasksSource
    | Bdd100kSource
    | YoloSource
    | CocoSource
    | VocSource
    | LabelmeSource
    | CvatSource
    | ViaSource
    | LabelStudioSource
    | SuperviselySource,
    Field(discriminator="kind"),
    chosen_by("kind", SOURCES),
]


class Synthetic(Block):
    """The embedded generator, which draws `scene` in the layout that `source` then reads."""

    scene: Literal["lanes", "offroad", "driving", "slopes", "plates"]
    seed: Index
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    train: Count
    val: Count
    test: Count
    unlabeled: Index = 0  # images; split over two folders and a short video


class Unlabeled(Block):
    """Images without labels: a folder, a glob or a video below the root (or an absolute path)."""

    path: str
    every: Count = 1  # keep every k-th file or frame
    optional: bool = False  # where it is not there, the study does without it


class Data(Block):
    """Where the images come from."""

    root: str  # folder or archive the data is read from; DVC watches it
    # https address of an archive; `root` then only names something for DVC to watch
    url: str | None = None
    sha256: Sha256 | None = None  # of the archive; required with one
    synthetic: Synthetic | None = None
    source: Source
    unlabeled: Items[Unlabeled] = ()
    # regular expression on the path below the root; its first capture is the group
    group: str | None = None
    on_error: Literal["fail", "skip"] = "fail"

    @field_validator("group")
    @classmethod
    def _compiles_with_a_capture(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            captures = re.compile(value).groups
        except re.error as error:
            raise refused("", f"not a regular expression ({error})", value) from None
        if captures < 1:
            raise refused("", "needs one capturing group, for example '^([^_]+)_'", value)
        return value

    @model_validator(mode="after")
    def _archive_has_hash(self) -> "Data":
        if self.url is not None and not self.url.startswith("https://"):
            raise refused("url", "must start with https://", self.url)
        if self.url is not None and self.sha256 is None:
            raise refused("sha256", "required with url: 64 hex digits of the archive")
        if self.synthetic is not None and (self.url is not None or self.sha256 is not None):
            why = "synthetic data has no url or sha256; set synthetic: null to read real data"
            raise refused("synthetic", why)
        return self


class Rebalance(Block):
    """Every class gets its minimum of val and test instances; as few images as possible move."""

    min_val_instances: Index = 0
    min_test_instances: Index = 0
    min_train_instances: Index = 0  # that train keeps of each of these classes
    # a minimum counts groups and source photographs instead of instances, copies made by
    # augmentation stay in train, and moves are chosen that cost train the least
    spare_train: bool = False
    # segmentation: an image counts for a class that covers at least this many pixels
    min_pixels: Count = 1
    classes: Items[str] | None = None  # only these must meet the minimum; null: every class
    keep_groups: bool = True  # images of one group stay in one split
    # independent images or sequences that val and test need; fewer than five have no interval
    min_units: Count = 5
    # perceptual-hash bits; images that differ in at most so many are near-duplicates
    duplicate_distance: Annotated[int, Field(ge=0, le=32)] = 3
