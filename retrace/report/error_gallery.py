"""The images behind the confusion matrix: pictures of the worst of each class and of each cell."""

from itertools import zip_longest
from pathlib import Path

from retrace.documents.error_pictures import ErrorPicture
from retrace.errors import UserError
from retrace.report.blocks import Gallery, Picture, Swatch, Text, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Inline, Ledger, Num

BUDGET = 350_000  # bytes of all pictures together; the HTML page repeats them in base64, a third larger
Cell = tuple[int, int]  # truth, predicted


def targets(inputs: Inputs, split: str) -> dict[Cell, str]:
    """The cells of the confusion matrix of which the page shows pictures, and where it does."""
    return {cell: f"errors-{cell[0]}-{cell[1]}" for cell in _kept(inputs, split)}


def galleries(inputs: Inputs, ledger: Ledger, split: str) -> list[Gallery | Text]:
    """Pictures of the active phase on a split, a gallery per cell; those of the classes come first."""
    shown: list[Gallery | Text] = []
    for cell, rows in _kept(inputs, split).items():
        pictures = tuple(_picture(inputs, ledger, place, row) for place, row in rows)
        title = _title(inputs, ledger, split, cell)
        shown.append(Gallery(pictures, id=f"errors-{cell[0]}-{cell[1]}", title=title))
    if shown:
        shown.insert(0, Text(_introduction(inputs, split)))
    return shown


def _introduction(inputs: Inputs, split: str) -> Inline:
    start = f"Phase {inputs.params.phase} on {split}; each cell of the confusion matrix leads to its pictures. "
    if inputs.params.task == "segmentation":
        return (start + "The images with the most pixels of each error, its pixels marked.",)
    return (start + "The hits with the lowest IoU, the largest missed objects and the surest false alarms.",)


def _kept(inputs: Inputs, split: str) -> dict[Cell, list[tuple[int, ErrorPicture]]]:
    """The rows of errors.json by cell, with their places, as far as the budget goes."""
    names = [*inputs.params.classes, None]
    cells: dict[Cell, list[tuple[int, ErrorPicture]]] = {}
    for place, row in enumerate(inputs.errors):
        if row.split == split:
            cells.setdefault((names.index(row.truth), names.index(row.predicted)), []).append((place, row))
    of_classes = [cell for cell in cells if cell[0] == cell[1]]
    beside = [cell for cell in cells if cell[0] != cell[1]]
    left = BUDGET
    kept: set[Cell] = set()
    # in turn, so that many classes leave room for the cells beside the diagonal
    for pair in zip_longest(of_classes, beside):
        for cell in (cell for cell in pair if cell is not None):
            left -= sum(_path(inputs, row).stat().st_size for _, row in cells[cell])
            if left >= 0:
                kept.add(cell)
    return {cell: cells[cell] for cell in of_classes + beside if cell in kept}


def _path(inputs: Inputs, row: ErrorPicture) -> Path:
    path = Path("metrics", inputs.study, inputs.params.phase, row.file)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro` (or `dvc pull`)")
    return path


def _picture(inputs: Inputs, ledger: Ledger, place: int, row: ErrorPicture) -> Picture:
    file = f"metrics/{inputs.study}/{inputs.params.phase}/errors.json"
    facts: list[str | Num] = []
    if row.pixels is not None:
        facts += [", ", ledger.num(file, f"{place}.pixels", "count"), " pixels"]
    if row.IoU is not None:
        facts += [", IoU ", ledger.num(file, f"{place}.IoU", "fraction2")]
    if row.confidence is not None:
        facts += [", confidence ", ledger.num(file, f"{place}.confidence", "fraction2")]
    if row.side is not None:
        facts += [", side ", ledger.num(file, f"{place}.side", "count"), " pixels"]
    legend = tuple(Swatch(entry.name, entry.color, entry.style) for entry in row.legend)
    sha256 = ledger.picture(row.file, _path(inputs, row).read_bytes())
    return Picture(row.file, sha256, run(row.id, *facts), legend=legend)


def _title(inputs: Inputs, ledger: Ledger, split: str, cell: Cell) -> Inline:
    """`Rocks taken for Sky: 1,234 pixels`."""
    names = [*inputs.params.classes, None]
    truth, given = names[cell[0]], names[cell[1]]
    file, unit = inputs.file_metrics(inputs.params.phase), "pixels"
    if inputs.params.task == "detection":
        unit = "objects" if truth else "detections"
    if truth == given and inputs.params.task == "segmentation":
        return (f"{truth}: the images with the most wrong pixels",)
    if truth == given:
        return (f"{truth}: the hits with the lowest IoU",)
    words = f"{truth} missed" if given is None else f"{given} where there is none"
    if truth and given:
        words = f"{truth} taken for {given}"
    count = ledger.num(file, f"splits.{split}.confusion.{cell[0]}.{cell[1]}", "count")
    return run(f"{words}: ", count, f" {unit}")
