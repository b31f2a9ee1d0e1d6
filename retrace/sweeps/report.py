"""reports/<study>-ablation/: ablation.md, .html, .csv and .json, report.json, tables/, figures/.

It stands beside reports/<study>/, which is an out of the `report` stage and rewritten whole by it.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrace.config.schema import Params
from retrace.documents.ablation import AblationResult, Effects
from retrace.files import whole_folder, write_text
from retrace.report.blocks import Bullets, Cell, Page, Section, Table, Text, cell, run, section
from retrace.report.document import Report, code_sum, read, write
from retrace.report.numbers import Inline, Ledger
from retrace.report.render import render
from retrace.statistics.estimate import Interval
from retrace.statistics.verdicts import BETTER, UNDECIDED, WORSE, of_effect
from retrace.sweeps.attribution import attribute, sentence
from retrace.sweeps.design import Design, Experiment
from retrace.sweeps.figure import effects_figure
from retrace.sweeps.results import read_results

WRITERS = tuple(f"retrace/sweeps/{name}.py" for name in ("attribution", "figure", "report"))


def write_report(params: Params, design: Design, experiments: Sequence[Experiment]) -> list[str]:
    """Write the folder; returns the sentences and the page's path. Raises `UserError` as `read_results` does."""
    found = attribute(params, design, read_results(params, experiments))
    target = Path("reports", f"{params.study}-ablation")
    with whole_folder(target) as folder:
        write_files(folder, found, params)
    return [*found.sentences.values(), (target / "ablation.html").as_posix()]


def write_files(folder: Path, found: AblationResult, params: Params) -> None:
    """Every file of reports/<study>-ablation/ into `folder`, from the contents of ablation.json."""
    file = f"reports/{params.study}-ablation/ablation.json"
    ledger = Ledger()
    ledger.add(file, found.content())
    sections = _Pages(found, ledger, file, params.report.focus_classes).sections()
    page = Page("ablation", f"Ablation of {found.phase}: effect of each change", tuple(sections))
    code = code_sum(Path(__file__).parents[2], *WRITERS)
    found.write(folder / "ablation.json")
    write_text(folder / "ablation.csv", effects_csv(found))
    write(folder, Report(params.study, params.task, not params.report.real_data, code, (page,)), ledger)
    render(read(folder, "`retrace ablate`").report, folder, folder)


def effects_csv(found: AblationResult) -> str:
    """One row per effect and metric: kind, name, metric, value, low, high, split, images, seeds."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("kind", "name", "metric", "value", "low", "high", "split", "images", "seeds"))
    kinds = (("main", found.effects), ("interaction", found.interactions))
    groups = [(kind, name, rows) for kind, named in kinds for name, rows in named.items()]
    if found.together:
        groups.append(("together", "all", found.together))
    for kind, name, rows in groups:
        for metric, row in rows.items():
            numbers = ("" if end is None else repr(end) for end in (row.value, row.low, row.high))
            writer.writerow((kind, name, metric, *numbers, found.split, found.images, len(found.seeds)))
    return stream.getvalue()


class _Pages:
    def __init__(self, found: AblationResult, ledger: Ledger, file: str, focus: Sequence[str]):
        self.found, self.ledger, self.file = found, ledger, file
        metrics = list(next(iter(found.effects.values())))
        self.overall = [name for name in metrics if "/" not in name]
        self.classes = [name for name in metrics if "/" in name]
        self.shown = self.overall + [name for name in self.classes if name.partition("/")[2] in focus]
        self.label = {name: row.label for name, row in found.factors.items()}

    def sections(self) -> list[Section]:
        """Summary, effects, interactions, classes, runs."""
        parts = (
            section(
                "summary", "Effect of each change", Text(self._setting()), self._sentences(), effects_figure(self.found)
            ),
            section("effects", "Main effects", self._effects()),
            section("interactions", "Two-way interactions", self._interactions()),
            section("classes", "Effect on every class", self._per_class()),
            section("runs", "Runs", self._runs()),
        )
        return [part for part in parts if part is not None]

    def _num(self, key: str, style: str) -> Any:
        return self.ledger.num(self.file, key, style)

    def _setting(self) -> Inline:
        designs = {
            "full": "every combination of the changes",
            "one-at-a-time": "no change, and each change on its own",
            "leave-one-out": "all changes, and all changes except one",
        }
        return run(
            f"The runs of phase {self.found.phase} cover {designs[self.found.design]}. Each combination was "
            "trained once for every seed label in ",
            self._num("seeds", "plain"),
            " and scored on the ",
            *self._counted(),
            f" of {self.found.split}. Effects are in percentage points. Brackets are 95 % intervals that "
            "account for variation between seeds and between independent images or sequences (paired bootstrap). One "
            "interval in twenty excludes zero by chance.",
        )

    def _counted(self) -> Inline:
        """`48 images in 10 sequences`"""
        images = self._num("images", "count")
        if self.found.unit == "image":
            return run(images, " images")
        return run(images, " images in ", self._num("units", "count"), f" {self.found.unit}s")

    def _sentences(self) -> Bullets:
        items = [run(*sentence(self.ledger, self.file, self.found, name)) for name in self.found.effects]
        if self.found.together:
            items.append(run("all together: ", *self._points(f"together.{self.found.headline}")))
        return Bullets(tuple(items))

    def _points(self, key: str) -> Inline:
        return self.ledger.interval(self.file, key, "points")

    def _effect_cell(self, key: str, effect: Interval) -> Cell:
        tone = {BETTER: "good", WORSE: "bad", UNDECIDED: ""}[of_effect(effect)]
        return cell(self._points(key), tone=tone)

    def _cells(self, key: str, effects: Effects) -> list[Cell]:
        return [self._effect_cell(f"{key}.{metric}", effects[metric]) for metric in self.shown]

    def _effects(self) -> Table:
        rows = [
            (cell(self.label[name]), *self._cells(f"effects.{name}", effects))
            for name, effects in self.found.effects.items()
        ]
        if self.found.together:
            rows.append((cell("all together"), *self._cells("together", self.found.together)))
        what = {
            "full": "Mean score with the change minus mean without it, over all combinations of the other changes",
            "one-at-a-time": "Score with only this change minus score without any change",
            "leave-one-out": "Score with all changes minus score with all changes except this one",
        }[self.found.design]
        return Table("effects", "Each change", ("change", *self.shown), tuple(rows), run(f"{what}; {self._scope()}."))

    def _scope(self) -> str:
        return f"percentage points on {self.found.split}, 95 % intervals from seeds and images"

    def _interactions(self) -> Table | None:
        if not self.found.interactions:
            return None
        rows = []
        for pair, effects in self.found.interactions.items():
            title = " × ".join(self.label[name] for name in pair.split(" x "))
            rows.append((cell(title), *self._cells(f"interactions.{pair}", effects)))
        caption = run(f"Half of the difference that one change makes to the effect of the other; {self._scope()}.")
        return Table("interactions", "Each pair of changes", ("changes", *self.shown), tuple(rows), caption)

    def _per_class(self) -> Table:
        rows = []
        for metric in self.classes:
            cells = [
                self._effect_cell(f"effects.{name}.{metric}", effects[metric])
                for name, effects in self.found.effects.items()
            ]
            rows.append((cell(metric.partition("/")[2]), *cells))
        columns = ("class", *(self.label[name] for name in self.found.effects))
        main = self.classes[0].partition("/")[0]
        return Table("classes", f"{main} of each class", columns, tuple(rows), run(f"{main}: {self._scope()}."))

    def _runs(self) -> Table:
        rows = []
        for index, record in enumerate(self.found.runs):
            levels = [
                cell(record.levels[name], tone="" if record.levels[name] == "on" else "quiet") for name in self.label
            ]
            numbers = [cell(self._num(f"runs.{index}.scores.{metric}", "fraction")) for metric in self.shown]
            seeds = [cell(self._num(f"runs.{index}.{key}", "plain")) for key in ("seed", "training_seed")]
            rows.append((*levels, *seeds, *numbers, cell(record.name, tone="code")))
        columns = (*self.label.values(), "seed", "trained with", *self.shown, "experiment")
        caption = run(
            f"Scores on {self.found.split} from the files of each experiment. `dvc exp show` lists the experiments, "
            "`dvc exp pull` downloads those that were pushed, and `dvc exp apply` with a name restores a run and its "
            "report, which gives every score with its interval. `retrace why` shows the code, data, weights and "
            "metrics file behind a score."
        )
        return Table("runs", "Each experiment", columns, tuple(rows), caption)
