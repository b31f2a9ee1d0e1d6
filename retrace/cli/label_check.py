"""`retrace label-check`: labels of val and test that probably need a look, ranked, with pictures and what they cost.

Only images that the phase was not trained on are judged. Into one folder: `index.html` with the pictures,
`label_check.csv`, and `label_check.json` (`LabelCheck` in `retrace/documents/labels.py`). Nothing is changed.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from retrace.config.schema import Params
from retrace.config.trainings import stage_of
from retrace.data.loading import read_image, read_mask
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.palette import palette
from retrace.documents.labels import LABEL_CHECK, CheckedSplit, LabelCheck, SuspectRow
from retrace.documents.scores import Scores, read_scores
from retrace.errors import UserError
from retrace.files import LOGS, whole_folder, write_text
from retrace.labels.gallery import HOW_TO_READ, crop_of_boxes, crop_of_mask, with_interval, write_page
from retrace.labels.predictions import held_out, of_boxes, of_masks
from retrace.labels.suspects import Suspect, ranked
from retrace.labels.without import score_without, without
from retrace.programs import how_to_get
from retrace.progress import track
from retrace.report.resamples import per_image, read_unit_names
from retrace.seeds import derive

COLUMNS = ("rank", "suspicion", "kind", "image", "split", "label", "suggested", "position", "x", "y", "width", "height")


def check(params: Params, phase: str | None, pictures: int, out: Path | None) -> tuple[Path, LabelCheck]:
    """Rank the labels by the phase's predictions and write the folder; returns it and what was found.

    Raises:
        UserError: no such phase, it has not been evaluated, or `out` holds files of others.
    """
    name = phase or params.phase
    if name not in params.trainings:
        raise UserError(f"--phase {name}: no such phase or repeat; allowed: {', '.join(params.trainings)}")
    target = out or LOGS / params.study / "label-check" / name
    _check_target(target)
    scores = read_scores(Path("metrics", params.study, f"{name}.json"))
    if list(scores.classes) != list(params.classes):
        raise UserError(f"metrics/{params.study}/{name}.json: has other classes than params.yaml; run `dvc repro`")
    manifest = read_manifest(Path("data", params.study, "raw"))
    lists = held_out(params.study, name, scores)
    if params.task == "detection":
        suspects = ranked(of_boxes(params, name, manifest, lists))
    else:
        suspects = ranked(of_masks(params, name, manifest, [image for ids in lists.values() for image in ids]))
    found = LabelCheck(
        study=params.study,
        phase=name,
        task=params.task,
        metric=params.report.headline,
        splits={split: _split(params, name, scores, split, ids, manifest, suspects) for split, ids in lists.items()},
        suspects=list(_rows(params, lists, suspects, pictures)),
    )
    with whole_folder(target) as folder:
        _draw(params, manifest, found, folder)
        write_text(folder / "label_check.csv", _csv(found.suspects))
        found.write(folder / LABEL_CHECK)
        write_page(folder, found)
    return target, found


def _check_target(target: Path) -> None:
    if target.exists() and not (target / LABEL_CHECK).is_file() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"-o {target}: holds files that `retrace label-check` did not write; give a new folder")


def _split(
    params: Params,
    phase: str,
    scores: Scores,
    split: str,
    ids: Sequence[str],
    manifest: Manifest,
    suspects: Sequence[Suspect],
) -> CheckedSplit:
    """What was judged of a split, and its score with and without the most suspicious images."""
    folder, metric = Path("metrics", params.study, phase), params.report.headline
    try:
        statistic = per_image(folder, split, scores, params.report.focus_classes)
        units = read_unit_names(folder, split)
    except (OSError, ValueError) as error:
        again = how_to_get(str(folder), f"dvc repro {stage_of('evaluate', phase)}")
        raise UserError(f"{folder}: cannot read the results of every image ({error}); run {again}") from None
    seed = derive(params.seed, "bootstrap", split)
    here = set(ids)
    mine = [one for one in suspects if one.image in here]
    resamples = params.evaluate.bootstrap
    objects = sum(not box.crowd for image in ids for box in manifest.records[image].boxes)
    return CheckedSplit(
        images=len(ids),
        labels=objects if params.task == "detection" else len(ids),
        suspects=len(mine),
        score=score_without(statistic, metric, ids, units, (), resamples, seed),
        without=without(mine, statistic, metric, ids, units, resamples, seed),
    )


def _rows(
    params: Params, lists: dict[str, list[str]], suspects: Sequence[Suspect], pictures: int
) -> Iterator[SuspectRow]:
    split_of = {image: split for split, ids in lists.items() for image in ids}
    for rank, one in enumerate(suspects, start=1):
        yield SuspectRow(
            rank=rank,
            suspicion=round(one.suspicion, 6),
            kind=one.kind,
            image=one.image,
            split=split_of[one.image],
            label=None if one.label is None else params.classes[one.label],
            suggested=None if one.suggested is None else params.classes[one.suggested],
            box=[round(value, 2) for value in one.box],
            better=None if one.better is None else [round(value, 2) for value in one.better],
            position=one.position,
            crop=f"crops/{rank:04d}.jpg" if rank <= pictures else None,
        )


def _draw(params: Params, manifest: Manifest, found: LabelCheck, folder: Path) -> None:
    colors = palette(params.classes, params.report.colors)
    chosen = [row for row in found.suspects if row.crop is not None]
    for row in track(chosen, "pictures", total=len(chosen)):
        assert row.crop is not None
        image = read_image(manifest, row.image)
        if params.task == "detection":
            labels = [box.xywh for box in manifest.records[row.image].boxes]
            crop_of_boxes(folder / row.crop, image, row, labels)
        else:
            crop_of_mask(folder / row.crop, image, read_mask(manifest, row.image), row, colors)


def _csv(rows: Sequence[SuspectRow]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        position = "" if row.position is None else row.position
        named = (row.label or "", row.suggested or "", position)
        writer.writerow((row.rank, row.suspicion, row.kind, row.image, row.split, *named, *row.box))
    return stream.getvalue()


def lines(target: Path, found: LabelCheck) -> list[str]:
    """What the terminal says."""
    said = []
    for split, checked in found.splits.items():
        what = "labels" if found.task == "detection" else "masks"
        said.append(f"{split}: {checked.suspects} suspects among {checked.labels} {what} of {checked.images} images")
        said.append(f"  {found.metric} {with_interval(checked.score)}")
        for row in checked.without:
            left_out = f"without the images of the first {row.suspects} ({row.images_left_out} left out)"
            said.append(f"  {left_out}: {with_interval(row.score)}")
    return [*said, HOW_TO_READ, f"look at them in the order of {target / 'index.html'}"]
