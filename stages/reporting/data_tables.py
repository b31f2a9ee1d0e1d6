"""Tables about the data: what was collected, how it is split, what moved, what leaks, what was bad."""

from collections import Counter
from typing import Any

from stages.reporting.blocks import Table, Text, cell, run
from stages.reporting.inputs import Inputs
from stages.reporting.numbers import ABSENT, Ledger

SHOWN = 10  # rows of a list that the data set decides the length of


def audit(inputs: Inputs) -> dict[str, Any]:
    """Counts of moves by (from, to, reason), leaks by kind and the classes that are too rare, for derived.json."""
    moves = Counter((move["from"], move["to"], move["reason"]) for move in inputs.splits["moves"])
    leaks = Counter(leak["kind"] for leak in inputs.splits["leaks"])
    sources = inputs.dataset["sources"]
    return {
        "images": sum(source["images"] for source in sources),
        "left_out": len(inputs.splits.get("left_out") or []),
        "moved": len(inputs.splits["moves"]),
        "moves": [{"from": a, "to": b, "reason": why, "images": n} for (a, b, why), n in sorted(moves.items())],
        "leaks": {"total": len(inputs.splits["leaks"]), **dict(sorted(leaks.items()))},
    }


def sources(inputs: Inputs, ledger: Ledger) -> Table:
    """Images collected per source."""
    file, rows = inputs.file_dataset, []
    for index, source in enumerate(inputs.dataset["sources"]):
        counts = [cell(ledger.num(file, f"sources.{index}.{name}", "count")) for name in ("images", "labelled")]
        rows.append((cell(str(source["name"])), cell(str(source["split"] or "by ratio")), *counts))
    rows.append(
        (
            cell("all sources"),
            cell(""),
            cell(ledger.num(inputs.file_own("derived.json"), "audit.images", "count")),
            cell(""),
        )
    )
    return Table("sources", "Collected images", ("Source", "Split as given", "Images", "Labelled"), tuple(rows))


def problems(inputs: Inputs, ledger: Ledger) -> Table | None:
    """Bad files by kind."""
    file = inputs.file_dataset
    kinds = inputs.dataset["problems"]
    rows = [(cell(kind), cell(ledger.num(file, f"problems.{kind}", "count"))) for kind in kinds]
    path = f"data/{inputs.study}/raw/problems.csv"
    note = run(
        ledger.num(file, "quarantined", "count"), f" files were set aside (quarantined); {path} lists every problem."
    )
    return Table("problems", "Bad files", ("Problem", "Count"), tuple(rows), note) if rows else None


def no_problems(inputs: Inputs) -> Text | None:
    """Said aloud when there is none."""
    return None if inputs.dataset["problems"] else Text(("No unreadable, mismatched or malformed file was found.",))


def split_sizes(inputs: Inputs, ledger: Ledger) -> Table:
    """Images per split as given and after rebalancing."""
    rows = []
    for split in inputs.splits["counts"]["after"]:
        before, after = (_count(inputs, ledger, when, f"{split}.images") for when in ("before", "after"))
        rows.append((cell(split), cell(before), cell(after)))
    return Table("split_sizes", "Splits", ("Split", "Images as given", "Images used"), tuple(rows))


def class_counts(inputs: Inputs, ledger: Ledger) -> Table:
    """Instances of every class per split, as given and used."""
    splits = [name for name in ("train", "val", "test") if name in inputs.splits["counts"]["after"]]
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
    unit = "objects" if inputs.params.task == "detection" else "images in which the class covers enough pixels"
    least = inputs.splits.get("minimum", {})
    note = run(f"Instances ({unit}); as given → used where rebalancing changed them.")
    for split in ("val", "test"):
        if least.get(split):
            note = run(note, f" Minimum in {split}: ", ledger.num(inputs.file_splits, f"minimum.{split}", "count"), ".")
    return Table("class_counts", "Instances of every class", ("Class", *splits), tuple(rows), note)


def _count(inputs: Inputs, ledger: Ledger, when: str, key: str) -> Any:
    try:
        return ledger.num(inputs.file_splits, f"counts.{when}.{key}", "count")
    except KeyError:
        return ABSENT


def moves(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Table | None:
    """Moved images by reason."""
    file, rows = inputs.file_own("derived.json"), []
    for index, move in enumerate(derived["audit"]["moves"][:SHOWN]):
        count = ledger.num(file, f"audit.moves.{index}.images", "count")
        rows.append((cell(move["from"] or ABSENT), cell(move["to"] or ABSENT), cell(move["reason"]), cell(count)))
    note = run(
        ledger.num(file, "audit.moved", "count"),
        f" images moved in all; {inputs.file_splits} lists each with its reason.",
    )
    return Table("moves", "Moved images", ("From", "To", "Reason", "Images"), tuple(rows), note) if rows else None


def leaks(inputs: Inputs, ledger: Ledger) -> Table | None:
    """Images of one scene that the given split put on both sides."""
    rows = []
    for index, leak in enumerate(inputs.splits["leaks"][:SHOWN]):
        ids = list(leak["ids"])
        listed = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        distance = (
            ledger.num(inputs.file_splits, f"leaks.{index}.distance", "count")
            if leak.get("distance") is not None
            else ABSENT
        )
        rows.append((cell(leak["kind"]), cell(listed), cell(" / ".join(leak["splits"])), cell(distance)))
    total = ledger.num(inputs.file_own("derived.json"), "audit.leaks.total", "count")
    note = run(
        total,
        f" leaks across the given splits; all in {inputs.file_splits}. Distance: bits of the 64-bit perceptual hash.",
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
            ". Leaks across the splits as given: ",
            total,
            ".",
        )
    )


def left_out(inputs: Inputs, ledger: Ledger) -> Text | None:
    """Unlabeled images that pre-training must not see."""
    rows = inputs.splits.get("left_out") or []
    if not rows:
        return None
    count = ledger.num(inputs.file_own("derived.json"), "audit.left_out", "count")
    return Text(run(count, " unlabeled images are near-duplicates of held-out ones and were left out of pre-training."))


def unreliable(inputs: Inputs, ledger: Ledger, split: str) -> Text | None:
    """Classes whose scores rest on too few examples."""
    phase = inputs.params.phase
    least = inputs.metrics[phase]["min_reliable"]
    parts: list[Any] = []
    for name in inputs.params.classes:
        if inputs.seen(phase, split, name) < least:
            key = f"splits.{split}.per_class.{name}.{inputs.seen_key}"
            parts += [", " if parts else "", f"{name} (n = ", ledger.num(inputs.file_metrics(phase), key, "count"), ")"]
    if not parts:
        return None
    return Text(
        run(
            f"Too few examples on {split} for a reliable score: ",
            *parts,
            ". Reliable from ",
            ledger.num(inputs.file_metrics(phase), "min_reliable", "count"),
            ".",
        ),
        "warn",
    )
