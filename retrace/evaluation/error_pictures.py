"""Pictures of errors: which images are behind a class, and behind a cell of the confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from retrace.documents.error_pictures import ErrorPicture
from retrace.documents.samples import Entry
from retrace.evaluation import pictures
from retrace.evaluation.scores.matching import Found, Truth, pair
from retrace.evaluation.work import Images, Work

CELLS = 24  # of the confusion matrix beside its diagonal, those with the largest shares of their row
CLASSES = 24  # on the diagonal, those with the largest share of errors
WIDTH, HEIGHT = 240, 180  # pixels of a picture, at most
CONTEXT = 3.0  # sides of the part of a photograph that is shown around a box, in sides of the box
LEAST = 64  # pixels of that part, at least
QUALITY = 60
FADED = 0.55  # share of gray in the photograph below the marks
# far from the colors of photographs, and of different lightness for the colorblind
MISSED, GIVEN = (255, 0, 170), (0, 220, 255)
TRUE, PREDICTED = "hit", "false alarm"  # the styles of boxes, which also differ by their lines

Cell = tuple[int, int]  # truth, predicted


@dataclass(frozen=True)
class Case:
    """One error of boxes: `thing` and `detection` are positions in the image's truth and predictions, or None.

    `worst`: cases are shown by this number, from high to low.
    """

    row: int
    thing: int | None
    detection: int | None
    overlap: float | None
    worst: float


def chosen_cells(counts: np.ndarray) -> list[Cell]:
    """The cells beside the diagonal with the largest shares of their row; counts: int64 [K, K], rows = truth."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [(truth, given) for truth, given in np.argwhere(counts > 0).tolist() if truth != given]
    return sorted(cells, key=lambda cell: (-shares[cell], cell))[:CELLS]


def chosen_classes(wrong: np.ndarray, all_of: np.ndarray) -> list[Cell]:
    """The diagonal's cells of the classes with the largest shares of errors; both int64 [C]."""
    shares = wrong / np.maximum(all_of, 1)
    classes = [index for index in range(len(wrong)) if wrong[index] > 0]
    return [(index, index) for index in sorted(classes, key=lambda index: (-shares[index], index))[:CLASSES]]


def draw_masks(work: Work, split: str, ids: list[str], matrices: np.ndarray) -> list[ErrorPicture]:
    """The images with the most pixels of each chosen error, `evaluate.samples` each; writes errors/<split>_*.jpg.

    matrices: int64 [N, C, C], a confusion matrix per image, rows = truth.
    """
    size = len(work.params.classes)
    right = matrices[:, range(size), range(size)]
    wrong = matrices.sum(1) + matrices.sum(2) - 2 * right  # [N, C]: pixels missed or wrongly given
    total = matrices.sum(0)
    cells = chosen_classes(wrong.sum(0), wrong.sum(0) + right.sum(0)) + chosen_cells(total)
    asked: dict[int, list[tuple[Cell, int]]] = {}
    for truth, given in cells:
        counts = wrong[:, truth] if truth == given else matrices[:, truth, given]
        for rank, row in enumerate(np.argsort(-counts, kind="stable")[: work.params.evaluate.samples].tolist()):
            if counts[row]:
                asked.setdefault(row, []).append(((truth, given), rank))
    rows, images = {}, Images(work.manifest, ids)
    for row in sorted(asked):
        image, mask, image_id = images[row]
        assert mask is not None  # only labeled images are scored
        predicted = work.predict([image])[0]
        for (truth, given), rank in asked[row]:
            file = f"errors/{split}_{truth}_{given}_{rank + 1}.jpg"
            missed, added = _marks(mask, predicted, truth, given, size)
            _save_marks(work.folder / file, image, missed, added)
            rows[cells.index((truth, given)), rank] = ErrorPicture(
                file=file,
                id=image_id,
                split=split,
                truth=work.params.classes[truth],
                predicted=work.params.classes[given],
                legend=_mask_legend(truth == given),
                pixels=int(missed.sum() + added.sum()),
            )
    return [rows[key] for key in sorted(rows)]


def _marks(mask: np.ndarray, predicted: np.ndarray, truth: int, given: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """bool [H, W] twice: pixels of the true class with another prediction, and pixels wrongly given to it.

    For two classes only the pixels of `truth` predicted as `given`, and none.
    """
    scored = mask < size
    if truth != given:
        missed = scored & (mask == truth) & (predicted == given)
        return missed, np.zeros_like(missed)
    return scored & (mask == truth) & (predicted != truth), scored & (mask != truth) & (predicted == truth)


def _mask_legend(of_class: bool) -> tuple[Entry, ...]:
    missed, added = ("#{:02x}{:02x}{:02x}".format(*color) for color in (MISSED, GIVEN))
    if not of_class:
        return (Entry(name="taken for the other class", color=missed),)
    return (Entry(name="missed", color=missed), Entry(name="wrongly given", color=added))


def _save_marks(path: Path, image: np.ndarray, missed: np.ndarray, added: np.ndarray) -> None:
    small = _fitted(Image.fromarray(image))
    shown = Image.blend(small, small.convert("L").convert("RGB"), FADED)
    for mark, color in ((missed, MISSED), (added, GIVEN)):
        # the share of marked pixels, raised: a thin error would fade away in a small picture
        share = Image.fromarray(mark.astype(np.uint8) * 255).resize(small.size, Image.Resampling.BOX)
        shown.paste(color, mask=share.point([min(225, 3 * value) for value in range(256)]))
    _save(path, shown)


def draw_boxes(
    work: Work, split: str, ids: list[str], truths: Sequence[Truth], founds: Sequence[Found], counts: np.ndarray
) -> list[ErrorPicture]:
    """The worst cases of each chosen error, `evaluate.samples` each; writes errors/<split>_*.jpg.

    counts: int64 [C+1, C+1] as `boxes.confusion` returns. A diagonal cell shows the hits with the lowest IoU.
    """
    size = len(work.params.classes)
    cases = _cases(truths, founds, size, work.params.evaluate.iou_threshold)
    diagonal = [cell for cell in sorted(cases) if cell[0] == cell[1]][:CLASSES]
    rows, images = [], Images(work.manifest, ids)
    names = [*work.params.classes, None]
    for truth, given in diagonal + chosen_cells(counts):
        worst = sorted(cases[truth, given], key=lambda case: (-case.worst, case.row, case.thing, case.detection))
        for rank, case in enumerate(worst[: work.params.evaluate.samples], start=1):
            file = f"errors/{split}_{truth}_{given}_{rank}.jpg"
            true, found = truths[case.row], founds[case.row]
            _save_case(work.folder / file, images[case.row][0], true, found, case)
            row = ErrorPicture(
                file=file,
                id=ids[case.row],
                split=split,
                truth=names[truth],
                predicted=names[given],
                legend=_box_legend(case),
                confidence=None if case.detection is None else float(found.scores[case.detection]),
                IoU=case.overlap,
                side=None if case.thing is None or case.detection is not None else _side(true, case.thing),
            )
            rows.append(row)
    return rows


def _cases(truths: Sequence[Truth], founds: Sequence[Found], size: int, iou_threshold: float) -> dict[Cell, list[Case]]:
    """What each cell of the confusion matrix counts. False alarms go by confidence, missed objects by their size."""
    cases: dict[Cell, list[Case]] = {}
    for row, (truth, found) in enumerate(zip(truths, founds, strict=True)):
        pairs, left = pair(truth, found, iou_threshold)
        for thing, detection, overlap in pairs:
            cell = int(truth.labels[thing]), int(found.labels[detection])
            worst = -overlap if cell[0] == cell[1] else float(found.scores[detection])
            cases.setdefault(cell, []).append(Case(row, thing, detection, overlap, worst))
        missed = set(np.flatnonzero(~truth.crowd).tolist()) - {thing for thing, _, _ in pairs}
        for thing in sorted(missed):
            cell = int(truth.labels[thing]), size
            cases.setdefault(cell, []).append(Case(row, thing, None, None, _side(truth, thing)))
        for detection in left:
            cell = size, int(found.labels[detection])
            cases.setdefault(cell, []).append(Case(row, None, detection, None, float(found.scores[detection])))
    return cases


def _side(truth: Truth, thing: int) -> float:
    return float(np.sqrt(truth.boxes[thing][2] * truth.boxes[thing][3]))


def _box_legend(case: Case) -> tuple[Entry, ...]:
    legend = []
    for name, kind, place in (("truth", TRUE, case.thing), ("prediction", PREDICTED, case.detection)):
        if place is not None:
            style = pictures.STYLES[kind]
            legend.append(Entry(name=name, color="#{:02x}{:02x}{:02x}".format(*style.color), style=style.line))
    return tuple(legend)


def _save_case(path: Path, image: np.ndarray, truth: Truth, found: Found, case: Case) -> None:
    boxes = []
    if case.thing is not None:
        boxes.append(pictures.Drawn(tuple(truth.boxes[case.thing]), "", TRUE))
    if case.detection is not None:
        boxes.append(pictures.Drawn(tuple(found.boxes[case.detection]), "", PREDICTED))
    part = around([one.box for one in boxes], (image.shape[1], image.shape[0]))
    left, top = part[:2]
    small = _fitted(Image.fromarray(image).crop(part))
    moved = [pictures.Drawn((x - left, y - top, w, h), "", one.kind) for one in boxes for x, y, w, h in (one.box,)]
    _save(path, pictures.with_boxes(small, moved, small.width / (part[2] - part[0])))


def around(boxes: Sequence[tuple[float, float, float, float]], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part (left, top, right, bottom) of an image of `size` (width, height) that shows boxes with their context."""
    low = np.min([(x, y) for x, y, _, _ in boxes], axis=0)
    high = np.max([(x + w, y + h) for x, y, w, h in boxes], axis=0)
    middle, half = (low + high) / 2, max(CONTEXT * float((high - low).max()), LEAST) / 2
    place = []
    for at, limit, reach in zip(middle, size, (half, half * HEIGHT / WIDTH), strict=True):
        wide = min(max(2 * reach, 1.0), limit)
        start = round(min(max(at - wide / 2, 0), limit - wide))
        place.append((start, min(limit, start + max(1, round(wide)))))
    return place[0][0], place[1][0], place[0][1], place[1][1]


def _fitted(image: Image.Image) -> Image.Image:
    scale = min(WIDTH / image.width, HEIGHT / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # colors at full resolution: the marks may be thin
    image.save(path, "JPEG", quality=QUALITY, optimize=True, subsampling=0)
