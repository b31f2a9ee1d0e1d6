"""From a candidate to a study that runs: groups, what to do with problems, and demands that the split can meet."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.data.formats.problems import STOPS
from retrace.data.inspection.contents import Contents, contents_of, regrouped, units_after
from retrace.data.inspection.folder import Candidate
from retrace.data.inspection.study import Plan, study_text
from retrace.data.names import NUMBERED_GROUP, ROBOFLOW_GROUP
from retrace.data.sequences import Suspicion, cut, suspicions
from retrace.errors import UserError

TAKEN = (5, 3, 2, 1)  # instances of every class that val (and test) get from train where none are given
FEWEST = 5  # independent units, below which a split has neither interval nor verdict
MOSTLY = 0.5  # of the images must be frames of clips before their names become groups


@dataclass(frozen=True)
class Inspected:
    """A study file and what it reads."""

    plan: Plan
    params: Params
    contents: Contents
    suspected: list[Suspicion]
    cut: list[Suspicion]  # of these, what lies in several splits as given


def params_of(plan: Plan) -> Params:
    """The parameters of a study file, as `retrace use` reads them."""
    return parse(YAML(typ="safe", pure=True).load(study_text(plan)), f"studies/{plan.name}.yaml")


def inspected(name: str, root: str, folder: Path, candidate: Candidate) -> Inspected:
    """Read a folder with a candidate's source and settle the rest of the study.

    Raises `UserError` where the reader stops or no image is usable.
    """
    plan = Plan(name, root, candidate)
    contents = contents_of(params_of(plan), folder)
    _check(contents, folder, candidate)
    plan = _settled(plan, contents)
    plan, contents = _grouped(plan, contents, folder)
    plan = _demands(plan, contents)
    suspected = suspicions(contents.records)
    given = {record.id: str(record.split) for record in contents.records}
    return Inspected(plan, params_of(plan), contents, suspected, cut(suspected, given))


def _check(contents: Contents, folder: Path, candidate: Candidate) -> None:
    stops = [row for row in contents.problems.rows if row.action == STOPS]
    if stops or not contents.records:
        raise UserError(
            f"{folder}: recognized as {candidate.format}, but it cannot be read\n{contents.problems.summary()}\n"
            "  repair the data, or name another format with --format"
        )


def _settled(plan: Plan, contents: Contents) -> Plan:
    """What follows from the images alone."""
    serious = len({row.path for row in contents.problems.serious})
    skip = f"files with problems: {serious}; they are left out, and the report lists them"
    plan = plan.changed({"on_error": skip} if serious else {}, on_error="skip" if serious else "fail")
    return plan.changed(size=contents.sizes()[0][0], train_images=len(contents.by_split["train"]))


def _grouped(plan: Plan, contents: Contents, folder: Path) -> tuple[Plan, Contents]:
    """Groups by Roboflow's copies and clips, or by the clips that names and pictures tell."""
    if any(".rf." in record.source for record in contents.records):
        found = plan.changed({"group": "copies of one photograph and frames of one clip"}, group=ROBOFLOW_GROUP)
        return found, regrouped(contents, params_of(found), folder)
    clips = [one for one in suspicions(contents.records) if one.kind == "clip"]
    frames = sum(len(one.ids) for one in clips)
    if len(clips) < 2 or frames < MOSTLY * len(contents.records):
        return plan, contents
    found = plan.changed({"group": "the sequence: the name without its number"}, group=NUMBERED_GROUP)
    try:
        return found, regrouped(contents, params_of(found), folder)
    except UserError:  # too few groups to be dealt out
        return plan, contents


def _filled(plan: Plan, contents: Contents) -> Plan:
    """With splits to be scored, and val from train where none is given."""
    sizes = {split: len(ids) for split, ids in contents.by_split.items()}
    if sizes["val"] and sizes["test"]:
        return plan
    given = tuple(split for split in ("val", "test") if sizes[split])
    for least in TAKEN:
        minimums = (0 if sizes["val"] else least, 0)
        filled = plan.changed(minimums=minimums, splits=("val", *(split for split in given if split == "test")))
        if sizes["val"] or units_after(contents, params_of(filled)) is not None:
            break
    if sizes["val"]:
        return filled
    return filled.changed({"minimums": "no val is given, so that many instances of every class come from train"})


def _demands(plan: Plan, contents: Contents) -> Plan:
    """Rules that the split can keep, and as many independent units as val and test can have."""
    for keep_groups, spare_train in itertools.product((True, False), (True, False)):
        tried = _filled(plan.changed(keep_groups=keep_groups, spare_train=spare_train), contents)
        units = units_after(contents, params_of(tried))
        if units is not None:
            break
    if not tried.keep_groups:
        why = "true cannot be met: the split as given cuts groups in two, and the report names them"
        tried = tried.changed({"keep_groups": why})
    if not tried.spare_train:
        tried = tried.changed({"spare_train": "true cannot be met: copies must leave train"})
    fewest = min((count for split, count in (units or {}).items() if split != "train" and count), default=1)
    if fewest >= FEWEST:
        return tried
    why = f"val or test has only {fewest} independent images or sequences: no interval, no verdict"
    return tried.changed({"min_units": why}, min_units=fewest)
