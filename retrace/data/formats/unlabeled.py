"""Images without labels, from any number of folders, globs and videos.

Of a folder or glob every k-th image (in path order) is taken; of a video every k-th frame, decoded by OpenCV and
written as JPEG, quality 95: a frame is lossy already, and the locked OpenCV writes the same bytes for it every time.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from retrace.config.data import Unlabeled
from retrace.data.formats import Item
from retrace.data.formats.listing import DROPPINGS, below, holds, shown, usable, walk
from retrace.data.formats.problems import Problems
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
QUALITY = 95
NOT_THERE = "not there, so done without, as data.unlabeled allows"
# Containers by their first bytes: FFmpeg also takes playlists, which name other files and addresses to read
ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # MP4, QuickTime: at offset 4


def read(entries: tuple[Unlabeled, ...], root: Path, problems: Problems, frames: Path) -> list[Item]:
    """One item per image and kept frame, sorted by name; frames are written below the folder `frames`."""
    items: dict[str, Item] = {}
    for entry in entries:
        base, files = _files(entry, root, problems)
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        for path in sorted(set(files) - set(images) - set(videos)):
            problems.add(
                "not_an_image", shown(path, root), "neither an image nor a video; move it away or narrow the glob"
            )
        found = [
            Item(path, _name(path, base, root), "unlabeled", origin=_origin(entry)) for path in images[:: entry.every]
        ]
        for path in videos:
            found += _frames(path, _name(path, base, root), entry.every, frames, problems)
        for item in found:
            if item.name in items:
                problems.note(
                    "listed_twice",
                    item.name,
                    f"named by more than one entry of data.unlabeled ({entry.path}); used once",
                )
            items.setdefault(item.name, item)
    return [items[name] for name in sorted(items)]


def _files(entry: Unlabeled, root: Path, problems: Problems) -> tuple[Path, list[Path]]:
    """The folder that names are relative to when it lies outside the root, and the sorted files of one entry."""
    given = Path(entry.path)
    literal = [
        part for part in given.parts[: next((i for i, p in enumerate(given.parts) if _glob(p)), len(given.parts))]
    ]
    start = Path(*literal) if literal else Path()
    start = start.resolve() if given.is_absolute() else below(root, start.as_posix(), "data.unlabeled.path")
    limit = start if given.is_absolute() else root
    if entry.optional and not start.exists():
        problems.note("optional_missing", shown(start, root), NOT_THERE)
        return start, []
    if len(literal) < len(given.parts):
        pattern = "/".join(given.parts[len(literal) :])
        if ".." in pattern.split("/"):
            raise UserError(
                f"params.yaml: data.unlabeled.path = {entry.path!r}: '..' after a glob; write the folder out"
            )
        if entry.optional and not any(start.glob(pattern)):
            problems.note("optional_missing", f"{shown(start, root)}/{pattern}", NOT_THERE)
            return start, []
        return start, _matches(start, pattern, limit, problems)
    if start.is_file():
        return start.parent, [start] if usable(start, start.parent, problems) else []
    return start, walk(start, limit, problems)


def _glob(part: str) -> bool:
    return any(letter in part for letter in "*?[")


def _matches(start: Path, pattern: str, root: Path, problems: Problems) -> list[Path]:
    found = sorted(path for path in start.glob(pattern) if not path.is_dir())
    found = [path for path in found if not path.name.startswith(".") and path.name.lower() not in DROPPINGS]
    if not found:
        problems.stop("empty_folder", shown(start, root), f"no file matches {pattern!r}; it holds: {holds(start)}")
    return [path for path in found if usable(path, root, problems)]


def _name(path: Path, base: Path, root: Path) -> str:
    """Below the root; for a folder elsewhere its own name and what is below it (never an absolute path)."""
    return shown(path, root) if path.is_relative_to(root) else f"{base.name}/{shown(path, base)}"


def _origin(entry: Unlabeled) -> str:
    return Path(entry.path).name if Path(entry.path).is_absolute() else entry.path


def _frames(path: Path, name: str, every: int, folder: Path, problems: Problems) -> list[Item]:
    """Every k-th frame of a video as a JPEG file named by its frame number, counted from 0."""
    if not _is_video(path):
        problems.add(
            "unreadable_video", name, "not an MP4, QuickTime, AVI, Matroska or WebM file, whatever its name says"
        )
        return []
    items = []
    film = _Film(path, every)
    for number, content in film.frames():
        frame = folder / name / f"{number:06d}.jpg"
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(content)
        items.append(Item(frame, f"{name}/{frame.name}", "unlabeled", origin=name, group=name))
    if items and film.missing():
        detail = (
            f"{film.missing()} of the {film.stated} frames that its header announces are missing: the file is cut off "
            f"or damaged; the {film.there} that are there are used"
        )
        problems.note("cut_video", name, detail)
    if not items:
        problems.add(
            "unreadable_video", name, "no frame could be decoded; check that it plays to the end, or remove it"
        )
    return items


def quiet_videos() -> None:
    """Keep OpenCV's and FFmpeg's own lines off the terminal: what is wrong with a clip is said once, by us.

    OpenCV reads its variable when it is loaded, FFmpeg's when the first video is opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def _is_video(path: Path) -> bool:
    with open(path, "rb") as stream:
        head = stream.read(12)
    return head[4:8] in ATOMS or (head[:4] == b"RIFF" and head[8:] == b"AVI ") or head[:4] == b"\x1aE\xdf\xa3"


class _Film:
    """A video while it is decoded.

    stated: how many frames its header announces, 0 if it does not say; there: how many there were.
    """

    def __init__(self, path: Path, every: int):
        self.path, self.every = path, every
        self.stated = self.there = 0

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(frame number, JPEG bytes) of every k-th frame; one frame in memory at a time."""
        quiet_videos()
        import cv2

        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        try:
            self.stated = max(0, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            while capture.isOpened() and capture.grab():
                if self.there % self.every == 0:
                    decoded, frame = capture.retrieve()
                    if decoded:
                        content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
                        yield self.there, content
                self.there += 1
        finally:
            capture.release()

    def missing(self) -> int:
        """Frames that the header announces and the file does not have.

        Matroska and WebM state a duration only, from which OpenCV computes the number: up to a hundredth, and one
        frame, is rounding.
        """
        missing = self.stated - self.there
        return missing if missing > max(1, self.stated // 100) else 0
