"""Stage rebalance: every class gets its minimum of validation and test instances, leaks are closed, fewest images move.

    python -m stages.rebalance

Reads `data/<study>/raw`, writes lists only (`data/<study>/splits`): no image is copied.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from tabulate import tabulate

from retrace.config.load import load
from retrace.config.schema import Params
from retrace.data.audit import SPLITS, find_leaks, split_counts, unlabeled_twins
from retrace.data.duplicates import Indices, join
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.moves import explain, shortfall_text
from retrace.data.partitions import copies_of, order_of, partitions, problem_of, train_losses, units_of
from retrace.data.rebalancing import Infeasible, Problem, assign
from retrace.data.sequences import cut, suspicions
from retrace.data.splits import write_list
from retrace.data.units import unit_names
from retrace.documents.manifest import Record
from retrace.documents.splits import (
    ClassLoss,
    Counts,
    Duplicates,
    LeftOut,
    Minimum,
    SplitCount,
    SplitSummary,
    Suspected,
)
from retrace.environment import unpinned_mark
from retrace.errors import UserError, stage
from retrace.files import whole_folder
from retrace.provenance.run_log import journal
from retrace.statistics.bootstrap import FEWEST_UNITS

SHOWN = 10  # lines of what cannot be met
NAMED = 5  # clips of each kind on the terminal
SUSPECTED = {
    "clip": "frames that look like one clip are",
    "copies": "copies of one photograph are",
    "mirrored": "mirrored or rotated copies of one photograph are",
    "similar": "images that resemble each other closely are",
}


class Warnings(TypedDict, total=False):
    """Optional fields of the summary."""

    losses: list[ClassLoss]
    suspected: list[Suspected]


def rebalance(params: Params, raw: Path, splits: Path) -> SplitSummary:
    """Read the manifest in `raw`, write the lists and summary.json into `splits`; returns the summary.

    Raises `UserError` if a split is missing or a minimum cannot be met; nothing is written then.
    """
    manifest = read_manifest(raw)
    records = [record for record in manifest.records.values() if record.split != "unlabeled"]
    _check_splits(params, records)
    options, min_pixels = params.rebalance, params.rebalance.min_pixels if params.task == "segmentation" else None
    given = {split: [r.id for r in records if r.split == split] for split in SPLITS}
    before = split_counts(manifest.records, given, params.classes, min_pixels)

    parts = partitions(records, options.duplicate_distance)
    problem = problem_of(records, params)
    try:
        target = assign(problem, order_of(records, problem.unit, params.seed))
    except Infeasible as error:
        tied = options.keep_groups and int(np.bincount(parts["groups"]).max()) > 1
        raise UserError(_infeasible(error, params, before, tied)) from None

    final = {split: [r.id for r, t in zip(records, target, strict=True) if SPLITS[t] == split] for split in SPLITS}
    held_out = [manifest.records[image_id] for split in ("val", "test") for image_id in final[split]]
    twins = unlabeled_twins(manifest.records.values(), held_out, options.duplicate_distance)
    after = split_counts(manifest.records, final, params.classes, min_pixels)
    summary = SplitSummary(
        moves=explain(records, problem, target, params.classes, options.duplicate_distance),
        left_out=[LeftOut(id=image_id, reason=_left_out(*twin)) for image_id, twin in twins.items()],
        counts=Counts(before=before, after=after),
        leaks=find_leaks(list(manifest.records.values()), options.duplicate_distance),
        duplicates=Duplicates(**{name: int((np.bincount(labels) > 1).sum()) for name, labels in parts.items()}),
        minimum=Minimum(val=options.min_val_instances, test=options.min_test_instances),
        **_warnings(params, records, problem, target),
        **unpinned_mark(),
    )
    _check_scored(params, manifest, final)
    unlabeled = [r.id for r in manifest.records.values() if r.split == "unlabeled" and r.id not in twins]
    with whole_folder(splits) as folder:
        for split in SPLITS:
            write_list(folder, split, final[split])
            write_list(folder, f"{split}_as_given", given[split])
        write_list(folder, "unlabeled", unlabeled)
        summary.write(folder / "summary.json")
    return summary


def _warnings(params: Params, records: list[Record], problem: Problem, target: Indices) -> Warnings:
    """Fields of the summary for classes that train loses and for clips that are cut; only those that are not empty."""
    parts = partitions(records, params.rebalance.duplicate_distance)
    groups = join(units_of(parts, keep_groups=True), copies_of(records))
    split = {record.id: SPLITS[index] for record, index in zip(records, target, strict=True)}
    found = [
        Suspected(kind=one.kind, name=one.name, ids=list(one.ids), splits=_splits_of(one.ids, split))
        for one in cut(suspicions(records), split)
    ]
    warnings: Warnings = {}
    if losses := train_losses(problem, target, groups, params.classes):
        warnings["losses"] = losses
    if found:
        warnings["suspected"] = found
    return warnings


def _splits_of(ids: Sequence[str], split: Mapping[str, str]) -> list[str]:
    there = {split[image_id] for image_id in ids}
    return [name for name in SPLITS if name in there]


def _check_splits(params: Params, records: list[Record]) -> None:
    lost = [r.source for r in records if r.split not in SPLITS]
    if lost:
        raise UserError(f"{lost[0]}: no split given ({len(lost)} images in all); set data.source.split, e.g. by: ratio")
    present = {r.split for r in records}
    if "train" not in present:
        raise UserError("rebalance: no image is in train; check data.source (its split, folders or lists)")
    if "val" not in present and not params.rebalance.min_val_instances:
        raise UserError(
            "rebalance: no image is in val, and training needs one to choose its best epoch; give a val split in "
            "data.source, or set rebalance.min_val_instances to have val taken from train"
        )


def _check_scored(params: Params, manifest: Manifest, final: dict[str, list[str]]) -> None:
    """Refuse, before anything is trained, lists that could not tell a good model from a bad one."""
    if not any(sum(manifest.records[image].counts.values()) for image in final["val"]):
        what = "an object" if params.task == "detection" else "a labeled pixel"
        raise UserError(
            f"rebalance: none of the {len(final['val'])} images in val has {what} of any class "
            f"({', '.join(params.classes)}), so every epoch would score the same; give val labeled images in "
            "data.source"
        )
    options = params.rebalance
    for split in ("val", "test"):
        names = unit_names(manifest.records, final[split], "auto", options.duplicate_distance)
        count = len(set(names))
        if names and count < options.min_units:
            raise UserError(
                f"rebalance: {split} has {len(names)} images, but only {count} of them (or groups of them) are "
                f"independent, and rebalance.min_units = {options.min_units}: from fewer than {FEWEST_UNITS} there is "
                f"neither an interval nor a verdict. Move whole sequences to {split}, or set rebalance.min_units: "
                f"{count} to train anyway"
            )


def _left_out(twin: str, bits: int) -> str:
    return f"near-duplicate ({bits} bits) of {twin}, which is held out: pre-training must not see it"


def _infeasible(error: Infeasible, params: Params, before: dict[str, SplitCount], tied: bool) -> str:
    """What to do about it, then at most ten lines of what is missing."""
    unit = "groups" if params.rebalance.spare_train else "instances"
    lines = [shortfall_text(s, params.classes, before, tied, unit) for s in error.shortfalls]
    advice = (
        "  collect more images, lower rebalance.min_val_instances, min_test_instances or min_train_instances, or name "
        "only the classes that must meet them in rebalance.classes"
    )
    if tied:
        advice += "; keep_groups: false frees more images, at the price of leaks within a group"
    if params.rebalance.spare_train:
        advice += "; spare_train: false counts copies as instances and moves them too"
    more = [f"  ... and {len(lines) - SHOWN + 1} more"] if len(lines) > SHOWN else []
    return "\n".join(["rebalance: the minimums cannot be met", advice, *lines[: SHOWN - len(more)], *more])


def _table(params: Params, summary: SplitSummary) -> str:
    """Instances per class and split, before -> after."""
    before, after = summary.counts.before, summary.counts.after

    def change(old: int, new: int) -> str:
        return str(new) if old == new else f"{old} -> {new}"

    rows = [["images", *(change(before[s].images, after[s].images) for s in SPLITS)]]
    for name in params.classes:
        cells = [(before[s].classes[name].instances, after[s].classes[name].instances) for s in SPLITS]
        rows.append([name, *(change(old, new) for old, new in cells)])
    return tabulate(rows, headers=["instances", *SPLITS], stralign="right", disable_numparse=True)


def _said(summary: SplitSummary) -> list[str]:
    """Warnings for the terminal."""
    lines = []
    for loss in summary.losses:
        lines.append(
            f"warning: train keeps {loss.after} of {loss.before} groups with {loss.name!r}; lower its minimum, or set "
            "rebalance.spare_train: true or rebalance.min_train_instances"
        )
    for kind, what in SUSPECTED.items():
        found = [one for one in summary.suspected if one.kind == kind]
        if found:
            names = ", ".join(one.name for one in found[:NAMED]) + (", ..." if len(found) > NAMED else "")
            lines.append(f"warning: {what} in several splits: {len(found)} ({names}); see data.group")
    return lines


@stage
def main() -> None:
    """Entry of the DVC stage."""
    params = load()
    with journal(params.study, "rebalance") as notes:
        data = Path("data") / params.study
        summary = rebalance(params, data / "raw", data / "splits")
        notes["moves"], notes["leaks"] = len(summary.moves), len(summary.leaks)
    print(_table(params, summary))
    print(
        f"{len(summary.moves)} images moved, {len(summary.leaks)} leaks in the given split by this group rule, "
        f"{len(summary.left_out)} unlabeled images left out: data/{params.study}/splits/summary.json"
    )
    for line in _said(summary):
        print(line)


if __name__ == "__main__":
    main()
