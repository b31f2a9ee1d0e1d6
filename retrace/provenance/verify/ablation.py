"""Check reports/<study>-ablation/: effects against the scores of the runs, everything else against ablation.json.

The experiments are in few clones. Where they are, the scores are those of their metrics files. The intervals come from
results per image of every experiment and are not computed again.
"""

import csv
import io
import json
import math
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np

import retrace
from retrace.config.schema import Params
from retrace.documents.shapes import Effects, Runs, read
from retrace.errors import UserError
from retrace.programs import git
from retrace.provenance.md5 import changed, listing
from retrace.provenance.verify import expected, pages
from retrace.report.numbers import Ledger, show

ABLATE = "`retrace ablate`"
CODE = (  # what writes the pages of an ablation
    "retrace/report",
    "retrace/statistics",
    "retrace/sweeps/attribution.py",
    "retrace/sweeps/figure.py",
    "retrace/sweeps/report.py",
)
EXACT = 1e-6  # how far a score or effect that is computed again may lie from the one in the file
SHADES = 8  # of 255: how far a pixel may be off where another machine draws the same picture


@dataclass(frozen=True)
class Checked:
    """What is wrong, one line each; what was compared and what was not."""

    numbers: pages.Checked
    wrong: list[str]
    notes: list[str]


def check(root: Path, results: Path, project: Path, params: Params) -> Checked | None:
    """Check the ablation report of a study; None where the commit holds none.

    Args:
        root: clone of the commit.
        results: folder that holds reports/ of the commit.
        project: where the experiments may be.

    Raises:
        UserError: a file of the report is missing or damaged.
    """
    name = f"{params.study}-ablation"
    folder, file = results / "reports" / name, f"reports/{name}/ablation.json"
    if not folder.is_dir():
        return None
    for required in ("ablation.json", "numbers.json"):
        if not (folder / required).is_file():
            raise UserError(f"reports/{name}/{required}: no such file; run {ABLATE} and commit what it writes")
    found = read(folder / "ablation.json", Effects, ABLATE, file)
    read(folder / "ablation.json", Runs, ABLATE, file)
    numbers = pages.check(results, name, "ablation", ABLATE)
    wrong = [f"{file}: {line}" for line in _effects(found)]
    lines, seen = _experiments(found, params.study, project)
    wrong += [f"{file}: {line}" for line in lines]
    total = len(found["runs"])
    notes = [f"ablation: effects compared with the scores of {total} runs; their intervals are not computed again"]
    if seen < total:
        notes.append(f"ablation: {total - seen} of {total} experiments are not here (`dvc exp pull`), so their scores "
                     "were not compared with their metrics files")  # fmt: skip
    same = _same_code(root, f"reports/{name}")
    try:
        again = _written_again(folder, found, params)
    except UserError as error:
        if same:
            raise
        again = [str(error)]  # this code cannot read what other code wrote
    if again and not same:
        notes.append("ablation: written by other report code than that of the commit, so only the numbers "
                     "were compared")  # fmt: skip
        again = _known_numbers(folder, found)
    return Checked(numbers, wrong + again, notes)


def _effects(found: dict[str, Any]) -> Iterator[str]:
    """Effects that the scores of the runs do not give, and intervals that do not hold their effect."""
    from retrace.statistics.effects import Layout, interactions, main_effects, together

    names, runs = list(found["factors"]), found["runs"]
    try:
        levels = np.array([[int(run["levels"][name] == "on") for name in names] for run in runs])
        order = sorted({tuple(row) for row in levels.tolist()})
        labels = sorted({run["seed"] for run in runs})
        values = {
            "cells": np.array([order.index(tuple(row)) for row in levels.tolist()]),
            "seeds": np.array([labels.index(run["seed"]) for run in runs]),
            "levels": levels,
        }
        layout = Layout(**{field.name: values[field.name] for field in fields(Layout)})
        scores = {metric: np.array([math.nan if (value := run["scores"][metric]) is None else value for run in runs])
                  for metric in runs[0]["scores"]}  # fmt: skip
        groups = {
            "effects": dict(zip(names, main_effects(layout, found["design"]), strict=True)),
            "interactions": {f"{names[f]} x {names[g]}": row for (f, g), row in interactions(layout).items()}
            if found["interactions"]
            else {},
        }
        if found["together"]:
            groups["together"] = {"": together(layout)}
        told = {"effects": found["effects"], "interactions": found["interactions"], "together": {"": found["together"]}}
        for group, contrasts in groups.items():
            if set(contrasts) != set(told[group]):
                yield f"{group}: {', '.join(told[group])}, where the runs give {', '.join(contrasts)}"
                continue
            for name, contrast in contrasts.items():
                for metric, row in told[group][name].items():
                    key = ".".join(filter(None, (group, name, metric)))
                    yield from _effect(key, row, float(contrast @ scores[metric]))
        for name, most in found["most"].items():
            for verb, row in most.items():
                wanted = found["effects"][name][row["name"]]["value"]
                if row["value"] != wanted:
                    yield f"most.{name}.{verb}: {row['value']}, where effects.{name}.{row['name']} is {wanted}"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"{_file(found)}: damaged: its runs and effects cannot be read ({error!r}); run {ABLATE}"
        ) from None


def _file(found: dict[str, Any]) -> str:
    return f"reports/{found.get('study')}-ablation/ablation.json"


def _effect(key: str, row: dict[str, Any], again: float) -> Iterator[str]:
    value, low, high = row["value"], row["low"], row["high"]
    if (value is None) != math.isnan(again) or (value is not None and abs(value - again) > EXACT):
        yield f"{key}: {value}, where the scores of the runs give {None if math.isnan(again) else again}"
    if low is not None and not low <= value <= high:
        yield f"{key}: the interval [{low}, {high}] does not hold {value}"


def _experiments(found: dict[str, Any], study: str, project: Path) -> tuple[list[str], int]:
    """Scores that are not those of the experiments' metrics files; how many experiments are here."""
    wrong, seen = [], 0
    for index, run in enumerate(found["runs"]):
        text = git("show", f"{run['commit']}:./metrics/{study}/{found['phase']}.json", folder=project, check=False)
        try:
            document = json.loads(text)
        except ValueError:
            continue
        seen += 1
        for metric, value in run["scores"].items():
            theirs = expected.score(document, metric, found["split"])
            if theirs is not None and (value is None or abs(theirs - value) > EXACT):
                wrong.append(f"runs.{index}.scores.{metric}: {value}, where experiment {run['name']} has {theirs}")
    return wrong, seen


def _same_code(root: Path, report: str) -> bool:
    """Whether the code that runs here is the commit's, and the one that the report was committed with."""
    running = Path(retrace.__file__).parents[1]
    for path in CODE:
        files = [listing(folder) or {} for folder in (running / path, root / path)]
        here, there = ({name: md5 for name, md5 in one.items() if "__pycache__" not in name} for one in files)
        if here != there:
            return False
    if git("rev-parse", "--is-shallow-repository", folder=root).strip() == "true":
        return False
    wrote = git("log", "-1", "--format=%H", "--", report, folder=root).strip()
    return bool(wrote) and not git("diff", "--name-only", wrote, "HEAD", "--", *CODE, folder=root)


def _written_again(folder: Path, found: dict[str, Any], params: Params) -> list[str]:
    """Sentences, table, pages and figures that ablation.json does not give."""
    from retrace.report.numbers import plain
    from retrace.sweeps.attribution import sentence
    from retrace.sweeps.report import write_files

    name = f"reports/{folder.name}"
    ledger = Ledger()
    ledger.add("", found)
    try:
        again = {factor: plain(sentence(ledger, "", found, factor)) for factor in found["factors"]}
        with tempfile.TemporaryDirectory() as temporary:
            write_files(Path(temporary), found, params)
            differ = _differing(folder, Path(temporary))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{name}/ablation.json: damaged: no report can be made of it ({error!r}); run {ABLATE}"
        ) from None
    told = found["sentences"]
    wrong = [f"{name}/ablation.json: sentences.{factor}: {told.get(factor)!r}, where its effects give {text!r}"
             for factor, text in again.items() if told.get(factor) != text]  # fmt: skip
    return wrong + [f"{name}/{file}: not what ablation.json gives; run {ABLATE}" for file in differ]


def _differing(committed: Path, again: Path) -> list[str]:
    names = changed(listing(committed) or {}, listing(again) or {})
    return [name for name in names if not (name.endswith(".png") and _same_picture(committed / name, again / name))]


def _same_picture(one: Path, other: Path) -> bool:
    """Whether two PNG files show the same up to another machine's rounding; one changed byte breaks a checksum."""
    if not (one.is_file() and other.is_file() and _intact(one.read_bytes())):
        return False
    from PIL import Image

    try:
        pixels = [np.asarray(Image.open(path).convert("RGBA"), dtype=int) for path in (one, other)]
    except (OSError, SyntaxError, ValueError, zlib.error):
        return False
    return pixels[0].shape == pixels[1].shape and bool(np.abs(pixels[0] - pixels[1]).max() <= SHADES)


def _intact(content: bytes) -> bool:
    """Whether a file is a PNG whose chunks all have their checksums, to its last byte."""
    place = 8
    while content[:8] == b"\x89PNG\r\n\x1a\n" and place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        body, sum = content[place + 4 : place + 8 + size], content[place + 8 + size : place + 12 + size]
        if sum != struct.pack(">I", zlib.crc32(body)):
            return False
        place += 12 + size
    return place == len(content)


def _known_numbers(folder: Path, found: dict[str, Any]) -> list[str]:
    """Numbers in sentences and ablation.csv that ablation.json does not hold: all that can be said of other words."""
    values = list(_values({key: value for key, value in found.items() if key != "sentences"}))
    shown = {show(value, format) for value in values for format in ("points", "points2", "points3")}
    words = [*(row["label"] for row in found["factors"].values()), *next(iter(found["effects"].values()))]
    named = set(pages.NUMBER.findall(" ".join(words)))
    wrong = [f"reports/{folder.name}/ablation.json: sentences.{factor}: {token} is none of its effects"
             for factor, text in found["sentences"].items() for token in pages.NUMBER.findall(text)
             if token not in shown | named]  # fmt: skip
    table = folder / "ablation.csv"
    if not table.is_file():
        raise UserError(f"reports/{folder.name}/ablation.csv: no such file; run {ABLATE} and commit what it writes")
    known = {repr(value) for value in values} | {repr(len(found["seeds"]))}
    if any(not _intact(path.read_bytes()) for path in folder.glob("figures/*.png")):
        wrong.append(f"reports/{folder.name}/figures: a PNG file is damaged; run {ABLATE}")
    for number, row in enumerate(csv.reader(io.StringIO(table.read_text(encoding="utf-8"))), start=1):
        wrong += [f"reports/{folder.name}/ablation.csv line {number}: {cell} is no number of ablation.json"
                  for cell in row[3:6] if number > 1 and cell and cell not in known]  # fmt: skip
    return wrong


def _values(node: Any) -> Iterator[float]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _values(child)
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield cast(float, node)
