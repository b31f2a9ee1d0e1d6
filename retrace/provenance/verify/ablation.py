"""Check reports/<study>-ablation/: effects against the scores of the runs, everything else against ablation.json.

The experiments are in few clones. Where they are, the scores are those of their metrics files. The intervals come from
results per image of every experiment and are not computed again.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from retrace.config.schema import Params
from retrace.documents.ablation import AblationResult
from retrace.documents.scores import parse_scores
from retrace.errors import UserError
from retrace.programs import git
from retrace.provenance.verify import pages
from retrace.report.document import NAME
from retrace.statistics.estimate import Interval
from retrace.sweeps.report import WRITERS

ABLATE = "`retrace ablate`"
DOCUMENTS = (NAME, "ablation.json", "ablation.csv")
EXACT = 1e-6  # how far a score or effect that is computed again may lie from the one in the file


def check(results: Path, clone: Path, project: Path, params: Params) -> pages.Checked | None:
    """Check the ablation report of a study; None where the commit holds none.

    Args:
        results: folder that holds reports/ of the commit.
        clone: folder of the commit.
        project: where the experiments may be.

    Raises:
        UserError: a file of the report is missing or damaged.
    """
    name = f"{params.study}-ablation"
    folder, file = results / "reports" / name, f"reports/{name}/ablation.json"
    if not folder.is_dir():
        return None
    if not (folder / "ablation.json").is_file():
        raise UserError(f"{file}: no such file; run {ABLATE} and commit what it writes")
    found = AblationResult.read(folder / "ablation.json", file)
    wrong = [f"{file}: {line}" for line in _effects(found)]
    lines, seen = _experiments(found, params.study, project)
    wrong += [f"{file}: {line}" for line in lines]
    total = len(found.runs)
    notes = [f"ablation: effects compared with the scores of {total} runs; their intervals are not computed again"]
    if seen < total:
        notes.append(f"ablation: {total - seen} of {total} experiments are not here (`dvc exp pull`), so their scores "
                     "were not compared with their metrics files")  # fmt: skip
    checked = pages.check(results, name, clone, documents=DOCUMENTS, again=ABLATE, writers=WRITERS)
    return replace(checked, wrong=[*wrong, *checked.wrong], notes=[*notes, *checked.notes])


def _effects(found: AblationResult) -> Iterator[str]:
    """Effects that the scores of the runs do not give, and intervals that do not hold their effect."""
    from retrace.statistics.effects import Layout, interactions, main_effects, together

    names, runs = list(found.factors), found.runs
    try:
        levels = np.array([[int(run.levels[name] == "on") for name in names] for run in runs])
        order = sorted({tuple(row) for row in levels.tolist()})
        labels = sorted({run.seed for run in runs})
        values = {
            "cells": np.array([order.index(tuple(row)) for row in levels.tolist()]),
            "seeds": np.array([labels.index(run.seed) for run in runs]),
            "levels": levels,
        }
        layout = Layout(**{field.name: values[field.name] for field in fields(Layout)})
        scores = {metric: np.array([math.nan if (value := run.scores[metric]) is None else value for run in runs])
                  for metric in runs[0].scores}  # fmt: skip
        groups = {
            "effects": dict(zip(names, main_effects(layout, found.design), strict=True)),
            "interactions": {f"{names[f]} x {names[g]}": row for (f, g), row in interactions(layout).items()}
            if found.interactions
            else {},
        }
        if found.together:
            groups["together"] = {"": together(layout)}
        told = {"effects": found.effects, "interactions": found.interactions, "together": {"": found.together or {}}}
        for group, contrasts in groups.items():
            if set(contrasts) != set(told[group]):
                yield f"{group}: {', '.join(told[group])}, where the runs give {', '.join(contrasts)}"
                continue
            for name, contrast in contrasts.items():
                for metric, row in told[group][name].items():
                    key = ".".join(filter(None, (group, name, metric)))
                    yield from _effect(key, row, float(contrast @ scores[metric]))
        for name, most in found.most.items():
            for verb, named in most.items():
                wanted = found.effects[name][named.name].value
                if named.value != wanted:
                    yield f"most.{name}.{verb}: {named.value}, where effects.{name}.{named.name} is {wanted}"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"{_file(found)}: damaged: its runs and effects cannot be read ({error!r}); run {ABLATE}"
        ) from None


def _file(found: AblationResult) -> str:
    return f"reports/{found.study}-ablation/ablation.json"


def _effect(key: str, row: Interval, again: float) -> Iterator[str]:
    value, low, high = row.value, row.low, row.high
    if (value is None) != math.isnan(again) or (value is not None and abs(value - again) > EXACT):
        yield f"{key}: {value}, where the scores of the runs give {None if math.isnan(again) else again}"
    if value is None or low is None or high is None:
        return
    if not low <= value <= high:
        yield f"{key}: the interval [{low}, {high}] does not hold {value}"


def _experiments(found: AblationResult, study: str, project: Path) -> tuple[list[str], int]:
    """Scores that are not those of the experiments' metrics files; how many experiments are here."""
    wrong, seen = [], 0
    for index, run in enumerate(found.runs):
        text = git("show", f"{run.commit}:./metrics/{study}/{found.phase}.json", folder=project, check=False)
        try:
            document = parse_scores(text, f"metrics/{study}/{found.phase}.json of {run.name}")
        except UserError:
            continue
        seen += 1
        for metric, value in run.scores.items():
            theirs = document.metric(metric, found.split).value
            if theirs is not None and (value is None or abs(theirs - value) > EXACT):
                wrong.append(f"runs.{index}.scores.{metric}: {value}, where experiment {run.name} has {theirs}")
    return wrong, seen
