"""Source `yolo`: data.yaml, image folders or list files, and one label file per image.

A row is `class x y width height`: box center and size as shares of the image; or, for segmentation, a polygon
(`yolo_shapes`). The label file of `a/images/b.jpg` is `a/labels/b.txt` (without a folder `images`: beside the image).
An empty one says that the image shows no object; a missing one is a problem, unless `missing_labels: background` asks
for Ultralytics' rule: no file, no object.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retrace.config.data import Split, YoloSource
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import Labels, labels_of
from retrace.data.formats.boxes import RawBox, check, note_left_out, read_annotations, stored_size
from retrace.data.formats.listing import AnyCase, below, holds, shown, there, usable, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.yolo_rows import Columns, Seen
from retrace.data.formats.yolo_shapes import shapes_of
from retrace.data.formats.yolo_yaml import keypoints_of, names_of, read_data_yaml
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError
from retrace.text_files import NotUtf8, decoded

SPLIT_KEYS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
NOT_LABELS = ("classes.txt",)  # label tools put the list of class names among the labels


@dataclass
class _Rows:
    """How the rows of all label files are read, and what was passed over."""

    names: dict[int, str]  # class id -> name in data.yaml
    table: dict[str, int]  # name -> class index
    polygons: str
    missing: str  # refuse | background: an image without label file
    labels: Labels
    columns: Columns
    seen: Seen = field(default_factory=Seen)
    left_out: Counter[str] = field(default_factory=Counter)


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image of the train, val and test lists of data.yaml."""
    source = params.data.source
    assert isinstance(source, YoloSource)
    yaml = below(root, source.data_yaml, "data.source.data_yaml")
    if not yaml.is_file():
        detail = f"no such file; {shown(yaml.parent, root)} holds: {holds(yaml.parent)}"
        problems.stop("missing_file", shown(yaml, root), detail)
        return []
    content = read_data_yaml(yaml, source.data_yaml)
    names = names_of(content, source.data_yaml)
    labels = labels_of(params, names.values(), source.data_yaml)
    columns = Columns(keypoints_of(content, source.data_yaml))
    if columns.keypoints is not None and params.task == "segmentation":
        raise UserError(f"{source.data_yaml}: kpt_shape: a pose data set has no outlines; set task: detection")
    rows = _Rows(names, labels.table, source.polygons, source.missing_labels, labels, columns)
    images: dict[Path, str] = {}  # in the order of the splits
    for split, paths in _splits(root, yaml, content, problems):
        for path in paths:
            if path in images:
                problems.add("listed_twice", shown(path, root), f"an image of {images[path]} and again of {split}")
            else:
                images[path] = split
    files = _label_files(images, root)
    bare = _unlabeled_splits(images, files, root, problems)
    shared = _sharing(files, root, problems)
    labelled = [(path, split) for path, split in images.items() if split not in bare and path not in shared]
    items = []
    for path, given in labelled:
        item = _item(path, files[path], given, root, rows, problems)
        items += [] if item is None else [item]
    for kind, detail in rows.seen.doubts(names):
        problems.stop(kind, source.data_yaml, detail)
    _orphans(files, root, problems)
    note_left_out(rows.left_out, source.data_yaml, problems)
    labels.finish(problems)
    return items


def label_path(image: Path, root: Path) -> Path:
    """Where the labels of an image are looked for: the last folder `images` below the root becomes `labels`."""
    parts = list(image.relative_to(root).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].casefold() == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _label_files(images: Iterable[Path], root: Path) -> dict[Path, Path]:
    """The label file of each image: as found, whatever the case of its name; where it belongs if there is none."""
    wanted = {path: label_path(path, root) for path in images}
    listed: set[Path] = set()
    for folder in sorted({path.parent for path in wanted.values()}):
        listed |= _text_files(_as_found(folder, root))
    any_case = AnyCase(listed)
    return {path: any_case.find(label) for path, label in wanted.items()}


def _as_found(folder: Path, root: Path) -> Path:
    """The folder of this path, whatever the case of the names on the way; `folder` itself if there is none."""
    if folder.is_dir():
        return folder
    path = root
    for part in folder.relative_to(root).parts:
        there = sorted(path.iterdir()) if path.is_dir() else []
        path = AnyCase(there).find(path / part)
    return path


def _text_files(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if path.suffix.lower() == ".txt"} if folder.is_dir() else set()


def _sharing(labels: Mapping[Path, Path], root: Path, problems: Problems) -> set[Path]:
    """The images that share a label file with another one, e.g. a.jpg and a.png: each is a problem."""
    owners: dict[Path, list[Path]] = {}
    for image, label in labels.items():
        owners.setdefault(label, []).append(image)
    shared: set[Path] = set()
    for label, images in owners.items():
        for image in images if len(images) > 1 else ():
            others = ", ".join(shown(other, root) for other in images if other != image)
            problems.add("same_name", shown(image, root), f"shares {shown(label, root)} with {others}; rename one")
            shared.add(image)
    return shared


def _splits(root: Path, yaml: Path, content: dict[str, Any], problems: Problems) -> Iterator[tuple[Split, list[Path]]]:
    """The images of each split that data.yaml names: of folders and of list files, or several of them."""
    where = shown(yaml, root)
    base = content.get("path")
    for split, keys in SPLIT_KEYS.items():
        given = next((content[key] for key in keys if content.get(key)), None)
        if given is None and split == "test":
            continue
        entries: list[Any] = given if isinstance(given, list) else [given]
        if not all(isinstance(entry, str) for entry in entries):
            raise UserError(f"{where}: {split}: must be a folder, a list file or a list of them, not {given!r:.80}")
        found: list[Path] = []
        for entry in entries:
            path = _rooted(entry, base if isinstance(base, str) else "", yaml.parent, root)
            if path is None:
                detail = (
                    f"{split}: {entry!r} is neither a folder nor a list file below the root, which holds: {holds(root)}"
                )
                problems.stop("missing_folder", where, detail)
                continue
            if not _same(entry, path, yaml.parent):
                problems.note("path_re_rooted", where, f"{split}: {entry!r} read as {shown(path, root)}")
            found += _images(path, root, problems) if path.is_dir() else _listed(path, root, problems)
        yield split, found


def _rooted(entry: str, base: str, folder: Path, root: Path) -> Path | None:
    """What a path in data.yaml means here: below `base`, `folder` or the root, else without its leading folders.

    Exports carry another machine's absolute paths, or `../` that means the data set itself; the fewest folders are
    dropped.
    """
    roots = (folder, root) if folder != root else (root,)
    tails = [entry] if _absolute(entry) or not base else [f"{base}/{entry}", entry]
    for tail in tails:
        parts = _parts(tail)
        for start in range(len(parts)):
            for place in roots:
                path = place.joinpath(*parts[start:])
                if there(path) and path.resolve().is_relative_to(root.resolve()):
                    return path
    return folder if not any(_parts(entry)) and not _absolute(entry) else None


def _parts(text: str) -> list[str]:
    """Folders of a path of any system, without drive, root, `.` and `..`."""
    parts: list[str] = []
    for part in text.replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", ".") and not part.endswith(":"):
            parts.append(part)
    return parts


def _absolute(text: str) -> bool:
    return text.startswith(("/", "\\")) or text[1:2] == ":"


def _same(entry: str, path: Path, folder: Path) -> bool:
    return (
        path.is_relative_to(folder) and list(path.relative_to(folder).parts) == _parts(entry) and not _absolute(entry)
    )


def _images(folder: Path, root: Path, problems: Problems) -> list[Path]:
    """The image files of a folder; labels and caches may lie among them."""
    return [path for path in walk(folder, root, problems) if path.suffix.lower() in IMAGE_SUFFIXES]


def _listed(file: Path, root: Path, problems: Problems) -> list[Path]:
    """The image files that a list file names, one per line, relative to it, to the root or on another machine."""
    where = shown(file, root)
    content = read_annotations(file, where, problems)
    found = []
    try:
        lines = decoded(content or b"").splitlines()
    except NotUtf8 as error:
        problems.stop("encoding", where, str(error))
        return []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path = _rooted(line.strip(), "", file.parent, root)
        if path is None:
            problems.add("listed_missing", where, f"line {number}: {line.strip()[:100]!r} is not below the root")
        elif usable(path, root, problems):
            found.append(path)
    if content is not None and not found:
        problems.stop("empty_list", where, "names no image that is here")
    return found


def _item(path: Path, label_file: Path, split: str, root: Path, rows: _Rows, problems: Problems) -> Item | None:
    name = shown(path, root)
    size = stored_size(path, name, problems)
    if size is None:
        return None
    if not label_file.exists():
        missing = f"no label file {shown(label_file, root)}"
        if rows.missing == "background":
            problems.note("background", name, f"{missing}: an image without objects")
            item = rows.labels.item(path, name, split, size, (), problems)
            return None if item is None else replace(item, labelled=False)
        way_out = "add it (an empty file: no objects), or set data.source.missing_labels: background"
        problems.add("image_without_label", name, f"{missing}; {way_out}")
        return None
    if not usable(label_file, root, problems):
        return None
    before = len(problems.serious)
    if rows.labels.params.task == "segmentation":
        shapes = shapes_of(label_file, name, root, size, rows.names, rows.seen, problems)
        item = rows.labels.item(path, name, split, size, shapes, problems)
        return item if len(problems.serious) == before else None
    raw = list(_raw_boxes(label_file, name, root, size, rows, problems))
    damaged = len(problems.serious) > before
    boxes = check(raw, size, name, problems)
    return None if damaged or boxes is None else Item(path, name, split, boxes=boxes)


def _raw_boxes(
    file: Path, image: str, root: Path, size: tuple[int, int], rows: _Rows, problems: Problems
) -> Iterator[RawBox]:
    """The rows of a label file in pixels; what is wrong with a row becomes a problem of the image."""
    polygons = 0
    try:
        lines = decoded(read_annotations(file, image, problems) or b"").splitlines()
    except NotUtf8 as error:
        problems.add("encoding", image, f"{shown(file, root)}: {error}")
        return
    for number, line in enumerate(lines, start=1):
        where, fields = f"{shown(file, root)} line {number}", line.split()
        if not fields:
            continue
        try:
            label, values = _class_id(fields[0]), [float(value) for value in fields[1:]]
        except ValueError:
            problems.add("bad_row", image, f"{where}: {line.strip()[:80]!r} is not `class x y width height`")
            continue
        rows.seen.add(label, values if rows.columns.keypoints is None else values[:4])
        fault = rows.columns.fault(values)
        polygon = rows.columns.is_polygon(values)
        if label not in rows.names:
            detail = f"{where}: class id {label}; data.yaml has the ids {', '.join(map(str, sorted(rows.names)))}"
            problems.add("class_out_of_range", image, detail)
        elif fault is not None:
            problems.add("bad_row", image, f"{where}: {fault}")
        elif polygon and rows.polygons == "refuse":
            detail = (
                f"{where}: a polygon of {len(values) // 2} corners; set data.source.polygons: to_boxes to read its box"
            )
            problems.add("polygon_row", image, detail)
        elif rows.names[label] not in rows.table:
            rows.left_out[rows.names[label]] += 1
        else:
            polygons += polygon
            shares = _around(values) if polygon else values[:4]
            yield RawBox(rows.table[rows.names[label]], _pixels(shares, size), where)
    if polygons:
        detail = (
            f"{polygons} polygon row{'s' * (polygons != 1)} of {shown(file, root)} read as the box around the corners"
        )
        problems.note("polygon_to_box", image, detail)


def _class_id(text: str) -> int:
    value = float(text)  # some exporters write 0.0
    if not value.is_integer():
        raise ValueError
    return int(value)


def _around(corners: list[float]) -> list[float]:
    """Center and size of the box around x1 y1 x2 y2 ...; NaN wherever a corner is."""
    xs, ys = corners[0::2], corners[1::2]
    if any(value != value for value in corners):
        return [float("nan")] * 4
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _pixels(shares: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, w, h = shares
    return (x - w / 2) * size[0], (y - h / 2) * size[1], w * size[0], h * size[1]


def _unlabeled_splits(
    images: Mapping[Path, str], labels: Mapping[Path, Path], root: Path, problems: Problems
) -> set[str]:
    """The splits without a single label file: a misplaced folder, said once, not a thousand problems or backgrounds."""
    bare = set()
    for split in sorted(set(images.values())):
        paths = [path for path, other in images.items() if other == split]
        if not any(labels[path].exists() for path in paths):
            where = shown(labels[paths[0]].parent, root)
            detail = f"none of the {len(paths)} images of {split} has a label file; the labels belong in this folder"
            problems.stop("missing_labels", where, detail)
            bare.add(split)
    return bare


def _orphans(labels: Mapping[Path, Path], root: Path, problems: Problems) -> None:
    """Label files whose image is not there."""
    wanted = set(labels.values())
    for folder in sorted({path.parent for path in wanted}):
        for path in sorted(_text_files(folder)):
            if path not in wanted and path.name not in NOT_LABELS and usable(path, root, problems):
                problems.add("label_without_image", shown(path, root), "no image of this name is in data.yaml's splits")
