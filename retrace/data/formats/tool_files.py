"""Files of label tools: which split they belong to, and which image an annotation is of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from retrace.config.data import (
    CvatSource,
    LabelmeSource,
    LabelStudioSource,
    SplitByFolder,
    SplitByList,
    SuperviselySource,
    ViaSource,
)
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Shape, labels_of
from retrace.data.formats.boxes import stored_size
from retrace.data.formats.listing import below, read_lists, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

ToolSource = LabelmeSource | CvatSource | ViaSource | LabelStudioSource | SuperviselySource


@dataclass(frozen=True)
class Annotation:
    """All that a tool says of one image; `shapes` is None where it says nothing (not even that it shows nothing)."""

    names: tuple[str, ...]  # what the image may be called, below the image folder, the likeliest first
    where: str  # for messages
    shapes: tuple[Shape, ...] | None
    size: tuple[int, int] | None = None  # (width, height) as stated
    group: str | None = None
    damaged: bool = False  # a problem says so already; the image is left out


@dataclass(frozen=True)
class Parsed:
    """The content of one annotation file or folder; `declared` are the names of classes that it lists."""

    annotations: tuple[Annotation, ...]
    declared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Place:
    """An annotation file or folder, and the folder of its images."""

    root: Path
    annotations: Path
    images: Path
    split: str | None


Parser = Callable[[Place, Params, Problems], Parsed]


def read_tool(root: Path, params: Params, problems: Problems, parse: Parser) -> list[Item]:
    """One item per image that has annotations; images and annotations without each other are problems."""
    source = params.data.source
    assert isinstance(source, ToolSource)
    found: list[tuple[Place, Path, Annotation]] = []
    names: set[str] = set()
    for place in _places(root, source):
        content = parse(place, params, problems)
        names |= content.declared
        names |= {shape.name for entry in content.annotations for shape in entry.shapes or ()}
        found += [(place, path, entry) for path, entry in _paired(place, content, source, problems)]
    if not found:
        return []
    splits = _splits(root, source, found, problems)
    where = source.annotations
    labels = labels_of(params, names, where)
    items = []
    for place, path, entry in found:
        name = shown(path, root)
        size = entry.size or (stored_size(path, name, problems) if name in splits else None)
        if size is None:
            continue
        item = labels.item(path, name, splits[name], size, entry.shapes or (), problems) if name in splits else None
        if item is not None:
            group = entry.group if params.data.group is None else None
            items.append(replace(item, size=entry.size, group=group, origin=shown(place.images, root) or "."))
            if entry.shapes is None:
                items[-1] = replace(items[-1], labelled=False)
    labels.finish(problems)
    return items


def _places(root: Path, source: ToolSource) -> list[Place]:
    """The annotations and the images of each folder of the split; of all in one place for other rules."""
    rule = source.split
    where = ("data.source.annotations", "data.source.images")
    if not isinstance(rule, SplitByFolder):
        if "{split}" in source.annotations + source.images:
            raise UserError(
                f"params.yaml: data.source: {{split}} is only for split: {{by: folder}}, not {{by: {rule.by}}}"
            )
        return [Place(root, below(root, source.annotations, where[0]), below(root, source.images, where[1]), None)]
    if "{split}" not in source.annotations or "{split}" not in source.images:
        raise UserError(
            "params.yaml: data.source: split by folder needs {split} in annotations and in images, e.g. '{split}'"
        )
    places = []
    for split, folder in sorted(rule.folders.items()):
        annotations, images = (text.replace("{split}", folder) for text in (source.annotations, source.images))
        places.append(Place(root, below(root, annotations, where[0]), below(root, images, where[1]), split))
    return places


def _paired(place: Place, content: Parsed, source: ToolSource, problems: Problems) -> list[tuple[Path, Annotation]]:
    """Each image file of the folder with its annotation, sorted by path."""
    files = [path for path in walk(place.images, place.root, problems) if path.suffix.lower() in IMAGE_SUFFIXES]
    known = {path.relative_to(place.images).as_posix(): path for path in files}
    taken: dict[Path, Annotation] = {}
    for entry in content.annotations:
        path = next((match for name in entry.names if (match := _match(name, known)) is not None), None)
        if path is None:
            detail = (
                f"no image {entry.names[0]!r:.150} in {shown(place.images, place.root)}; add it or delete the entry"
            )
            problems.add("label_without_image", entry.where, detail)
        elif path in taken:
            detail = f"annotated by {taken[path].where} and again by {entry.where}; keep one"
            problems.add("listed_twice", shown(path, place.root), detail)
        else:
            taken[path] = entry
    pairs = []
    for path in files:
        name = shown(path, place.root)
        noted = taken.get(path)
        if noted is not None and noted.damaged:
            continue
        if noted is not None and noted.shapes is not None:
            pairs.append((path, noted))
        elif source.missing_labels == "background":
            problems.note("background", name, "no annotation: an image without objects")
            pairs.append((path, noted or Annotation((name,), name, None)))
        else:
            detail = "no annotation; add it, move the image away, or set data.source.missing_labels: background"
            problems.add("image_without_label", name, detail)
    return pairs


def _match(name: str, known: dict[str, Path]) -> Path | None:
    """The image of this path below the folder; leading folders of another machine are dropped, the fewest first."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    for start in range(len(parts)):
        path = known.get("/".join(parts[start:]))
        if path is not None:
            return path
    return None


def _splits(
    root: Path, source: ToolSource, found: Sequence[tuple[Place, Path, Annotation]], problems: Problems
) -> dict[str, str | None]:
    """Split of each image by its name below the root; images in no list are left away, and noted."""
    given: dict[str, str | None] = {shown(path, root): place.split for place, path, _ in found}
    if not isinstance(source.split, SplitByList):
        return given
    listed = read_lists(root, source.split.lists, list(given), shown(found[0][0].images, root), problems)
    for name in sorted(given.keys() - listed.keys()):
        problems.note("not_listed", name, "in no list file, so not part of the data set")
    return {**listed}


def numbers(value: object, count: int | None = None) -> list[float]:
    """A list of (so many) numbers; `BadShape` for anything else."""
    if isinstance(value, list) and (count is None or len(value) == count):
        try:
            if all(type(one) in (int, float) for one in value):
                return [float(one) for one in value]
        except OverflowError:  # JSON numbers have no bounds
            return [float("inf")] * len(value)
    raise BadShape("bad_shape", f"{value!r:.80} must be {'a list of' if count is None else count} numbers")


def points_of(value: object) -> list[tuple[float, float]]:
    """[[x, y], ...] as pairs of numbers; `BadShape` for anything else."""
    if not isinstance(value, list):
        raise BadShape("bad_shape", f"points {value!r:.80} must be a list of [x, y]")
    points = []
    for one in value:
        x, y = numbers(one, 2)
        points.append((x, y))
    return points


def whole_size(width: object, height: object) -> tuple[int, int]:
    """(width, height) as stated; `BadShape` if they are no whole numbers above 0."""
    if type(width) is not int or type(height) is not int or width < 1 or height < 1:
        detail = f"width {width!r:.40} and height {height!r:.40} must be whole numbers above 0"
        raise BadShape("bad_size", detail)
    return width, height


def shapes_of(
    rows: Iterable[object], where: str, image: str, one: Callable[[dict[str, object], str], Shape], problems: Problems
) -> tuple[Shape, ...] | None:
    """Every row of a file as a shape; a row that cannot be read is a problem of the image, which is then left out."""
    shapes, before = [], len(problems.rows)
    for number, row in enumerate(rows, start=1):
        place = f"{where} shape {number}"
        try:
            if not isinstance(row, dict):
                raise BadShape("bad_shape", f"{row!r:.80} must be an object with keys")
            shapes.append(one(row, place))
        except BadShape as bad:
            problems.add(bad.kind, image, f"{place}: {bad.detail}")
    return tuple(shapes) if len(problems.rows) == before else None
