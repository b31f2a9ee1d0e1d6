"""The question that COCO files ask: boxes or masks of objects."""

from pathlib import Path

import numpy as np
from faster_coco_eval.core import mask

from retrace.data.formats.annotated import BadShape
from retrace.data.formats.coco_shapes import unpacked
from retrace.documents.manifest import Box, Record
from retrace.errors import UserError
from retrace.evaluation.floor import constant_boxes
from retrace.evaluation.scores.matching import Found, Matches
from retrace.scoring import detection, json_files, mask_matching
from retrace.scoring.coco import CocoTruth, label_of, read_results, read_truth
from retrace.scoring.json_files import Id, Rows
from retrace.scoring.mask_matching import Masks, Rle
from retrace.scoring.question import Faults, Options, Question, names_of

Results = dict[Id, Rows]  # by image
Row = dict[str, object]


def ask(file: Path, files: list[Path], options: Options) -> Question:
    """The objects of a truth file, and the statistics of the files of predictions for it.

    Raises:
        UserError: a file is missing or damaged, or does not fit the truth.
    """
    truth = read_truth(file)
    results = [read_results(one, truth) for one in files]
    learned = truth if options.train is None else _alike(read_truth(options.train), truth)
    masks = _masks_wanted(results) if options.masks is None else options.masks
    matches, floor = (_masks if masks else _boxes)(truth, learned, files, results, options.iou_threshold)
    named = dict(zip(names_of(files), matches, strict=True))
    what = "masks" if masks else "boxes"
    return detection.question(what, truth.classes, truth.names, named, floor, options)


def _masks_wanted(results: list[Results]) -> bool:
    rows = [row for one in results for mine in one.values() for row in mine]
    return any("segmentation" in row for row in rows) and not any("bbox" in row for row in rows)


def _alike(train: CocoTruth, truth: CocoTruth) -> CocoTruth:
    if train.categories != truth.categories:
        raise UserError(f"{train.file}: its categories are not those of {truth.file}; --train needs the same")
    return train


def _boxes(
    truth: CocoTruth, train: CocoTruth, files: list[Path], results: list[Results], iou_threshold: float
) -> tuple[list[Matches], Matches | None]:
    records = _records(truth)
    learned = records if train is truth else _records(train)
    founds = [_founds(file, rows, truth) for file, rows in zip(files, results, strict=True)]
    return detection.match_boxes(records, learned, founds, truth.classes, iou_threshold)


def _records(truth: CocoTruth) -> list[Record]:
    """The images with their boxes, in the form that collect writes."""
    faults = Faults(truth.file)
    records = []
    for image in truth.images:
        boxes = []
        for row in truth.annotations[image]:
            corners = json_files.box(row.get("bbox"))
            if corners is None:
                faults.add(f"annotation {row.get('id')!r}: {_bad_box(row)}")
                continue
            boxes.append(Box(label_of(row, truth), corners, bool(row.get("iscrowd", 0))))
        records.append(_record(truth, image, boxes))
    faults.settle()
    return records


def _record(truth: CocoTruth, image: Id, boxes: list[Box]) -> Record:
    width, height = truth.sizes[image] or (0, 0)
    return Record(str(image), truth.images[image], None, "", "", width, height, "", None, "", {}, tuple(boxes))


def _founds(file: Path, rows: Results, truth: CocoTruth) -> list[Found]:
    faults = Faults(file)
    founds = []
    for image, mine in rows.items():
        boxes = []
        for row in mine:
            corners = json_files.box(row.get("bbox"))
            if corners is None:
                faults.add(f"image_id {image!r}: {_bad_box(row)}")
                continue
            boxes.append(corners)
        founds.append(Found(np.array(boxes, dtype=np.float64).reshape(-1, 4), *_labels_and_scores(mine, truth)))
    faults.settle()
    return founds


def _labels_and_scores(rows: Rows, truth: CocoTruth) -> tuple[np.ndarray, np.ndarray]:
    labels = np.array([label_of(row, truth) for row in rows], dtype=np.int64)
    return labels, np.array([json_files.number(row.get("score", 1)) for row in rows], dtype=np.float64)


def _bad_box(row: Row) -> str:
    if "bbox" not in row:
        return "it has no bbox; write x, y, width and height in pixels" + (
            ", or add --masks" if "segmentation" in row else ""
        )
    return f"bbox {row['bbox']!r:.80} must be four finite numbers: x, y, width, height, in pixels"


def _masks(
    truth: CocoTruth, train: CocoTruth, files: list[Path], results: list[Results], iou_threshold: float
) -> tuple[list[Matches], Matches | None]:
    """The matches of each file, and the floor: the mean box of each class, filled."""
    truths, count = _masks_of(truth.file, truth.annotations, truth), len(truth.classes)
    matches = []
    for file, rows in zip(files, results, strict=True):
        matches.append(mask_matching.match(truths, _masks_of(file, rows, truth), count, iou_threshold))
    records = _boxed(truth, truths)
    learned = records if train is truth else _boxed(train, _masks_of(train.file, train.annotations, train))
    constant = []
    for record, found in zip(records, constant_boxes(learned, records, truth.classes), strict=True):
        rles = _filled(found.boxes, (record.width, record.height))
        crowd = np.zeros(len(rles), dtype=bool)
        constant.append(Masks(rles, found.labels, _areas(rles), crowd, found.scores))
    return matches, mask_matching.match(truths, constant, count, iou_threshold)


def _masks_of(file: Path, rows: Results, truth: CocoTruth) -> list[Masks]:
    faults = Faults(file)
    found = []
    for image, mine in rows.items():
        size, rles = truth.sizes[image], []
        if size is None:
            raise UserError(f"{truth.file}: image {image!r}: masks need width and height of every image; add them")
        for row in mine:
            try:
                rles.append(rle_of(row.get("segmentation"), size))
            except BadShape as bad:
                faults.add(f"image_id {image!r}, category_id {row['category_id']!r}: {bad.detail}")
        if len(rles) < len(mine):
            continue
        areas = _areas(tuple(rles))
        for place, row in enumerate(mine):
            stated = json_files.number(row.get("area"))
            if file == truth.file and not np.isnan(stated):
                areas[place] = stated
        crowd = np.array([bool(row.get("iscrowd", 0)) for row in mine], dtype=bool)
        labels, scores = _labels_and_scores(mine, truth)
        found.append(Masks(tuple(rles), labels, areas, crowd, scores))
    faults.settle()
    return found


def _areas(rles: tuple[Rle, ...]) -> np.ndarray:
    return np.asarray(mask.area(list(rles)), dtype=np.float64) if rles else np.zeros(0)


def _filled(boxes: np.ndarray, size: tuple[int, int]) -> tuple[Rle, ...]:
    return tuple(mask.frPyObjects(boxes.tolist(), size[1], size[0])) if len(boxes) else ()


def _boxed(truth: CocoTruth, masks: list[Masks]) -> list[Record]:
    """The images with the box around each mask."""
    records = []
    for image, mine in zip(truth.images, masks, strict=True):
        corners = np.asarray(mask.toBbox(list(mine.rles))).tolist() if mine.rles else []
        boxes = [
            Box(int(label), (x, y, width, height), bool(crowd))
            for (x, y, width, height), label, crowd in zip(corners, mine.labels, mine.crowd, strict=True)
        ]
        records.append(_record(truth, image, boxes))
    return records


def rle_of(segmentation: object, size: tuple[int, int]) -> Rle:
    """The packed run lengths of polygons or of run lengths, in an image of (width, height).

    Raises:
        BadShape: what is wrong with the segmentation.
    """
    width, height = size
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, width, height)
    if not isinstance(segmentation, list) or not segmentation:
        raise BadShape("", "it has no segmentation; polygons or run lengths (size, counts) are needed")
    for part in segmentation:
        values = [json_files.number(value) for value in part] if isinstance(part, list) else []
        if len(values) < 6 or len(values) % 2 or np.isnan(values).any():
            raise BadShape("", f"polygon {part!r:.80} must be x1, y1, x2, y2, x3, y3, ..., all finite")
    found: Rle = mask.merge(mask.frPyObjects(segmentation, height, width))
    return found


def _of_runs(segmentation: Row, width: int, height: int) -> Rle:
    stated, counts = segmentation.get("size"), segmentation.get("counts")
    if stated != [height, width]:
        raise BadShape("", f"run lengths of size {stated!r:.80}; the truth says [{height}, {width}]")
    lengths = unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(one) is int and one >= 0 for one in lengths):
        raise BadShape("", f"counts {counts!r:.80} must be run lengths: a text or a list of whole numbers")
    if sum(lengths) != width * height:
        raise BadShape("", f"run lengths of {sum(lengths)} pixels; the image has {width * height}")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode()}
    found: Rle = mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    return found
