"""Tables about the data: sources, splits, moved images, leaks between splits and problems found in the files."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from retrace.data import audit as measure
from retrace.data.manifest import read_manifest
from retrace.documents.derived import Audit, Derived, MoveCount, ProblemCount
from retrace.report.blocks import Table, Text, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT, Ledger, read_csv

SHOWN = 10  # rows of a list whose length depends on the data set
LEAKS_SHOWN = 50


def audit(inputs: Inputs) -> Audit:
    """Counts of moves, leaks and problems, and box sizes for detection."""
    moves = Counter((move.origin, move.to, move.reason) for move in inputs.splits.moves)
    leaks = Counter(leak.kind for leak in inputs.splits.leaks)
    raw = Path("data", inputs.study, "raw")
    problems = Counter((row["kind"], row["action"]) for row in read_csv(raw / "problems.csv"))
    boxes = inputs.params.task == "detection"
    records = read_manifest(raw).records.values() if boxes else ()
    return Audit(
        images=sum(source.images for source in inputs.dataset.sources),
        left_out=len(inputs.splits.left_out),
        moved=len(inputs.splits.moves),
        moves=[MoveCount(origin=a, to=b, reason=why, images=n) for (a, b, why), n in sorted(moves.items())],
        leaks={"total": len(inputs.splits.leaks), **dict(sorted(leaks.items()))},
        problems=[ProblemCount(kind=kind, action=action, files=n) for (kind, action), n in sorted(problems.items())],
        box_sizes=measure.box_sizes(records, inputs.params.classes) if boxes else None,
    )


def sources(inputs: Inputs, ledger: Ledger) -> Table:
    """Images collected per source."""
    file, rows = inputs.file_dataset, []
    for index, source in enumerate(inputs.dataset.sources):
        counts = [cell(ledger.num(file, f"sources.{index}.{name}", "count")) for name in ("images", "labelled")]
        rows.append((cell(source.name), cell(source.split or "by ratio"), *counts))
    rows.append(
        (
            cell("all sources"),
            cell(""),
            cell(ledger.num(inputs.file_own("derived.json"), "audit.images", "count")),
            cell(""),
        )
    )
    return Table("sources", "Collected images", ("Source", "Split as given", "Images", "Labeled"), tuple(rows))


def problems(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """The problems that `collect` found, by kind, and what was done with the files."""
    own, rows = inputs.file_own("derived.json"), []
    for index, row in enumerate(derived.audit.problems):
        count = cell(ledger.num(own, f"audit.problems.{index}.files", "count"))
        rows.append((cell(row.kind.replace("_", " ")), cell(row.action), count))
    note = run(
        ledger.num(inputs.file_dataset, "quarantined", "count"),
        f" files were set aside (quarantined). data/{inputs.study}/raw/problems.csv lists every problem with its file.",
    )
    columns = ("Problem", "File was", "Files")
    return Table("problems", "Problems found in the files", columns, tuple(rows), note) if rows else None


def polygons(inputs: Inputs, ledger: Ledger) -> Text | None:
    """A warning where the labels are polygons instead of boxes."""
    if "polygon_to_box" not in inputs.dataset.problems:
        return None
    count = ledger.num(inputs.file_dataset, "problems.polygon_to_box", "count")
    text = " label files hold polygons; each was read as the box around its corners (data.source.polygons: to_boxes)."
    return Text(run(count, text), "warn")


def rare(inputs: Inputs, ledger: Ledger) -> Text | None:
    """Classes with fewer instances in a split than `evaluate.min_reliable`, with their counts."""
    least = inputs.params.evaluate.min_reliable
    counts = {split: row for split, row in inputs.splits.counts.after.items() if row.images}
    parts: list[Any] = []
    for split, names in measure.unreliable_classes(counts, least).items():
        for name in names:
            seen = _count(inputs, ledger, "after", f"{split}.classes.{name}.instances")
            parts += [", " if parts else "", f"{name} in {split} (n = ", seen, ")"]
    limit = ledger.num(inputs.file_own("parameters.json"), "evaluate.min_reliable", "count")
    if not parts:
        return Text(run("No class has fewer than ", limit, " instances in any split."))
    return Text(run("These classes have fewer than ", limit, " instances in a split: ", *parts, "."), "warn")


def box_sizes(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Histogram of the box sizes of every class, for detection."""
    if derived.audit.box_sizes is None:
        return None
    file, edges, rows = inputs.file_own("derived.json"), measure.BOX_EDGES, []
    histogram = derived.audit.box_sizes
    used = max((index for counts in histogram.values() for index, count in enumerate(counts) if count), default=0) + 1
    for name in histogram:
        cells = (ledger.num(file, f"audit.box_sizes.{name}.{index}", "count") for index in range(used))
        rows.append((cell(name), *(cell(number) for number in cells)))
    names = [f"{low} to {high}" for low, high in pairwise(edges[:-1])] + [f"{edges[-2]} and more"]
    note = "Boxes of all splits by the square root of their area in pixels (COCO: small below 32, large above 96)."
    return Table("box_sizes", "Box sizes", ("Class", *names[:used]), tuple(rows), (note,))


def no_problems(inputs: Inputs) -> Text | None:
    """A sentence for the case without any problem."""
    return None if inputs.dataset.problems else Text(("No unreadable, mismatched or malformed file was found.",))


def split_sizes(inputs: Inputs, ledger: Ledger) -> Table:
    """Images per split as given and after rebalancing."""
    rows = []
    for split in inputs.splits.counts.after:
        before, after = (_count(inputs, ledger, when, f"{split}.images") for when in ("before", "after"))
        rows.append((cell(split), cell(before), cell(after)))
    return Table("split_sizes", "Splits", ("Split", "Images as given", "Images used"), tuple(rows))


def class_counts(inputs: Inputs, ledger: Ledger) -> Table:
    """Instances of every class per split, as given and used."""
    splits = [name for name in ("train", "val", "test") if name in inputs.splits.counts.after]
    rows = []
    for name in inputs.params.classes:
        cells = []
        for split in splits:
            before, after = (
                _count(inputs, ledger, when, f"{split}.classes.{name}.instances") for when in ("before", "after")
            )
            same = str(getattr(before, "text", before)) == str(getattr(after, "text", after))
            cells.append(cell(after) if same else cell(before, " → ", after, tone="good"))
        rows.append((cell(name), *cells))
    unit = "an object" if inputs.params.task == "detection" else "an image in which the class covers enough pixels"
    least = inputs.splits.minimum
    note = run(f"An instance is {unit}. An arrow shows a count as given and after rebalancing.")
    for split in ("val", "test"):
        if getattr(least, split):
            note = run(
                note, f" The minimum in {split} is ", ledger.num(inputs.file_splits, f"minimum.{split}", "count"), "."
            )
    return Table("class_counts", "Instances of every class", ("Class", *splits), tuple(rows), note)


def _count(inputs: Inputs, ledger: Ledger, when: str, key: str) -> Any:
    try:
        return ledger.num(inputs.file_splits, f"counts.{when}.{key}", "count")
    except KeyError:
        return ABSENT


def moves(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Moved images by reason."""
    file, rows = inputs.file_own("derived.json"), []
    for index, move in enumerate(derived.audit.moves[:SHOWN]):
        count = ledger.num(file, f"audit.moves.{index}.images", "count")
        rows.append((cell(move.origin or ABSENT), cell(move.to or ABSENT), cell(move.reason), cell(count)))
    note = run(
        ledger.num(file, "audit.moved", "count"),
        f" images were moved in total; {inputs.file_splits} lists each image with the reason.",
    )
    return Table("moves", "Moved images", ("From", "To", "Reason", "Images"), tuple(rows), note) if rows else None


def leaks(inputs: Inputs, ledger: Ledger) -> Table | None:
    """Images of one scene that are in more than one split as given."""
    rows = []
    for index, leak in enumerate(inputs.splits.leaks[:LEAKS_SHOWN]):
        ids = leak.ids
        listed = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        distance = (
            ledger.num(inputs.file_splits, f"leaks.{index}.distance", "count") if leak.distance is not None else ABSENT
        )
        rows.append((cell(leak.kind), cell(listed), cell(" / ".join(leak.splits)), cell(distance)))
    total = ledger.num(inputs.file_own("derived.json"), "audit.leaks.total", "count")
    limit = f"; the first {LEAKS_SHOWN} are shown" if len(inputs.splits.leaks) > LEAKS_SHOWN else ""
    note = run(
        total,
        f" leaks between the splits as given{limit}. {inputs.file_splits} lists all of them. "
        "Distance is the number of differing bits of the 64-bit perceptual hashes.",
    )
    return (
        Table("leaks", "Leaks", ("Kind", "Images", "Splits as given", "Distance"), tuple(rows), note) if rows else None
    )


def duplicates(inputs: Inputs, ledger: Ledger) -> Text:
    """How many exact and near duplicates, groups and leaks there are."""
    file = inputs.file_splits
    exact, near, groups = (ledger.num(file, f"duplicates.{name}", "count") for name in ("exact", "near", "groups"))
    total = ledger.num(inputs.file_own("derived.json"), "audit.leaks.total", "count")
    return Text(
        run(
            "Exact duplicates: ",
            exact,
            ". Near duplicates: ",
            near,
            ". Groups: ",
            groups,
            ". Leaks between the splits as given, by this group rule: ",
            total,
            ".",
        )
    )


def lost(inputs: Inputs, ledger: Ledger) -> Text | None:
    """A warning for classes that lose more than a third of the groups that hold them in train."""
    parts: list[Any] = []
    for index, loss in enumerate(inputs.splits.losses):
        before, after = (
            ledger.num(inputs.file_splits, f"losses.{index}.{key}", "count") for key in ("before", "after")
        )
        parts += [", " if parts else "", f"{loss.name} (", before, " → ", after, ")"]
    return Text(run("Rebalancing takes groups of these classes from train: ", *parts, "."), "warn") if parts else None


def suspected(inputs: Inputs, ledger: Ledger) -> Text | None:
    """A warning for clips, copies and similar images that lie in several splits although no group joins them."""
    names = [f"{one.name} ({one.kind})" for one in inputs.splits.suspected]
    if not names:
        return None
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    listed = f"{', '.join(names[:SHOWN])}{more}"
    text = f"These clips, photographs and sets of similar images are probably cut by the splits: {listed}. "
    return Text(run(text, f"{inputs.file_splits} lists their images; data.group keeps images together."), "warn")


def left_out(inputs: Inputs, ledger: Ledger) -> Text | None:
    """Unlabeled images that were left out of pre-training."""
    rows = inputs.splits.left_out
    if not rows:
        return None
    count = ledger.num(inputs.file_own("derived.json"), "audit.left_out", "count")
    return Text(run(count, " unlabeled images are near-duplicates of held-out ones and were left out of pre-training."))


def unreliable(inputs: Inputs, ledger: Ledger, split: str) -> Text | None:
    """Classes with too few examples on a split for a reliable score."""
    phase = inputs.params.phase
    least = inputs.metrics[phase].min_reliable
    parts: list[Any] = []
    for name in inputs.params.classes:
        if inputs.seen(phase, split, name) < least:
            key = f"splits.{split}.per_class.{name}.{inputs.seen_key}"
            parts += [", " if parts else "", f"{name} (n = ", ledger.num(inputs.file_metrics(phase), key, "count"), ")"]
    if not parts:
        return None
    return Text(
        run(
            f"These classes have too few examples on {split} for a reliable score: ",
            *parts,
            ". At least ",
            ledger.num(inputs.file_metrics(phase), "min_reliable", "count"),
            " are needed.",
        ),
        "warn",
    )
