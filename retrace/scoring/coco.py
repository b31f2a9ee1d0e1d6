"""COCO files as they are read: a truth with images, annotations and categories, and lists of results.

Images are taken in the order of their ids, as pycocotools does: detections of equal confidence go by it.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from retrace.data.formats.coco_ids import alike
from retrace.errors import UserError
from retrace.scoring import json_files
from retrace.scoring.json_files import Id, Rows, is_id
from retrace.scoring.question import Faults

TRUTH_LISTS = ("images", "annotations", "categories")
RESULTS = "a list of objects with image_id, category_id, bbox and score"


@dataclass(frozen=True)
class CocoTruth:
    """A truth file. Images and categories are in the order of their ids."""

    file: Path
    images: dict[Id, str]  # id -> file name
    sizes: dict[Id, tuple[int, int] | None]  # (width, height), None where the file states none
    categories: dict[Id, str]
    annotations: dict[Id, Rows]  # by image

    @property
    def names(self) -> tuple[str, ...]:
        """One for each image."""
        return tuple(self.images.values())

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.categories.values())

    @functools.cached_property
    def places(self) -> dict[Id, int]:
        """Category id -> class index."""
        return {category: label for label, category in enumerate(self.categories)}


def read_truth(file: Path) -> CocoTruth:
    """A COCO truth file.

    Raises:
        UserError: it is none, or one of its rows cannot be used.
    """
    content = json_files.read(file)
    lists: dict[str, Rows] = {}
    for key in TRUTH_LISTS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not json_files.is_rows(rows):
            kind = (
                "a list, as files of predictions are"
                if isinstance(content, list)
                else f"{key!r} is not a list of objects"
            )
            raise UserError(
                f"{file}: not a COCO truth file ({kind}); it needs the lists {', '.join(TRUTH_LISTS)}, and it is named "
                "before the files of predictions"
            )
        lists[key] = rows
    faults = Faults(file)
    images = _ids(lists["images"], "images", "file_name", faults)
    categories = _ids(lists["categories"], "categories", "name", faults)
    for name, count in Counter(categories.values()).items():
        if count > 1:
            faults.add(f"categories: {count} of them are called {name!r}; give each a name of its own")
    sizes: dict[Id, tuple[int, int] | None] = {}
    for row in lists["images"]:
        given = row.get("id")
        if is_id(given):
            sizes[given] = _size(row)
    annotations: dict[Id, Rows] = {image: [] for image in images}
    for number, row in enumerate(lists["annotations"]):
        fault = _row_fault(row, images, categories) or _truth_fault(row)
        _add(annotations, row, fault, f"annotations[{number}]", faults)
    faults.settle()
    if not images or not categories:
        raise UserError(f"{file}: it has no {'images' if not images else 'categories'}, so nothing can be scored")
    if not any(not row.get("iscrowd") for rows in annotations.values() for row in rows):
        raise UserError(f"{file}: not one object is annotated, so no score is defined")
    return CocoTruth(file, images, sizes, categories, annotations)


def _ids(rows: Rows, where: str, key: str, faults: Faults) -> dict[Id, str]:
    """id -> name, by rising id."""
    found: dict[Id, str] = {}
    for number, row in enumerate(rows):
        given, name = row.get("id"), row.get(key)
        if not is_id(given):
            faults.add(f"{where}[{number}]: id {given!r:.80} must be a whole number or text")
        elif given in found:
            faults.add(f"{where}[{number}]: id {given!r} is there twice; every one needs its own")
        elif isinstance(name, str) and name:
            found[given] = name
        elif where == "images":
            found[given] = str(given)
        else:
            faults.add(f"{where}[{number}]: name {name!r:.80} must be text")
    kinds = {type(one) for one in found}
    if len(kinds) > 1:
        faults.add(f"{where}: some ids are whole numbers and some are text; write all alike")
        return found
    return {one: found[one] for one in sorted(found, key=lambda one: (str(type(one)), one))}


def _size(row: dict[str, object]) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        return width, height
    return None


def _row_fault(row: dict[str, object], images: dict[Id, str], categories: dict[Id, str]) -> str | None:
    """Why a row of annotations or results belongs to no image or to no category of the truth."""
    for key, known, what in (("image_id", images, "image"), ("category_id", categories, "category")):
        given = row.get(key)
        if is_id(given) and given in known:
            continue
        meant = alike(given, known)
        if meant is not None:
            return f"{key} {given!r:.80} {meant.said}"
        listed = ", ".join(repr(one) for one in list(known)[:5]) + (", ..." if len(known) > 5 else "")
        return f"{key} {given!r:.80} is no {what} of the truth; its ids: {listed}"
    return None


def _truth_fault(row: dict[str, object]) -> str | None:
    if row.get("iscrowd", 0) not in (0, 1):
        return f"iscrowd {row.get('iscrowd')!r:.80} must be 0 or 1"
    return None


def read_results(file: Path, truth: CocoTruth) -> dict[Id, Rows]:
    """The rows of a file of predictions by image, with their images, categories and scores checked.

    Raises:
        UserError: it is not a list of results, or one of its rows cannot be used.
    """
    content = json_files.read(file)
    if not json_files.is_rows(content):
        what = "not a file of predictions"
        if isinstance(content, dict) and any(key in content for key in TRUTH_LISTS):
            what = "a truth file and not a file of predictions"
        raise UserError(f"{file}: {what}; predictions are {RESULTS}, as pycocotools' loadRes reads them")
    faults = Faults(file)
    found: dict[Id, Rows] = {image: [] for image in truth.images}
    for number, row in enumerate(content):
        fault = _row_fault(row, truth.images, truth.categories) or _score_fault(row)
        _add(found, row, fault, f"row {number}", faults)
    faults.settle()
    return found


def _add(by_image: dict[Id, Rows], row: dict[str, object], fault: str | None, where: str, faults: Faults) -> None:
    """Put a row to its image, or its fault to the others."""
    if fault is not None:
        faults.add(f"{where}: {fault}")
        return
    image = row["image_id"]
    assert is_id(image)
    by_image[image].append(row)


def _score_fault(row: dict[str, object]) -> str | None:
    if "score" not in row:
        return f"it has no score; predictions are {RESULTS}"
    score = json_files.number(row["score"])
    if math.isnan(score) or not 0 <= score <= 1:
        return f"score {row['score']!r:.80} must be a number from 0 to 1"
    return None


def label_of(row: dict[str, object], truth: CocoTruth) -> int:
    """The class index of a checked row."""
    category = row["category_id"]
    assert is_id(category)
    return truth.places[category]
