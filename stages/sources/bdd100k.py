"""Source `bdd100k`: the official 10k semantic-segmentation layout, masks of train ids 0-18 and 255.

    bdd100k/images/10k/{train,val,test}/*.jpg      bdd100k/labels/sem_seg/masks/{train,val}/*.png

The test masks were never published: test images without a mask folder join the unlabelled pool.
"""

from pathlib import Path

import numpy as np

from stages.dataset.hashing import BadImage
from stages.dataset.manifest import IGNORE
from stages.errors import UserError
from stages.params import Params
from stages.params.data import Bdd100kSource
from stages.sources import Codes, Item
from stages.sources.listing import below, holds, images_in, shown, walk
from stages.sources.problems import Problems
from stages.sources.rawmask import read_raw_mask

TRAIN_IDS = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
LOOKED_AT = 8  # masks per split opened at once, so that the wrong kind of labels gets one line and not 7,000
WRONG_KIND = "data.source.masks must be the folder of train-id masks, labels/sem_seg/masks (values 0-18 and 255)"


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image with its mask; colored or label-id masks are refused with a `UserError`."""
    source = params.data.source
    assert isinstance(source, Bdd100kSource)
    unknown = [name for name in params.classes if name not in TRAIN_IDS]
    missing = [name for name in TRAIN_IDS if name not in params.classes]
    if unknown or missing:
        wrong = f"{unknown[0]!r} is not one of them" if unknown else f"{missing[0]!r} is missing"
        raise UserError(f"params.yaml: classes: BDD100K has the 19 classes {', '.join(TRAIN_IDS)}; {wrong}")
    if "color" in source.masks.lower():
        raise UserError(
            f"params.yaml: data.source.masks = {source.masks!r} holds colored pictures for people; {WRONG_KIND}"
        )
    classes = tuple((number, params.class_index(name)) for number, name in enumerate(TRAIN_IDS))
    codes = Codes((*classes, (IGNORE, IGNORE)), hint="train ids are 0-18 and 255")
    items = []
    for split in ("train", "val", "test"):
        items += _split(root, source, split, codes, problems)
    return items


def _split(root: Path, source: Bdd100kSource, split: str, codes: Codes, problems: Problems) -> list[Item]:
    image_folder = below(root, source.images, "data.source.images") / split
    mask_folder = below(root, source.masks, "data.source.masks") / split
    if split == "test" and not image_folder.is_dir():
        return []
    images = images_in(image_folder, root, problems)
    origin = shown(image_folder, root)
    if split == "test" and not mask_folder.is_dir():
        problems.note(
            "no_test_masks", origin, f"{len(images)} images without published masks, used as unlabelled images"
        )
        return [Item(path, shown(path, root), "unlabeled", origin=origin) for path in images]
    if not mask_folder.is_dir() and (root / "bdd100k_sem_seg_labels_trainval.zip").exists():
        problems.stop(
            "missing_folder", shown(mask_folder, root), "unpack bdd100k_sem_seg_labels_trainval.zip in data.root first"
        )
        return []
    masks = {path.name: path for path in walk(mask_folder, root, problems)}
    _check_kind(list(masks.values()), root)
    items = []
    for path in images:
        mask = masks.pop(f"{path.stem}.png", None)
        if mask is None:
            problems.add("missing_mask", shown(path, root), f"no {path.stem}.png in {shown(mask_folder, root)}")
        else:
            items.append(Item(path, shown(path, root), split, mask, codes, origin=origin))
    for mask in masks.values():
        problems.add("mask_without_image", shown(mask, root), f"no {mask.stem}.jpg in {origin}")
    return items


def _check_kind(masks: list[Path], root: Path) -> None:
    """One clear line when the folder holds the other kinds of labels that BDD100K comes with."""
    if masks and not any(path.suffix == ".png" for path in masks):
        raise UserError(f"{shown(masks[0].parent, root)}: no .png among {holds(masks[0].parent)}; {WRONG_KIND}")
    step = max(1, len(masks) // LOOKED_AT)
    for path in masks[::step][:LOOKED_AT]:
        try:
            raw, colored = read_raw_mask(path)
        except BadImage:
            continue  # becomes a row of the problems table later, like any damaged file
        if colored:
            raise UserError(f"{shown(path, root)}: a colored mask (color_labels or colormaps); {WRONG_KIND}")
        wrong = np.setdiff1d(raw, [*range(len(TRAIN_IDS)), IGNORE])
        if wrong.size:
            raise UserError(f"{shown(path, root)}: value {wrong[0]}: a label-id mask, not train ids; {WRONG_KIND}")
