"""Ids of a COCO file that are nearly right: text against a number, 1.0 against 1, a file name in place of an id."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

Id = int | str


@dataclass(frozen=True)
class Meant:
    """The id that was probably meant, and the words for a message."""

    id: Id
    said: str


def alike(given: object, known: Mapping[Id, str]) -> Meant | None:
    """Which of the `known` ids (id -> name) an id that is none of them resembles; None: none of them."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    for text in _spellings(given):
        for candidate in _candidates(text):
            if candidate in known:
                return Meant(
                    candidate, f"is {_kind(given)}, but the id is {_kind(candidate)} ({candidate!r}); write both alike"
                )
    named = str(given)
    for key, name in known.items() if isinstance(given, str) else ():
        if named and named in (name, PurePosixPath(name).name, PurePosixPath(name).stem):
            return Meant(key, f"is the name of what has the id {key!r}; write the id")
    return None


def _spellings(given: int | float | str) -> list[str]:
    text = str(given).strip()
    whole = text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdecimal() else text
    return [text, whole, whole.lstrip("0") or "0"] if whole else []


def _candidates(text: str) -> list[Id]:
    digits = text.lstrip("-")
    number: list[Id] = [int(text)] if digits.isascii() and digits.isdecimal() and len(digits) <= 40 else []
    return [*number, text]


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "a number with a decimal point" if isinstance(value, float) else "a whole number"
