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
    """A folder of images and a folder of masks (8-bit index, 16-bit id or RGB colour)."""

    kind: Literal["masks"]
    images: str  # folder below the root; may hold {split}
    masks: str
    image_pattern: str = "*"  # glob below `images`, searched recursively
    # of image sub/a.jpg: {stem} = a, {name} = a.jpg; looked up in masks/sub/
    mask_name: str = "{stem}.png"
    # class -> raw mask values, e.g. {Sky: [10000]} or {Road: ["#804080"]}
    values: dict[str, Items[RawValue]]
    ignore: Items[RawValue] = ()  # raw values that become 255, "not scored"
    split: SplitRule


class Bdd100kSource(Block):
    """The official BDD100K 10k semantic-segmentation layout (train-id masks, 255 ignored)."""

    kind: Literal["bdd100k"]
    images: str = "bdd100k/images/10k"
    masks: str = "bdd100k/labels/sem_seg/masks"


class YoloSource(Block):
    """A YOLO data set: data.yaml, image folders or list files, label files beside them."""

    kind: Literal["yolo"]
    data_yaml: str = "data.yaml"
    polygons: Literal["refuse", "to_boxes"] = "refuse"
    # an image without label file; an empty one is background
    missing_labels: Literal["refuse", "background"] = "refuse"
    # class -> names in data.yaml; null: the same names
    classes: dict[str, Items[str]] | None = None


class CocoSource(Block):
    """COCO JSON, plain or from Roboflow: an annotation file and an image folder per split."""

    kind: Literal["coco"]
    annotations: dict[Split, str]  # e.g. {train: train/_annotations.coco.json}
    images: dict[Split, str]  # e.g. {train: train}
    classes: dict[str, Items[str]] | None = None  # class -> category names; others are left out
    empty_images: Literal["keep", "drop"] = "keep"
    crowd: Literal["keep", "drop"] = "keep"  # kept crowd boxes are ignored in training and scoring


class VocSource(Block):
    """Pascal VOC: one XML per image, splits by list files (image stems)."""

    kind: Literal["voc"]
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    classes: dict[str, Items[str]] | None = None
    difficult: Literal["keep", "drop", "crowd"] = "keep"
    empty_images: Literal["keep", "drop"] = "keep"
    split: SplitRule


# what the kinds of sources hold labels for
TASKS = {
    "masks": "segmentation",
    "bdd100k": "segmentation",
    "yolo": "detection",
    "coco": "detection",
    "voc": "detection",
}
Source = Annotated[
    MasksSource | Bdd100kSource | YoloSource | CocoSource | VocSource,
    Field(discriminator="kind"),
    chosen_by("kind", (MasksSource, Bdd100kSource, YoloSource, CocoSource, VocSource)),
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
