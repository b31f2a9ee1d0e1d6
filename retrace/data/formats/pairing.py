"""How the name of a mask follows from that of its image: `data.source.mask_name` and `image_name`."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retrace.errors import UserError

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
FORMS = "{stem}, {name}, {stem%END}, {stem#START}, {stem/OLD/NEW}, or a group of data.source.image_name"


class NoMask(Exception):
    """An image from whose name no mask follows; says why."""


@dataclass(frozen=True)
class Rule:
    """`parts` of mask_name: (text, "") as it is, or (placeholder, what stands between the braces)."""

    text: str
    image_name: re.Pattern[str] | None

    def mask_of(self, image: PurePosixPath) -> Path:
        """Path of the mask below the mask folder, of an image path below the image folder; `NoMask` if none follows."""
        match = None
        if self.image_name is not None:
            match = self.image_name.fullmatch(image.stem)
            if match is None:
                raise NoMask(
                    f"its stem {image.stem!r} does not match data.source.image_name {self.image_name.pattern!r}"
                )
        name = PLACEHOLDER.sub(lambda found: _value(found.group(1), image, match), self.text)
        return Path(image.parent, name)

    def names_masks(self) -> re.Pattern[str]:
        """What every name that the rule can give matches, so that other files of the mask folder are told apart."""
        text, end = "", 0
        for found in PLACEHOLDER.finditer(self.text):
            text += re.escape(self.text[end : found.start()]) + _pattern(found.group(1))
            end = found.end()
        return re.compile(text + re.escape(self.text[end:]))


def rule_of(mask_name: str, image_name: str | None) -> Rule:
    """The rule of a source.

    Raises:
        UserError: an unknown placeholder, a regular expression that is none, or braces that do not close.
    """
    pattern = None
    if image_name is not None:
        try:
            pattern = re.compile(image_name)
        except re.error as error:
            raise UserError(
                f"params.yaml: data.source.image_name = {image_name!r}: not a regular expression ({error})"
            ) from None
    groups = _groups(pattern)
    for inside in PLACEHOLDER.findall(mask_name):
        if inside not in ("stem", "name", *groups) and _cut(inside) is None:
            named = f" ({', '.join('{' + group + '}' for group in groups)})" if groups else ""
            raise UserError(
                f"params.yaml: data.source.mask_name = {mask_name!r}: unknown placeholder {{{inside}}}; "
                f"allowed: {FORMS}{named}"
            )
    if "{" in PLACEHOLDER.sub("", mask_name) or "}" in PLACEHOLDER.sub("", mask_name):
        raise UserError(
            f"params.yaml: data.source.mask_name = {mask_name!r}: a brace without its other; allowed: {FORMS}"
        )
    return Rule(mask_name, pattern)


def _groups(pattern: re.Pattern[str] | None) -> list[str]:
    if pattern is None:
        return []
    return [str(number) for number in range(1, pattern.groups + 1)] + sorted(pattern.groupindex)


def _cut(inside: str) -> tuple[str, str, str] | None:
    """(sign, old, new) of {stem%END}, {stem#START} and {stem/OLD/NEW}; None for anything else."""
    sign, rest = inside[4:5], inside[5:]
    if not inside.startswith("stem") or sign not in ("%", "#", "/") or not rest:
        return None
    if sign != "/":
        return sign, rest, ""
    old, slash, new = rest.partition("/")
    return (sign, old, new) if old and slash and "/" not in new else None


def _value(inside: str, image: PurePosixPath, match: re.Match[str] | None) -> str:
    cut = _cut(inside)
    if inside == "stem":
        return image.stem
    if inside == "name":
        return image.name
    if cut is None:
        assert match is not None
        return match.group(int(inside) if inside.isdecimal() else inside) or ""
    sign, old, new = cut
    if sign == "%" and image.stem.endswith(old):
        return image.stem.removesuffix(old)
    if sign == "#" and image.stem.startswith(old):
        return image.stem.removeprefix(old)
    if sign == "/" and old in image.stem:
        return image.stem.replace(old, new, 1)
    where = {"%": "end with", "#": "start with", "/": "contain"}[sign]
    raise NoMask(f"its stem {image.stem!r} does not {where} {old!r}, as data.source.mask_name has it")


def _pattern(inside: str) -> str:
    cut = _cut(inside)
    return ".*" + re.escape(cut[2]) + ".*" if cut is not None and cut[2] else ".+"
