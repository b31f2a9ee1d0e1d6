"""Any supported source, or the embedded generator, into one canonical layout: `python -m stages.collect`.

Reads `data` of params.yaml, writes data/<study>/raw (docs/architecture.md): verbatim images, index masks,
manifest.jsonl, dataset.json, problems.csv. All problems are found in one pass; logs/<study>/problems.csv holds them
also when the stage stops.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from retrace.config.load import load
from retrace.config.schema import Params
from retrace.data import formats as sources
from retrace.data.formats import Item, unlabeled
from retrace.data.formats.archive import open_root
from retrace.data.formats.convert import Job, Refused, convert_all
from retrace.data.formats.jobs import jobs_of
from retrace.data.formats.missing import explained
from retrace.data.formats.problems import LEFT_OUT, Problems
from retrace.documents.dataset import Dataset, Source
from retrace.documents.manifest import Record, write_records
from retrace.environment import unpinned_mark
from retrace.errors import UserError, stage
from retrace.files import LOGS, SCRATCH, whole_folder
from retrace.progress import track
from retrace.provenance.run_log import journal


@stage
def main() -> None:
    """The stage, on the project in the current folder."""
    params = load()
    with journal(params.study, "collect") as log:
        dataset = collect(params)
        log.update(dataset.content())
    raw = Path("data", params.study, "raw")
    if boxed := dataset.problems.get("polygon_to_box"):
        print(f"polygons of {boxed} label files were read as the boxes around their corners (polygons: to_boxes)")
    others = {kind: n for kind, n in dataset.problems.items() if kind != "polygon_to_box"}
    for kind, count in others.items():
        print(f"{kind}: {count}")
    if dataset.problems:
        print(f"each by name: {raw / 'problems.csv'}")


def collect(params: Params) -> Dataset:
    """Write data/<study>/raw whole or not at all; returns its dataset.json."""
    with explained(params):
        return _collected(params)


def _collected(params: Params) -> Dataset:
    root = _draw(params) if params.data.synthetic is not None else open_root(params.data)
    problems = Problems()
    with _frames_folder(params.study) as frames:
        items = sources.read(root, params, problems)
        items += _new(unlabeled.read(params.data.unlabeled, root, problems, Path(frames)), items, problems)
        with whole_folder(Path("data", params.study, "raw")) as folder:
            records = _convert(_jobs(items, params, folder), problems)
            problems.settle(params.data.on_error, LOGS / params.study / "problems.csv")
            _not_empty(records, params)
            dataset = dataset_of(params, items, records, problems)
            write_records(folder / "manifest.jsonl", records)
            dataset.write(folder / "dataset.json")
            problems.write(folder / "problems.csv")
    return dataset


def _draw(params: Params) -> Path:
    """The embedded generator's data, drawn afresh in the layout that `data.source` reads."""
    from scenes import generate

    assert params.data.synthetic is not None
    folder = SCRATCH / "synthetic" / params.study
    generate(params.data.synthetic, folder)
    return folder.resolve()


def _frames_folder(study: str) -> tempfile.TemporaryDirectory:
    """Where video frames wait to be copied; what a killed run left is removed first."""
    base = SCRATCH / "frames" / study
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    return tempfile.TemporaryDirectory(dir=base)


def _new(unlabelled: Sequence[Item], labelled: Sequence[Item], problems: Problems) -> list[Item]:
    """Unlabelled images that are not labelled ones too: those keep their split."""
    known = {item.name for item in labelled}
    for item in unlabelled:
        if item.name in known:
            problems.note("already_labelled", item.name, "also among the labelled images, so not taken as unlabelled")
    return [item for item in unlabelled if item.name not in known]


def _jobs(items: Sequence[Item], params: Params, folder: Path) -> list[Job]:
    """Every item with its id, group and split."""
    (folder / "images").mkdir()
    if params.task == "segmentation":
        (folder / "masks").mkdir()
    return jobs_of(items, params, folder)


def _convert(jobs: Sequence[Job], problems: Problems) -> list[Record]:
    """Records of the usable images; the others become problems."""
    records = []
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for result in track(convert_all(jobs, processes), "images", total=len(jobs)):
        if isinstance(result, Refused):
            problems.add(result.kind, result.path, result.detail)
            continue
        records.append(result.record)
        for kind, detail in result.notes:
            problems.note(kind, result.record.source, detail)
    return records


def _not_empty(records: Sequence[Record], params: Params) -> None:
    where = LOGS / params.study / "problems.csv"
    if not any(record.split != "unlabeled" for record in records):
        raise UserError(f"data: no usable labelled image in {params.data.root}; check data.source and {where}")
    train = [record for record in records if record.split == "train"]
    if train and not any(record.counts for record in train):
        what = "an object" if params.task == "detection" else "a pixel"
        raise UserError(
            f"data: none of the {len(train)} train images has {what} of a class ({', '.join(params.classes)}), so "
            f"nothing could be learned; check data.source, the annotations of train and {where}"
        )


def dataset_of(params: Params, items: Sequence[Item], records: Sequence[Record], problems: Problems) -> Dataset:
    """What was taken from where, and what was not."""
    origin = {item.name: item.source for item in items}
    annotated = {item.name for item in items if item.labelled and item.split != "unlabeled"}
    images = Counter((origin[record.source], record.split) for record in records)
    labelled = Counter((origin[record.source], record.split) for record in records if record.source in annotated)
    return Dataset(
        study=params.study,
        task=params.task,
        classes=list(params.classes),
        sources=[
            Source(name=name, split=split, images=count, labelled=labelled[name, split])
            for (name, split), count in sorted(images.items(), key=str)
        ],
        problems=problems.counts(),
        quarantined=sum(row.action == LEFT_OUT for row in problems.rows),
        **unpinned_mark(),
    )


if __name__ == "__main__":
    main()
