"""A folder as it was downloaded or exported, listed once; and what a recognizer makes of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

LARGEST = 2**29  # bytes of an annotation file that is opened to recognize it
Task = Literal["segmentation", "detection"]
Value = str | int | float | list["Value"] | dict[str, "Value"] | None


@dataclass(frozen=True)
class Candidate:
    """A format that a folder has."""

    format: str  # as users call it
    task: Task
    classes: tuple[str, ...]
    source: Mapping[str, Value]  # the block `data.source`
    images: int  # labeled images that it explains
    notes: tuple[str, ...] = ()  # what a person should look at; comments of the study file
    unlabeled: tuple[str, ...] = ()  # folders of images without labels


@dataclass(frozen=True)
class Folder:
    """All regular files below a folder, hidden ones passed over; links are not followed."""

    root: Path
    files: tuple[PurePosixPath, ...] = field(repr=False)  # relative to the root, sorted

    @classmethod
    def of(cls, root: Path) -> "Folder":
        """List `root`; a `UserError` where it is no folder or holds no file."""
        if not root.is_dir():
            what = "an archive or a file; unpack it first" if root.exists() else "no such folder"
            raise UserError(f"{root}: {what}")
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            base = Path(folder).relative_to(root)
            found += [PurePosixPath(base.as_posix(), name) for name in names if not name.startswith(".")]
        files = [path for path in found if _is_text(str(path)) and (root / path).is_file()]
        if not files:
            raise UserError(f"{root}: holds no file")
        return cls(root, tuple(sorted(files)))

    @cached_property
    def images(self) -> dict[str, list[str]]:
        """Names of the image files of each folder that has some; the root is "."."""
        found: dict[str, list[str]] = {}
        for path in self.files:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found.setdefault(path.parent.as_posix(), []).append(path.name)
        return found

    @cached_property
    def image_paths(self) -> frozenset[str]:
        """Every image file."""
        return frozenset(
            f"{folder}/{name}".removeprefix("./") for folder in self.images for name in self.images[folder]
        )

    def ending(self, *suffixes: str) -> list[PurePosixPath]:
        """Files with one of the suffixes, in lower case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def read(self, path: PurePosixPath) -> bytes:
        """The content of an annotation file; empty where it is unreadable or too large to be looked at."""
        try:
            full = self.root / path
            return full.read_bytes() if full.stat().st_size <= LARGEST else b""
        except OSError:
            return b""

    def text(self, path: PurePosixPath) -> str:
        """As `read`, decoded; bytes that are no UTF-8 are replaced."""
        return self.read(path).decode("utf-8-sig", "replace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
