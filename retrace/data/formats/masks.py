"""Source `masks`: a folder of images and a folder of masks, paired by file name."""

from pathlib import Path, PurePosixPath

from retrace.config.data import MasksSource, RawValue, SplitByFolder, SplitByList
from retrace.config.schema import Params
from retrace.data.formats import LARGEST, Codes, Item
from retrace.data.formats.boxes import class_table
from retrace.data.formats.class_files import DEFAULT, IGNORED, read_class_file
from retrace.data.formats.listing import AnyCase, below, images_in, read_lists, shown, walk
from retrace.data.formats.pairing import NoMask, Rule, rule_of
from retrace.data.formats.problems import Problems
from retrace.data.manifest import IGNORE
from retrace.errors import UserError


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that has its mask; unpaired images and masks are problems."""
    source = params.data.source
    assert isinstance(source, MasksSource)
    rule = rule_of(source.mask_name, source.image_name)
    if not isinstance(source.split, SplitByFolder):
        _no_placeholder(source)
        codes = codes_of(source, params.classes, _class_file(root, source, ""))
        return _pairs(root, source, rule, (source.images, source.masks, None), codes, problems)
    if "{split}" not in source.images or "{split}" not in source.masks:
        raise UserError(
            "params.yaml: data.source: split by folder needs {split} in images and in masks, e.g. images: '{split}/rgb'"
        )
    items = []
    for split, folder in sorted(source.split.folders.items()):
        images, masks = source.images.replace("{split}", folder), source.masks.replace("{split}", folder)
        codes = codes_of(source, params.classes, _class_file(root, source, folder))
        items += _pairs(root, source, rule, (images, masks, split), codes, problems)
    return items


def _class_file(root: Path, source: MasksSource, folder: str) -> dict[int, str] | None:
    """Names by raw value where `values` are not given: of `class_file`, or of _classes.csv among the masks."""
    if source.values is not None:
        if source.class_file is not None or source.classes is not None:
            raise UserError(
                "params.yaml: data.source: values and class_file (with classes) say the same thing; set one to null"
            )
        return None
    given = (source.class_file or f"{source.masks}/{DEFAULT}").replace("{split}", folder)
    path = below(root, given, "data.source.class_file")
    return read_class_file(path, shown(path, root))


def _meanings(
    source: MasksSource, classes: tuple[str, ...], names: dict[int, str] | None
) -> list[tuple[RawValue, str, int]]:
    """(raw value, class or `ignore`, class index) of all values."""
    ignored: list[tuple[RawValue, str, int]] = [(raw, "ignore", IGNORE) for raw in source.ignore]
    if names is None:
        assert source.values is not None
        missing = [name for name in classes if name not in source.values]
        if missing:
            raise UserError(
                f"params.yaml: data.source.values: {missing[0]!r} has no raw value; give it one, or [] if it never "
                "occurs"
            )
        return [(raw, name, classes.index(name)) for name in classes for raw in source.values[name]] + ignored
    table = class_table(source.classes, classes, names.values(), "the class file of the masks")
    meanings: list[tuple[RawValue, str, int]] = []
    for raw, name in sorted(names.items()):
        if name in table:
            meanings.append((raw, classes[table[name]], table[name]))
        elif name == IGNORED:
            meanings.append((raw, "ignore", IGNORE))
        elif raw not in source.ignore:
            listed = ", ".join(f"{value} {other}" for value, other in sorted(names.items()))
            raise UserError(
                f"params.yaml: classes: the class file of the masks has {name!r} (value {raw}), which is no class: add "
                f"it to classes or to data.source.classes, or {raw} to data.source.ignore; it has: {listed}"
            )
    return meanings + ignored


def codes_of(source: MasksSource, classes: tuple[str, ...], names: dict[int, str] | None = None) -> Codes:
    """The raw values of `values` and `ignore` as one table; a value that means two things is a `UserError`.

    `names`: class by raw value, of a class file, where the source has no `values`.
    """
    meanings = _meanings(source, classes, names)
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
    root: Path, source: MasksSource, rule: Rule, folders: tuple[str, str, str | None], codes: Codes, problems: Problems
) -> list[Item]:
    """The pairs of one image folder and its mask folder; `folders`: both, and the split."""
    images, masks, split = folders
    image_folder, mask_folder = below(root, images, "data.source.images"), below(root, masks, "data.source.masks")
    found = {shown(path, root): path for path in images_in(image_folder, root, problems, source.image_pattern)}
    there = set(walk(mask_folder, root, problems))
    any_case = AnyCase(there)
    mask_of = {}
    for name, path in _masks_of(found, image_folder, mask_folder, rule, problems).items():
        mask_of[name] = any_case.find(path)
    splits: dict[str, str | None] = dict.fromkeys(found, split)
    if isinstance(source.split, SplitByList):
        splits = {**read_lists(root, source.split.lists, found, shown(image_folder, root), problems)}
        for name in found.keys() - splits.keys():
            problems.note("not_listed", name, "in no list file, so not part of the data set")
    _orphans(there - set(mask_of.values()) - set(found.values()), root, rule, problems)
    owners: dict[Path, list[str]] = {}
    for name in sorted(mask_of):
        owners.setdefault(mask_of[name], []).append(name)
    items = []
    for name in sorted(splits.keys() & mask_of.keys()):
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


def _masks_of(
    found: dict[str, Path], image_folder: Path, mask_folder: Path, rule: Rule, problems: Problems
) -> dict[str, Path]:
    """Path of the mask of each image; an image from whose name none follows is a problem."""
    masks = {}
    for name, path in found.items():
        try:
            masks[name] = mask_folder / rule.mask_of(PurePosixPath(path.relative_to(image_folder).as_posix()))
        except NoMask as why:
            problems.add("missing_mask", name, f"{why}; narrow data.source.image_pattern or correct the rule")
    return masks


def _orphans(masks: set[Path], root: Path, rule: Rule, problems: Problems) -> None:
    """Masks without an image; files whose name does not follow the pairing rule are other things (colored copies)."""
    named = rule.names_masks()
    for mask in sorted(masks):
        if named.fullmatch(mask.name):
            problems.add(
                "mask_without_image", shown(mask, root), "no image belongs to it; add the image or remove the mask"
            )
