"""Folders of PNG masks: a class index in every pixel, 255 where it is not scored; a prediction has the truth's name."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrace.data.formats import Codes
from retrace.data.formats.class_files import IGNORED, read_class_file
from retrace.data.formats.rawmask import read_raw_mask, to_classes
from retrace.data.hashing import BadImage
from retrace.data.manifest import IGNORE
from retrace.errors import UserError
from retrace.evaluation.floor import Places, constant_masks, named, places, spread
from retrace.evaluation.scores.segmentation import confusion_matrix, scores
from retrace.scoring.measure import threads
from retrace.scoring.question import CLASS_FILES, Answer, Faults, Options, Question, names_of
from retrace.statistics.bootstrap import Statistic, of_totals


@dataclass(frozen=True)
class Classes:
    """The names of the classes, and the value of each in the masks."""

    names: tuple[str, ...]
    values: tuple[int, ...]

    def codes(self, truth: bool) -> Codes:
        """What the values mean; only a truth has pixels that are not scored."""
        pairs = [(value, place) for place, value in enumerate(self.values)]
        if truth and IGNORE not in self.values:
            pairs.append((IGNORE, IGNORE))
        hint = "name all classes with --classes" if truth else "every pixel of a prediction needs a class of the truth"
        return Codes(tuple(pairs), hint=hint)


def ask(folder: Path, predictions: list[Path], options: Options) -> Question:
    """The masks of a folder, and the statistics of the folders of predictions for them.

    Raises:
        UserError: a mask is missing, has another size than its truth or values without a meaning.
    """
    truths = _masks(folder)
    classes = _classes(folder, truths, options.classes)
    files = [_paired(path, truths) for path in predictions]
    train = _learned(options.train or folder, classes)
    names = list(truths)
    counted = np.zeros((1 + len(files), len(names), len(classes.names), len(classes.names)), dtype=np.int64)

    def count(row: int) -> list[tuple[int, str]]:
        """Fill the matrices of an image; returns the faults with the place of their file, 0 for the truth."""
        name = names[row]
        try:
            truth = _read(truths[name], classes.codes(truth=True))
        except BadImage as error:
            return [(0, f"{name}.png: {error.detail}")]
        counted[0, row] = confusion_matrix(truth, train.answer(truth.shape), len(classes.names))
        wrong = []
        for place, file in enumerate(files, start=1):
            try:
                found = _read(file[name], classes.codes(truth=False))
                if found.shape != truth.shape:
                    shapes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (found.shape, truth.shape))
                    raise BadImage("", f"prediction and truth differ in size: {shapes} pixels")
                counted[place, row] = confusion_matrix(truth, found, len(classes.names))
            except BadImage as error:
                wrong.append((place, f"{name}.png: {error.detail}"))
        return wrong

    faults = [Faults(path) for path in (folder, *predictions)]
    with ThreadPoolExecutor(threads()) as pool:
        for wrong in pool.map(count, range(len(names))):
            for place, detail in wrong:
                faults[place].add(detail)
    for fault in faults:
        fault.settle()
    if not counted[0].any():
        raise UserError(f"{folder}: not one pixel is scored (all are {IGNORE}), so no score is defined")
    floor, answers = constant_masks(train, counted[0], classes.names, ())
    listed = zip(names_of(predictions), counted[1:], strict=True)
    return Question(
        task="segmentation",
        what="pixels",
        classes=classes.names,
        images=tuple(names),
        seen=counted[0].sum(2),
        answers=tuple(Answer(name, _statistic(matrices, classes.names)) for name, matrices in listed),
        floor=floor,
        floor_answers=answers,
        train=options.train.name if options.train is not None else "",
    )


def _statistic(matrices: np.ndarray, classes: tuple[str, ...]) -> Statistic:
    whole = matrices.sum(0)
    return of_totals(lambda totals: named(scores(totals, (), whole), classes), matrices)


def _masks(folder: Path) -> dict[str, Path]:
    """Path below the folder without its ending -> file, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; predictions for a folder of masks are folders of masks, too")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".png" and path.is_file()]
    if not paths:
        raise UserError(f"{folder}: no mask (.png) in it")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _paired(folder: Path, truths: Mapping[str, Path]) -> dict[str, Path]:
    """The mask of every image of the truth."""
    found, faults = _masks(folder), Faults(folder)
    for name in truths:
        if name not in found:
            faults.add(f"{name}.png: missing; every mask of the truth needs a prediction of its name")
    for name in found:
        if name not in truths:
            faults.add(f"{name}.png: there is no such mask in the truth")
    faults.settle()
    return found


def _classes(folder: Path, truths: Mapping[str, Path], given: tuple[str, ...] | None) -> Classes:
    """As given, else from a file in the folder, else one class for each value that occurs."""
    if given is not None:
        return Classes(given, tuple(range(len(given))))
    for name in CLASS_FILES:
        file = folder / name
        if file.is_file():
            table = {value: one for value, one in sorted(read_class_file(file, str(file)).items()) if one != IGNORED}
            return Classes(tuple(table.values()), tuple(table))
    faults = Faults(folder)
    values: set[int] = set()
    for name, path in truths.items():
        try:
            values |= set(np.unique(_raw(path)).tolist())
        except BadImage as error:
            faults.add(f"{name}.png: {error.detail}")
    faults.settle()
    listed = tuple(sorted(values - {IGNORE}))
    if not listed:
        raise UserError(f"{folder}: not one pixel is scored (all are {IGNORE}), so no score is defined")
    return Classes(tuple(f"class {value}" for value in listed), listed)


def _learned(folder: Path, classes: Classes) -> Places:
    """What the masks of a folder show where, for the constant answer."""
    masks = _masks(folder)

    def read() -> Iterator[np.ndarray]:
        for name in spread(list(masks)):
            try:
                yield _read(masks[name], classes.codes(truth=True))
            except BadImage as error:
                raise UserError(f"{folder}: {name}.png: {error.detail}") from None

    return places(read(), len(classes.names))


def _raw(path: Path) -> np.ndarray:
    """The values as stored; raises `BadImage` for colors, too."""
    raw, colored = read_raw_mask(path)
    if colored:
        raise BadImage("", "the mask holds RGB colors; write the class index into every pixel")
    return raw


def _read(path: Path, codes: Codes) -> np.ndarray:
    """Class indices uint8 [H, W]; raises `BadImage`."""
    return to_classes(_raw(path), False, codes)
