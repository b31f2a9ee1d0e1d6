"""What a file name says about its picture: which photograph it was exported from, and its number in a sequence.

Pure functions over names; nothing is read. Whether a numbered name means a frame of a video is decided by looking at
the pictures too (`retrace.data.sequences`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from retrace.config.data import Split

# what folders of a split are called, in lower case
SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
HOLDERS = ("images", "image", "img", "imgs", "rgb", "jpegimages")  # folders that say nothing about the picture
ROBOFLOW = re.compile(r"(?:[_-](?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9a-f]{8,}$", re.IGNORECASE)
AUGMENTED = re.compile(r"[_-](?:aug(?:mented)?|[hv]?flip(?:ped)?|mirror(?:ed)?|rot(?:ated)?)[_-]?\d*$", re.IGNORECASE)
# these also end names of other pictures (`corn_crop_7`, `car (7)`): copies only beside their original
COPY = re.compile(r"[ _-]*\(\d+\)$|[ _-]+(?:copy|noise|blur(?:red)?|crop(?:ped)?)[ _-]?\d*$", re.IGNORECASE)
VIDEO = re.compile(r"[_-](?:mov|mp4|avi|mkv|m4v|webm)[_-]?$|(?:^|[_-])(?:frame|video|clip|seq)s?[_-]?$", re.IGNORECASE)
NUMBER = re.compile(r"^(.*?)(\d+)$")
# Roboflow's names of photographs and of frames of a video, for `data.group`: copies and frames get one group
ROBOFLOW_GROUP = (
    r"^(?:.*/)?(.+?)(?:[_-](?:MOV|mov|MP4|mp4|AVI|avi)-\d+)?(?:[_-](?:jpe?g|JPE?G|png|PNG))?\.rf\.[0-9a-f]+\.[A-Za-z]+$"
)
NUMBERED_GROUP = r"^(?:.*/)?([^/]*?)[-_ ]?[A-Za-z]?\d+\.[A-Za-z]+$"


@dataclass(frozen=True)
class Numbered:
    """A name that ends in a number: `key` is the same for all that are counted together."""

    key: str
    number: int
    video: bool  # the name itself says that it is a frame of a video


def photographs(names: Sequence[str]) -> list[str]:
    """The photograph that every image was exported from: its path without split folders and marks of copies.

    `train/images/a_jpg.rf.0123456789abcdef.jpg` and `a_aug2.jpg` are copies of `a`; so is `a (1).jpg` where `a` is
    among the names.
    """
    found = [_photograph(name) for name in names]
    known = set(found)
    for index, name in enumerate(found):
        original = COPY.sub("", name)
        if original in known:
            found[index] = original
    return found


def _photograph(name: str) -> str:
    path = PurePosixPath(name)
    stem = AUGMENTED.sub("", ROBOFLOW.sub("", path.stem)) or path.stem
    return "/".join([*_telling(path), stem])


def numbered(name: str) -> Numbered | None:
    """The running number of a photograph's name, None where it has none."""
    path = PurePosixPath(_photograph(name))
    match = NUMBER.match(path.name)
    if match is None or len(match[2]) > 12:
        return None
    start = match[1]
    key = "/".join([*path.parent.parts, start.rstrip("-_ ")])
    return Numbered(key, int(match[2]), bool(VIDEO.search(start)))


def split_word(text: str) -> Split | None:
    """The split that a folder or file is named after."""
    for word in re.split(r"[^a-z]+", text.lower()):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None


def _telling(path: PurePosixPath) -> list[str]:
    """The folders of a path that tell pictures apart: no split, and no folder that holds all pictures."""
    return [part for part in path.parent.parts if part.lower() not in SPLIT_WORDS and part.lower() not in HOLDERS]
