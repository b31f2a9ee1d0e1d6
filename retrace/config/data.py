"""Parameters of `collect` and `rebalance`: where the images come from and how they are split."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from retrace.config.base import Block, Count, Fraction, Index, Items

Split = Literal["train", "val", "test"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SplitByFolder(Block):
    """Each split is a folder; its name replaces `{split}` in `images` and `masks`."""

    by: Literal["folder"]
    folders: dict[Split, str]


class SplitByList(Block):
    """Each split is a text file with one image path (or the first column) per line, relative to the root."""

    by: Literal["list"]
    lists: dict[Split, str]


class SplitByRatio(Block):
    """Whole groups are dealt out so that val and test get about these shares of the images."""

    by: Literal["ratio"]
    val: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _room_for_train(self):
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g}, which leaves nothing for train; keep it below 1")
        return self


SplitRule = Annotated[SplitByFolder | SplitByList | SplitByRatio, Field(discriminator="by")]
RawValue = int | Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class MasksSource(Block):
    """A folder of images and a folder of masks (8-bit index, 16-bit id or RGB colour)."""

    kind: Literal["masks"]
    images: str  # folder below the root; may hold {split}
    masks: str
    image_pattern: str = "*"  # glob below `images`, searched recursively
    mask_name: str = "{stem}.png"  # of image sub/a.jpg: {stem} = a, {name} = a.jpg; looked up in masks/sub/
    values: dict[str, Items[RawValue]]  # class -> raw mask values, e.g. {Sky: [10000]} or {Road: ["#804080"]}
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
    missing_labels: Literal["refuse", "background"] = (
        "refuse"  # an image without label file; an empty one is background
    )
    classes: dict[str, Items[str]] | None = None  # class -> names in data.yaml; null: the same names


class CocoSource(Block):
    """COCO JSON, plain or exported by Roboflow: one annotation file and one image folder per split."""

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


Source = Annotated[
    MasksSource | Bdd100kSource | YoloSource | CocoSource | VocSource,
    Field(discriminator="kind"),
]


class Synthetic(Block):
    """The embedded generator: draws `scene` in the layout that `source` then reads, so demo and real share one path."""

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
    url: str | None = None  # https address of an archive; `root` then only names something for DVC to watch
    sha256: Sha256 | None = None  # of the archive; required with one
    synthetic: Synthetic | None = None
    source: Source
    unlabeled: Items[Unlabeled] = ()
    group: str | None = None  # regular expression on the path below the root; its first capture is the group
    on_error: Literal["fail", "skip"] = "fail"

    @field_validator("group")
    @classmethod
    def _compiles_with_a_capture(cls, value):
        if value is not None:
            try:
                if re.compile(value).groups < 1:
                    raise ValueError("needs one capturing group, for example '^([^_]+)_'")
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _archive_has_hash(self):
        if self.url is not None and not self.url.startswith("https://"):
            raise ValueError("url: must start with https://")
        if self.url is not None and self.sha256 is None:
            raise ValueError("sha256 is required with url: the sha256 of the archive, 64 hex digits")
        if self.synthetic is not None and (self.url is not None or self.sha256 is not None):
            raise ValueError("synthetic data has no url or sha256; set synthetic: null to read real data")
        return self


class Rebalance(Block):
    """Every class gets its minimum of validation (and test) instances by moving as few images as possible."""

    min_val_instances: Index = 0
    min_test_instances: Index = 0
    min_pixels: Count = 1  # segmentation: an image counts for a class that covers at least this many pixels
    classes: Items[str] | None = None  # only these must meet the minimum; null: every class
    keep_groups: bool = True  # images of one group stay in one split
    min_units: Count = 5  # independent images or sequences that val and test need; fewer have no interval
    duplicate_distance: Annotated[int, Field(ge=0, le=32)] = 3  # perceptual-hash bits; at most this = near-duplicate
