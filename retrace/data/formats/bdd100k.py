"""Source `bdd100k`: the official 10k semantic-segmentation layout, masks of train ids 0-18 and 255.

    bdd100k/images/10k/{train,val,test}/*.jpg      bdd100k/labels/sem_seg/masks/{train,val}/*.png

The two official zips may lie in the root instead, as downloaded: each is unpacked once under .retrace/downloads.
The test masks were never published: test images without a mask folder join the unlabelled pool.
"""

from pathlib import Path

import numpy as np

from retrace.config.data import Bdd100kSource
from retrace.config.schema import Params
from retrace.data.formats import Codes, Item
from retrace.data.formats.archive import open_archive
from retrace.data.formats.listing import below, holds, images_in, shown, usable, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.rawmask import read_raw_mask
from retrace.data.hashing import BadImage
from retrace.data.manifest import IGNORE
from retrace.errors import UserError

TRAIN_IDS = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
# key of data.source -> the official archive, and what it may be called in the root (the portal's names have changed)
ZIPS = {
    "images": ("bdd100k_images_10k.zip", ("*images*10k*.zip", "*10k*images*.zip")),
    "masks": ("bdd100k_sem_seg_labels_trainval.zip", ("*sem_seg*.zip",)),
}
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
    images = _root_of(root, "images", source.images, problems)
    masks = _root_of(root, "masks", source.masks, problems)
    if images is None or masks is None:
        return []
    items = []
    for split in ("train", "val", "test"):
        items += _split(images, masks, source, split, codes, problems)
    return items


def _root_of(root: Path, key: str, folder: str, problems: Problems) -> Path | None:
    """Where data.source.<key> lies: below the root, or below what its zip was unpacked into; None after `stop`."""
    if below(root, folder, f"data.source.{key}").is_dir():
        return root
    official, patterns = ZIPS[key]
    zips = sorted({path for pattern in patterns for path in root.glob(pattern) if usable(path, root, problems)})
    if len(zips) == 1:
        return open_archive(zips[0], zips[0].name)
    found = f"{len(zips)} zips could hold it ({', '.join(path.name for path in zips)})" if zips else "no zip holds it"
    detail = (
        f"no such folder, and {found}: unpack {official} in data.root, or put that one zip there as downloaded; "
        f"data.root holds: {holds(root)}"
    )
    problems.stop("missing_folder", folder, detail)
    return None


def _split(
    root: Path, mask_root: Path, source: Bdd100kSource, split: str, codes: Codes, problems: Problems
) -> list[Item]:
    image_folder = below(root, source.images, "data.source.images") / split
    mask_folder = below(mask_root, source.masks, "data.source.masks") / split
    if split == "test" and not image_folder.is_dir():
        return []
    images = images_in(image_folder, root, problems)
    origin = shown(image_folder, root)
    if split == "test" and not mask_folder.is_dir():
        problems.note(
            "no_test_masks", origin, f"{len(images)} images without published masks, used as unlabelled images"
        )
        return [Item(path, shown(path, root), "unlabeled", origin=origin) for path in images]
    masks = {f"{path.stem}{path.suffix.lower()}": path for path in walk(mask_folder, mask_root, problems)}
    _check_kind(list(masks.values()), mask_root)
    items = []
    for path in images:
        mask = masks.pop(f"{path.stem}.png", None)
        if mask is None:
            problems.add("missing_mask", shown(path, root), f"no {path.stem}.png in {shown(mask_folder, mask_root)}")
        else:
            items.append(Item(path, shown(path, root), split, mask, codes, origin=origin))
    for mask in masks.values():
        problems.add("mask_without_image", shown(mask, mask_root), f"no {mask.stem}.jpg in {origin}")
    return items


def _check_kind(masks: list[Path], root: Path) -> None:
    """One clear line when the folder holds the other kinds of labels that BDD100K comes with."""
    if masks and not any(path.suffix.lower() == ".png" for path in masks):
        raise UserError(f"{shown(masks[0].parent, root)}: no .png among {holds(masks[0].parent)}; {WRONG_KIND}")
    chosen = masks[:: max(1, len(masks) // LOOKED_AT)][:LOOKED_AT]
    transparent = []
    for path in chosen:
        try:
            raw, colored = read_raw_mask(path)
        except BadImage as error:  # becomes a row of the problems table later, like any damaged file
            transparent += [path] if error.kind == "transparent" else []
            continue
        if colored:
            raise UserError(f"{shown(path, root)}: a colored mask (color_labels or colormaps); {WRONG_KIND}")
        wrong = np.setdiff1d(raw, [*range(len(TRAIN_IDS)), IGNORE])
        if wrong.size:
            raise UserError(f"{shown(path, root)}: value {wrong[0]}: a label-id mask, not train ids; {WRONG_KIND}")
    if transparent and len(transparent) == len(chosen):
        raise UserError(
            f"{shown(transparent[0], root)}: an RGBA mask (bitmasks of instance or panoptic segmentation); {WRONG_KIND}"
        )
