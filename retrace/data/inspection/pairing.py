"""How the name of a mask follows from the name of its image."""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from retrace.config.data import MasksSource
from retrace.data.inspection.folder import Folder
from retrace.data.names import SPLIT_WORDS

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
TRIED = 12  # images whose masks are looked for by comparing every name
# in names of masks that hold numbers of objects, or colors for people
RATHER_NOT = ("instance", "object", "panoptic", "color", "colour", "visual", "overlay", "polygon")
MATCHED = 0.5  # of the images of a folder at least have a mask, or of the masks an image


@dataclass(frozen=True)
class Pairing:
    """A folder of images and one of masks, and the rule `mask_name` between them."""

    images: str
    masks: str
    rule: str
    pairs: tuple[tuple[str, str], ...]  # image and mask, as paths below the root
    suffix: str  # of the images, where they lie among the masks; otherwise empty


def pairings(folder: Folder) -> list[Pairing]:
    """All pairs of folders whose names follow one rule, most images first.

    Folders below that images and masks have in common (cities, sequences) are one pair: readers look into them.
    """
    found: dict[tuple[str, str, str], list[Pairing]] = {}
    for images in sorted(folder.images):
        for masks in sorted(folder.images):
            pairing = _pairing(folder, images, masks)
            if pairing is not None:
                key = (*_without_common_end(images, masks), pairing.rule)
                found.setdefault(key, []).append(pairing)
    whole = []
    for (images, masks, rule), parts in found.items():
        pairs = tuple(pair for part in parts for pair in part.pairs)
        whole.append(Pairing(images, masks, rule, pairs, parts[0].suffix))
    return sorted(whole, key=lambda pairing: -len(pairing.pairs))


def _without_common_end(images: str, masks: str) -> tuple[str, str]:
    """Two paths without the folders that both end in, split folders kept."""
    one, other = PurePosixPath(images), PurePosixPath(masks)
    while one != other and one.name and one.name == other.name and one.name.lower() not in SPLIT_WORDS:
        one, other = one.parent, other.parent
    return (images, masks) if one == other else (one.as_posix(), other.as_posix())


def _pairing(folder: Folder, images: str, masks: str) -> Pairing | None:
    names = {PurePosixPath(name).stem: name for name in folder.images[images]}
    lossless = {name for name in folder.images[masks] if PurePosixPath(name).suffix.lower() in LOSSLESS}
    best: dict[str, str] = {}
    rule = ""
    rules = _rules(sorted(names), sorted(lossless), images == masks)
    for candidate in sorted(rules, key=lambda one: any(word in one.lower() for word in RATHER_NOT)):
        pairs = {stem: named(candidate, stem) for stem in names if named(candidate, stem) in lossless}
        if images == masks:  # a mask has no mask of its own
            pairs = {stem: mask for stem, mask in pairs.items() if names[stem] not in pairs.values()}
        if len(pairs) > len(best):
            best, rule = pairs, candidate
    if not best or len(best) < MATCHED * min(len(names), len(lossless)):
        return None
    suffixes = Counter(PurePosixPath(names[stem]).suffix for stem in best)
    base, other = (prefix.removeprefix("./") for prefix in (f"{images}/", f"{masks}/"))
    pairs_of = tuple((base + names[stem], other + mask) for stem, mask in sorted(best.items()))
    return Pairing(images, masks, rule, pairs_of, max(suffixes) if images == masks else "")


def named(rule: str, stem: str) -> str:
    """The mask's name by a rule with `{stem}`, `{stem%END}` or `{stem/OLD/NEW}`."""
    start, _, rest = rule.partition("{stem")
    edit, _, end = rest.partition("}")
    if edit.startswith("%"):
        stem = stem.removesuffix(edit[1:])
    elif edit.startswith("/"):
        _, old, new = edit.split("/")
        stem = stem.replace(old, new, 1)
    return f"{start}{stem}{end}"


def _rules(stems: list[str], masks: list[str], same_folder: bool) -> list[str]:
    """Rules to try, the plain one first."""
    found: Counter[str] = Counter()
    step = max(1, len(stems) // TRIED)
    for stem in stems[::step][:TRIED]:
        for mask in masks:
            if stem in mask:
                start, end = mask.split(stem, 1)
                found["{}{{stem}}{}".format(start.replace("{", "{{"), end)] += 1
    rules = [rule for rule, _ in found.most_common(TRIED) if not (same_folder and rule.startswith("{stem}."))]
    if rules or same_folder or not stems or not masks or "image_name" not in MasksSource.model_fields:
        return rules
    return _edits(stems, masks)  # placeholders that cut and replace are read by versions that know `image_name`


def _edits(stems: list[str], masks: list[str]) -> list[str]:
    """Rules that exchange the end of a stem or put something into it, from one pair of neighbors in the lists."""
    rules = []
    for stem in (stems[0], stems[-1]):
        for mask in (*masks[:TRIED], masks[-1]):
            left = _shared(stem, mask)
            right = _shared(stem[left:][::-1], PurePosixPath(mask).stem[left:][::-1])
            suffix, inner = PurePosixPath(mask).suffix, PurePosixPath(mask).stem
            old, new = stem[left : len(stem) - right], inner[left : len(inner) - right]
            if left and right == 0 and old:
                rules.append(f"{{stem%{old}}}{new}{suffix}")
            elif left and right:  # with the separator before it, which the first one in every stem is
                rules.append(f"{{stem/{stem[left - 1]}{old}/{stem[left - 1]}{new}}}{suffix}")
    return [rule for rule in dict.fromkeys(rules) if rule.count("/") in (0, 2)]


def _shared(one: str, other: str) -> int:
    """Number of characters that both texts start with."""
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length
