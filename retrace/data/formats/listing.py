"""Finding files below the root without leaving it, and the split each image was given (folder, list file or ratio)."""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from retrace.config.data import Split, SplitByRatio
from retrace.data.formats.problems import Problems
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError
from retrace.text_files import NotUtf8, decoded

DROPPINGS = ("thumbs.db", "desktop.ini")  # of operating systems, like every name with a leading dot


def below(root: Path, given: str, key: str) -> Path:
    """`root / given`; a setting that leads out of the root is a `UserError`."""
    path = (root / given).resolve()
    link = _link_on_the_way(root, given)
    if link is not None and not path.is_relative_to(root.resolve()):
        raise UserError(
            f"params.yaml: {key} = {given!r}: {link} is a link that leads out of data.root, where DVC would not notice "
            "a change; put the folder itself there, or let data.root be the folder that holds both"
        )
    if Path(given).is_absolute() or not path.is_relative_to(root.resolve()):
        raise UserError(f"params.yaml: {key} = {given!r}: leads out of data.root; give a path below it")
    return path


def _link_on_the_way(root: Path, given: str) -> str | None:
    """The first link on a relative path without `..`, below the root."""
    parts = PurePosixPath(given).parts
    if PurePosixPath(given).is_absolute() or ".." in parts:
        return None
    for end in range(1, len(parts) + 1):
        if root.joinpath(*parts[:end]).is_symlink():
            return "/".join(parts[:end])
    return None


def shown(path: Path, root: Path) -> str:
    """A path for messages and tables: below the root where it is, printable whatever bytes the name holds."""
    text = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return text.encode("utf-8", "backslashreplace").decode()


def holds(folder: Path, besides: Collection[str] = ()) -> str:
    """What lies in a folder, for the message that something else does not. besides: names that do not count."""
    inside = [child for child in folder.iterdir() if child.name not in besides] if folder.is_dir() else []
    names = sorted(child.name + "/" * child.is_dir() for child in inside)
    more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more if names else "nothing"


def walk(base: Path, root: Path, problems: Problems, pattern: str = "*") -> list[Path]:
    """Regular files below `base` whose path matches the glob, sorted; links out of `root` become problems.

    Hidden files are passed over. A missing or empty `base` stops the stage whatever `data.on_error` says.
    """
    if not base.is_dir():
        problems.stop(
            "missing_folder",
            shown(base, root),
            f"no such folder; {shown(base.parent, root)} holds: {holds(base.parent)}",
        )
        return []
    found = []
    for path in _files(base, root, problems):
        if PurePosixPath(path.relative_to(base).as_posix()).match(pattern):
            found.append(path)
    if not found:
        problems.stop("empty_folder", shown(base, root), f"no file in it matches {pattern!r}; it holds: {holds(base)}")
    return sorted(found)


def images_in(base: Path, root: Path, problems: Problems, pattern: str = "*") -> list[Path]:
    """As `walk`; a file without an image's suffix is a problem."""
    images = []
    for path in walk(base, root, problems, pattern):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        else:
            detail = f"not an image file ({', '.join(IMAGE_SUFFIXES)}); move it away or narrow the pattern"
            problems.add("not_an_image", shown(path, root), detail)
    return images


def _files(base: Path, root: Path, problems: Problems) -> Iterable[Path]:
    """Files below `base`; links to folders of the root are followed."""
    for folder, folders, names in os.walk(base, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            why = _no_way(path, root) if path.is_symlink() else None
            if why is None:
                kept.append(name)
            else:
                problems.add("linked_folder", shown(path, root), why)
        folders[:] = kept
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or name.lower() in DROPPINGS:
                continue
            if usable(path, root, problems):
                yield path


class AnyCase:
    """Finds files whatever the case of their names: exports of Windows and cameras write .PNG and .TXT.

    Of several files that differ in case only, the one whose name fits exactly is found, or none.
    """

    def __init__(self, paths: Iterable[Path]):
        self._exact = set(paths)
        self._folded: dict[str, list[Path]] = {}
        for path in sorted(self._exact):
            self._folded.setdefault(str(path).casefold(), []).append(path)

    def find(self, wanted: Path) -> Path:
        """The file of this path, or the only one whose path differs in case alone; `wanted` itself if there is none."""
        if wanted in self._exact:
            return wanted
        alike = self._folded.get(str(wanted).casefold(), [])
        return alike[0] if len(alike) == 1 else wanted


def _no_way(link: Path, root: Path) -> str | None:
    """Why a link to a folder is not followed; None if it is."""
    target = link.resolve()
    if not target.is_relative_to(root.resolve()):
        return (
            "a link to a folder outside data.root, where DVC would not notice a change: put the folder itself here, or "
            "let data.root be the folder that holds both"
        )
    if link.parent.resolve().is_relative_to(target):
        return "a link to a folder around it, which would never end; remove it"
    return None


def there(path: Path) -> bool:
    """Whether anything has this path; a name longer than the file system allows is the name of nothing."""
    try:
        return path.exists()
    except OSError:
        return False


def usable(path: Path, root: Path, problems: Problems) -> bool:
    """Whether a path is a regular file inside `root` with a name that can be written; if not, a problem says why."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        problems.add("file_name", shown(path, root), "the name is not valid UTF-8; rename it")
        return False
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        problems.add(
            "link_out", shown(path, root), "a link that leads out of the data folder; put the file itself here"
        )
        return False
    if not path.is_file():
        problems.add("unreadable", shown(path, root), "not a regular file (a broken link, a pipe or a device)")
        return False
    return True


def read_lists(
    root: Path, lists: Mapping[Split, str], names: Iterable[str], base: str, problems: Problems
) -> dict[str, str]:
    """Split of each image that a list file names: {name below the root: split}.

    A line is a path or starts with one (columns by blanks, tabs or commas): relative to the root or to the image folder
    `base`, with or without suffix. Leading folders that do not exist here (another machine's) are dropped, the fewest
    first.
    """
    known = {name: name for name in names}
    for name in list(known):
        inside = str(PurePosixPath(name).relative_to(base)) if PurePosixPath(name).is_relative_to(base) else name
        for alias in (inside, str(PurePosixPath(name).with_suffix("")), str(PurePosixPath(inside).with_suffix(""))):
            known.setdefault(alias, name)
    given: dict[str, str] = {}
    for split, file in sorted(lists.items()):
        path = below(root, file, f"data.source.split.lists.{split}")
        for number, line in enumerate(_lines(path, root, problems), start=1):
            found = _look_up(line, known)
            if found is None:
                problems.add("listed_missing", file, f"line {number}: {_short(line)!r} is not among the images")
            elif found in given:
                problems.add("listed_twice", found, f"in the list of {given[found]} and again in {file} line {number}")
            else:
                given[found] = split
    return given


def _lines(path: Path, root: Path, problems: Problems) -> list[str]:
    try:
        lines = decoded(path.read_bytes()).splitlines()
    except FileNotFoundError:
        problems.stop(
            "missing_list",
            shown(path, root),
            f"no such list file; {shown(path.parent, root)} holds: {holds(path.parent)}",
        )
        return []
    except OSError as error:
        problems.stop("unreadable", shown(path, root), f"could not be read ({error.strerror})")
        return []
    except NotUtf8 as error:
        problems.stop("encoding", shown(path, root), str(error))
        return []
    return [line.strip() for line in lines if line.strip()]


def _look_up(line: str, known: Mapping[str, str]) -> str | None:
    first = line.replace("\t", " ").replace(",", " ").split()[0] if line.strip(" ,\t") else line
    for text in (line, first):
        parts = PurePosixPath(text.replace("\\", "/")).parts
        for start in range(len(parts)):
            name = known.get("/".join(parts[start:]).removeprefix("./"))
            if name is not None:
                return name
    return None


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def deal(groups: Mapping[str, int], rule: SplitByRatio) -> dict[str, str]:
    """Split of each group, given its number of images: whole groups, so that val and test get about their shares.

    Largest group first (equal ones in the order of their hash, not of their name), each to the split that lacks most;
    the last groups go to splits that are still empty.
    """
    total = sum(groups.values())
    lacks = {"val": rule.val * total, "test": rule.test * total}
    lacks = {split: max(share, 1.0) for split, share in lacks.items() if share > 0}
    if len(groups) < len(lacks) + 1:
        raise UserError(
            f"params.yaml: data.source.split: {len(groups)} group{'s' * (len(groups) != 1)} of images cannot fill "
            f"train, {' and '.join(lacks)}; give more data, smaller groups (data.group) or set a share to 0"
        )
    lacks = {"train": total - sum(lacks.values()), **lacks}
    dealt: dict[str, str] = {}
    order = sorted(groups, key=lambda g: (-groups[g], hashlib.sha256(g.encode()).hexdigest()))
    for done, group in enumerate(order):
        empty = [split for split in lacks if split not in dealt.values()] if len(order) - done <= len(lacks) else []
        split = max(empty or lacks, key=lambda s: lacks[s])
        dealt[group] = split
        lacks[split] -= groups[group]
    return dealt
