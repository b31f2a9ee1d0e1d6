"""YOLO label folders: `class x y width height` as shares of the image, and in predictions the confidence.

The images must be there, because sizes of objects are in pixels and an image without a label file shows no object. A
missing file of predictions says that nothing was found: `yolo predict save_txt=True` writes none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrace.data.formats.yolo_yaml import names_of as names_in_yaml
from retrace.data.formats.yolo_yaml import read_data_yaml
from retrace.data.hashing import IMAGE_SUFFIXES, BadImage, image_size
from retrace.documents.manifest import Box, Record
from retrace.errors import UserError
from retrace.evaluation.scores.matching import Found
from retrace.scoring import detection
from retrace.scoring.question import CLASS_FILES, Faults, Options, Question, names_of
from retrace.text_files import NotUtf8, decoded

UPWARDS = 3  # folders above the labels in which data.yaml is looked for
SLACK = 0.01  # of the image side: how far rounding may put a number outside of 0 ... 1
SAVE_CONF = "predict again with save_conf=True"


@dataclass(frozen=True)
class Row:
    """One line of a label file: class id, then center and size as shares of the image; confidence 1 for a truth."""

    label: int
    shares: tuple[float, float, float, float]
    confidence: float = 1.0


def ask(folder: Path, predictions: list[Path], options: Options) -> Question:
    """The boxes of a label folder, and the statistics of the folders of predictions for it.

    Raises:
        UserError: a folder or the images are missing, or a row cannot be used.
    """
    sizes = _images(folder, options.images)
    truth = _read(folder, sizes, _truth_row)
    names = _names(folder, options.classes) or {row.label: f"class {row.label}" for row in _every(truth)}
    places = {number: place for place, number in enumerate(sorted(names))}
    classes = [names[number] for number in sorted(names)]
    records = _records(folder, truth, sizes, places)
    if not any(record.boxes for record in records):
        raise UserError(f"{folder}: not one object in the labels of its {len(sizes)} images, so no score is defined")
    founds = []
    for path in predictions:
        rows = _read(path, sizes, _predicted_row)
        founds.append(_founds(path, rows, sizes, places))
    learned = records if options.train is None else _learned(options.train, places)
    matches, floor = detection.match_boxes(records, learned, founds, classes, options.iou_threshold)
    named = dict(zip(names_of(predictions), matches, strict=True))
    return detection.question("boxes", classes, list(sizes), named, floor, options)


def _learned(folder: Path, places: Mapping[int, int]) -> list[Record]:
    sizes = _images(folder, None)
    return _records(folder, _read(folder, sizes, _truth_row), sizes, places)


def _images(labels: Path, given: Path | None) -> dict[str, tuple[int, int]]:
    """Stem -> (width, height) of every image, sorted."""
    folder = given or _beside(labels)
    files = (
        [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES] if folder.is_dir() else []
    )
    if not files:
        raise UserError(
            f"{folder}: no images; they are needed, because sizes of objects are in pixels and an image without a "
            "label file shows no object: name their folder with --images"
        )
    sizes: dict[str, tuple[int, int]] = {}
    for path in files:
        if path.stem in sizes:
            raise UserError(f"{path}: there is another image {path.stem} with the same label file; rename one")
        try:
            sizes[path.stem] = image_size(path)
        except BadImage as error:
            raise UserError(f"{path}: {error.detail}") from None
    return sizes


def _beside(labels: Path) -> Path:
    """The folder of the images: the last folder `labels` of the path becomes `images`."""
    parts = list(labels.resolve().parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].casefold() == "labels":
            parts[place] = "images"
            return Path(*parts)
    return labels


def _names(labels: Path, given: tuple[str, ...] | None) -> dict[int, str] | None:
    """Class id -> name: as given, else from a data.yaml in the folder or above it; None where there is none."""
    if given is not None:
        return dict(enumerate(given))
    folder = labels.resolve()
    for place in (folder, *list(folder.parents)[:UPWARDS]):
        yaml = place / "data.yaml"
        if yaml.is_file():
            return names_in_yaml(read_data_yaml(yaml, str(yaml)), str(yaml))
    return None


def _read(folder: Path, sizes: Mapping[str, object], parse: Callable[[list[str]], Row | str]) -> dict[str, list[Row]]:
    """The rows of the label file of each image; none where there is no file."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; YOLO labels and predictions are folders of .txt files")
    files = {path.stem: path for path in sorted(folder.glob("*.txt")) if path.name not in CLASS_FILES}
    faults = Faults(folder)
    for stem, path in files.items():
        if stem not in sizes:
            faults.add(f"{path.name}: there is no image {stem}; a label file is named like its image")
    faults.settle()
    if not files:
        raise UserError(f"{folder}: no label file (.txt) of the {len(sizes)} images")
    rows: dict[str, list[Row]] = {stem: [] for stem in sizes}
    for stem, path in files.items():
        try:
            lines = decoded(path.read_bytes()).splitlines()
        except (NotUtf8, OSError) as error:
            raise UserError(f"{path}: {error}") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = parse(line.split())
            if isinstance(found, Row):
                rows[stem].append(found)
            else:
                faults.add(f"{path.name} line {number}: {found}")
    faults.settle()
    return rows


def _truth_row(fields: list[str]) -> Row | str:
    if len(fields) == 6:
        return "6 columns: a confidence as in predictions; a truth has class x y width height"
    return _row(fields, 5)


def _predicted_row(fields: list[str]) -> Row | str:
    if len(fields) == 5:
        return f"no confidence; a prediction has class x y width height confidence: {SAVE_CONF}"
    found = _row(fields, 6)
    if isinstance(found, Row) and not 0 <= found.confidence <= 1:
        return f"confidence {found.confidence:g} must be from 0 to 1"
    return found


def _row(fields: list[str], columns: int) -> Row | str:
    """The row of a line's fields, or what is wrong with them."""
    if len(fields) > 6:
        return f"{len(fields)} columns: a polygon or keypoints; write boxes, or score masks from COCO files"
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = []
    if len(values) != columns or not np.isfinite(values).all() or not values[0].is_integer():
        wanted = "class x y width height" + " confidence" * (columns == 6)
        return f"{' '.join(fields)[:80]!r} is not `{wanted}`, all finite"
    x, y, width, height = values[1:5]
    if min(x, y, width, height) < -SLACK or max(x, y, width, height) > 1 + SLACK:
        return f"{' '.join(fields)[:80]!r}: center and size must be shares of the image, from 0 to 1"
    return Row(int(values[0]), (x, y, max(width, 0.0), max(height, 0.0)), values[5] if columns == 6 else 1.0)


def _every(rows: Mapping[str, list[Row]]) -> list[Row]:
    return [row for mine in rows.values() for row in mine]


def _pixels(row: Row, size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, width, height = row.shares
    return (x - width / 2) * size[0], (y - height / 2) * size[1], width * size[0], height * size[1]


def _known(folder: Path, rows: Mapping[str, list[Row]], places: Mapping[int, int]) -> None:
    faults = Faults(folder)
    for stem, mine in rows.items():
        for row in mine:
            if row.label not in places:
                faults.add(f"{stem}.txt: class id {row.label} is none of the truth: {', '.join(map(str, places))}")
    faults.settle()


def _records(
    folder: Path, rows: Mapping[str, list[Row]], sizes: Mapping[str, tuple[int, int]], places: Mapping[int, int]
) -> list[Record]:
    _known(folder, rows, places)
    records = []
    for stem, size in sizes.items():
        boxes = tuple(Box(places[row.label], _pixels(row, size)) for row in rows[stem])
        records.append(Record(stem, stem, None, "", "", *size, "", None, "", {}, boxes))
    return records


def _founds(
    folder: Path, rows: Mapping[str, list[Row]], sizes: Mapping[str, tuple[int, int]], places: Mapping[int, int]
) -> list[Found]:
    _known(folder, rows, places)
    founds = []
    for stem, size in sizes.items():
        boxes = np.array([_pixels(row, size) for row in rows[stem]], dtype=np.float64).reshape(-1, 4)
        labels = np.array([places[row.label] for row in rows[stem]], dtype=np.int64)
        founds.append(Found(boxes, labels, np.array([row.confidence for row in rows[stem]], dtype=np.float64)))
    return founds
