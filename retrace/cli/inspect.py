"""`retrace inspect`: recognize a folder as it was exported, say what is in it, and write a study file for it."""

import re
from collections import Counter
from pathlib import Path
from typing import get_args

from tabulate import tabulate

from retrace.data.audit import SPLITS
from retrace.data.inspection.folder import Candidate, Folder, Task
from retrace.data.inspection.formats import chosen
from retrace.data.inspection.planning import Inspected, inspected
from retrace.data.inspection.study import study_text
from retrace.errors import UserError
from retrace.files import write_text

STUDIES = Path("studies")
SHOWN = 3  # examples of each kind of problem
CLIPS_SHOWN = 8
WHAT = {
    "clip": "frames of one clip",
    "copies": "copies of one photograph",
    "mirrored": "mirrored or rotated copies of one photograph",
    "similar": "images that resemble each other closely",
}


def inspect(folder: Path, name: str | None, kind: str | None, task: str | None, force: bool) -> list[str]:
    """Write studies/<name>.yaml for a folder; returns the lines to print.

    name: of the study; None: the folder's. kind: `data.source.kind` to use; task: segmentation | detection; None: what
    explains most images. Raises `UserError` where nothing is recognized or the study file is there already.
    """
    if task is not None and task not in get_args(Task):
        raise UserError(f"--task {task!r}: allowed: {', '.join(get_args(Task))}")
    study = name or study_name(folder)
    path = STUDIES / f"{study}.yaml"
    if path.exists() and not force:
        raise UserError(f"{path}: exists; give another name with --name, or overwrite it with --force")
    wanted: Task | None = "segmentation" if task == "segmentation" else "detection" if task == "detection" else None
    candidate, others = chosen(Folder.of(folder), kind, wanted)
    result = inspected(study, data_root(folder), folder, candidate)
    write_text(path, study_text(result.plan))
    return [*_described(result, others), "", f"{path} written; next: retrace use {study} && dvc repro"]


def study_name(folder: Path) -> str:
    """A folder's name as the name of a study: lower case, digits and underscores, a letter first."""
    text = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return text if re.match(r"[a-z]", text) else f"study_{text}".rstrip("_")


def data_root(folder: Path) -> str:
    """`data.root` of a folder: relative inside of the project, absolute elsewhere."""
    full, here = folder.resolve(), Path.cwd().resolve()
    return full.relative_to(here).as_posix() if full.is_relative_to(here) else full.as_posix()


def _described(result: Inspected, others: list[Candidate]) -> list[str]:
    one, sizes = result.plan.candidate, result.contents.sizes()
    most = ", ".join(f"{count} of {width}x{height}" for (width, height), count in sizes[:3])
    more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
    lines = [f"{one.format}, for {one.task}; images: {most}{more}"]
    lines += [f"note: {note}" for note in one.notes]
    if others:
        listed = dict.fromkeys(f"{other.source['kind']} ({other.task}, {other.images} images)" for other in others)
        lines.append(f"also recognized: {', '.join(listed)}; choose with --format and --task, or name a folder inside")
    return [*lines, "", _table(result), *_problems(result), *_sequences(result)]


def _table(result: Inspected) -> str:
    """Images of every split, and per class the objects, or the images and the share of pixels."""
    counts = result.contents.counts(result.params)
    splits = [split for split in SPLITS if counts[split].images]
    rows = [["images", *(f"{counts[split].images:,}" for split in splits)]]
    pixels = sum(row.pixels or 0 for split in splits for row in counts[split].classes.values())
    for name in result.params.classes:
        cells = [f"{counts[split].classes[name].instances:,}" for split in splits]
        if pixels:
            own = sum(counts[split].classes[name].pixels or 0 for split in splits)
            cells.append(f"{100 * own / pixels:.2f} %")
        rows.append([name, *cells])
    heads = ["images with the class" if pixels else "boxes", *splits, *(["of the pixels"] if pixels else [])]
    return tabulate(rows, headers=heads, stralign="right", disable_numparse=True)


def _problems(result: Inspected) -> list[str]:
    rows = sorted(result.contents.problems.rows)
    lines = []
    for (kind, action), count in sorted(Counter((row.kind, row.action) for row in rows).items()):
        shown = [row for row in rows if (row.kind, row.action) == (kind, action)][:SHOWN]
        lines.append(f"problem {kind}: {count}, {action}")
        lines += [f"  {row.path}: {row.detail}" for row in shown]
    return ["", *lines] if lines else []


def _sequences(result: Inspected) -> list[str]:
    """What probably belongs together, and what of it lies in several splits as given."""
    lines = []
    for kind, what in WHAT.items():
        found = [one for one in result.suspected if one.kind == kind]
        broken = [one for one in result.cut if one.kind == kind]
        if not found:
            continue
        images = sum(len(one.ids) for one in found)
        lines.append(f"{what}: {len(found)} ({images} images); in several splits as given: {len(broken)}")
        lines += [f"  {one.name}: {len(one.ids)} images" for one in broken[:CLIPS_SHOWN]]
    return ["", *lines] if lines else []
