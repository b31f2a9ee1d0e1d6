"""What a study file reads of a folder: the images, classes and problems that `collect` would find, nothing written."""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from retrace.config.schema import Params
from retrace.data import formats as sources
from retrace.data.audit import SPLITS, split_counts
from retrace.data.formats.convert import Converted, Job, Refused, convert, convert_all
from retrace.data.formats.jobs import jobs_of
from retrace.data.formats.problems import Problems
from retrace.data.partitions import order_of, partitions, problem_of, units_of
from retrace.data.rebalancing import Infeasible, assign
from retrace.documents.manifest import Record
from retrace.documents.splits import SplitCount
from retrace.progress import track


@dataclass(frozen=True)
class Contents:
    """What is in a folder as a study reads it."""

    records: list[Record]  # usable labeled images, with the split that they were given
    problems: Problems

    @property
    def by_split(self) -> dict[str, list[str]]:
        """Image ids of train, val and test as given."""
        return {split: [r.id for r in self.records if r.split == split] for split in SPLITS}

    def counts(self, params: Params) -> dict[str, SplitCount]:
        """Images, and of each class the objects or pixels, of every split."""
        least = 1 if params.task == "segmentation" else None
        return split_counts({r.id: r for r in self.records}, self.by_split, params.classes, least)

    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """((width, height), number of images), the most frequent size first."""
        return Counter((r.width, r.height) for r in self.records).most_common()


def contents_of(params: Params, root: Path) -> Contents:
    """Read, check and hash every labeled image below `root` as `collect` does."""
    problems = Problems()
    items = sources.read(root.resolve(), params, problems)
    records = []
    jobs = jobs_of([item for item in items if item.split != "unlabeled"], params, Path())
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for result in track(convert_all(jobs, processes, _looked_at), "images", total=len(jobs)):
        if isinstance(result, Refused):
            problems.add(result.kind, result.path, result.detail)
        else:
            records.append(result.record)
    return Contents(sorted(records, key=lambda record: record.id), problems)


def regrouped(contents: Contents, params: Params, root: Path) -> Contents:
    """The same images with the groups and splits that other parameters give them; nothing is read again."""
    items = sources.read(root.resolve(), params, Problems())
    jobs = {job.id: job for job in jobs_of([item for item in items if item.split != "unlabeled"], params, Path())}
    records = [replace(r, group=jobs[r.id].group, split=jobs[r.id].split) for r in contents.records]
    return Contents(records, contents.problems)


def units_after(contents: Contents, params: Params) -> dict[str, int] | None:
    """Independent units of every split after rebalancing; None where the demands cannot be met."""
    records = contents.records
    if not any(record.split == "train" for record in records):
        return None
    problem = problem_of(records, params)
    try:
        target = assign(problem, order_of(records, problem.unit, params.seed))
    except Infeasible:
        return None
    apart = units_of(partitions(records, params.rebalance.duplicate_distance), keep_groups=True)
    return {split: len(set(apart[target == index].tolist())) for index, split in enumerate(SPLITS)}


def _looked_at(job: Job) -> Converted | Refused:
    """What `collect` would make of an image; its copy is removed at once."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("images", "masks"):
            Path(folder, name).mkdir()
        return convert(replace(job, folder=Path(folder)))
