"""Source `masks`: a folder of images and a folder of masks, paired by file name."""

import re
from pathlib import Path

from retrace.config.data import MasksSource, SplitByFolder, SplitByList
from retrace.config.schema import Params
from retrace.data.formats import LARGEST, Codes, Item
from retrace.data.formats.listing import AnyCase, below, images_in, read_lists, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.manifest import IGNORE
from retrace.errors import UserError


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that has its mask; unpaired images and masks are problems."""
    source = params.data.source
    assert isinstance(source, MasksSource)
    codes = codes_of(source, params.classes)
    if not isinstance(source.split, SplitByFolder):
        _no_placeholder(source)
        return _pairs(root, source, source.images, source.masks, None, codes, problems)
    if "{split}" not in source.images or "{split}" not in source.masks:
        raise UserError(
            "params.yaml: data.source: split by folder needs {split} in images and in masks, e.g. images: '{split}/rgb'"
        )
    items = []
    for split, folder in sorted(source.split.folders.items()):
        images, masks = source.images.replace("{split}", folder), source.masks.replace("{split}", folder)
        items += _pairs(root, source, images, masks, split, codes, problems)
    return items


def codes_of(source: MasksSource, classes: tuple[str, ...]) -> Codes:
    """The raw values of `values` and `ignore` as one table; a value that means two things is a `UserError`."""
    missing = [name for name in classes if name not in source.values]
    if missing:
        raise UserError(
            f"params.yaml: data.source.values: {missing[0]!r} has no raw value; give it one, or [] if it never occurs"
        )
    meanings = [(raw, name, classes.index(name)) for name in classes for raw in source.values[name]]
    meanings += [(raw, "ignore", IGNORE) for raw in source.ignore]
    colors = {isinstance(raw, str) for raw, _, _ in meanings}
    if len(colors) > 1:
        raise UserError(
            "params.yaml: data.source: values and ignore mix numbers and '#rrggbb' colors; a mask holds only one kind"
        )
    table: dict[int, tuple[str, int]] = {}
    for raw, name, index in meanings:
        number = int(raw[1:], 16) if isinstance(raw, str) else raw
        if not 0 <= number <= LARGEST:
            raise UserError(f"params.yaml: data.source: raw value {raw} is out of range; allowed: 0 to {LARGEST}")
        other = table.setdefault(number, (name, index))[0]
        if other != name:
            raise UserError(
                f"params.yaml: data.source: raw value {raw!r} stands for both {other!r} and {name!r}; keep one"
            )
    return Codes(tuple((raw, index) for raw, (_, index) in sorted(table.items())), colors == {True})


def _no_placeholder(source: MasksSource) -> None:
    if "{split}" in source.images + source.masks:
        raise UserError(
            f"params.yaml: data.source: {{split}} is only for split: {{by: folder}}, not {{by: {source.split.by}}}"
        )


def _pairs(
    root: Path, source: MasksSource, images: str, masks: str, split: str | None, codes: Codes, problems: Problems
) -> list[Item]:
    """The pairs of one image folder and its mask folder."""
    image_folder, mask_folder = below(root, images, "data.source.images"), below(root, masks, "data.source.masks")
    found = {shown(path, root): path for path in images_in(image_folder, root, problems, source.image_pattern)}
    there = set(walk(mask_folder, root, problems))
    any_case = AnyCase(there)
    mask_of = {
        name: any_case.find(mask_folder / _mask_name(path.relative_to(image_folder), source.mask_name))
        for name, path in found.items()
    }
    splits: dict[str, str | None] = dict.fromkeys(found, split)
    if isinstance(source.split, SplitByList):
        splits = {**read_lists(root, source.split.lists, found, shown(image_folder, root), problems)}
        for name in found.keys() - splits.keys():
            problems.note("not_listed", name, "in no list file, so not part of the data set")
    _orphans(there - set(mask_of.values()) - set(found.values()), root, source.mask_name, problems)
    owners: dict[Path, list[str]] = {}
    for name in sorted(mask_of):
        owners.setdefault(mask_of[name], []).append(name)
    items = []
    for name in sorted(splits):
        mask = mask_of[name]
        others = [other for other in owners[mask] if other != name]
        if mask not in there:
            problems.add("missing_mask", name, f"no mask {shown(mask, root)}; add it, or check data.source.mask_name")
        elif others:
            problems.add(
                "same_name", name, f"shares the mask {shown(mask, root)} with {', '.join(others[:3])}; rename one"
            )
        else:
            items.append(Item(found[name], name, splits[name], mask, codes, origin=images))
    return items


def _mask_name(image: Path, rule: str) -> Path:
    """Path of the mask below the mask folder, of an image path below the image folder."""
    return image.parent / rule.replace("{stem}", image.stem).replace("{name}", image.name)


def _orphans(masks: set[Path], root: Path, rule: str, problems: Problems) -> None:
    """Masks without an image; files whose name does not follow the pairing rule are other things (colored copies)."""
    parts = (
        ".+" if part in ("{stem}", "{name}") else re.escape(part) for part in re.split(r"(\{stem\}|\{name\})", rule)
    )
    named = re.compile("".join(parts))
    for mask in sorted(masks):
        if named.fullmatch(mask.name):
            problems.add(
                "mask_without_image", shown(mask, root), "no image belongs to it; add the image or remove the mask"
            )
