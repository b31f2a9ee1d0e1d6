"""Tables of the committed results (metrics/<study>/*.json and reports/<study>/) for the project's documents."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from retrace.config.load import parse
from retrace.config.metrics import title
from retrace.documents.ablation import AblationResult, Effects
from retrace.documents.derived import Derived
from retrace.documents.parameters import Parameters
from retrace.documents.provenance import Provenance
from retrace.documents.scores import Scores, read_scores
from retrace.errors import UserError
from retrace.report import claims, tables
from retrace.report.blocks import Cell, Table, cell
from retrace.report.comparison.selection import how_to_run
from retrace.report.inputs import Results
from retrace.report.numbers import ABSENT, Inline, Ledger, show
from retrace.report.verdicts import words
from retrace.statistics.verdicts import WORSE, of_effect

NOT_RUN = "not run"
OWN = ("parameters.json", "derived.json", "provenance.json")


class Kept:
    """One study's committed results."""

    def __init__(self, study: str):
        folder = Path("reports", study)
        self.derived = Derived.read(folder / "derived.json")
        self.origin = Provenance.read(folder / "provenance.json")
        parameters = Parameters.read(folder / "parameters.json")
        params = parse(parameters.content(), str(folder / "parameters.json"))
        metrics = {phase: self._scores(study, phase) for phase in params.phases}
        self.inputs, self.ledger = Results(params, metrics), Ledger()

    def _scores(self, study: str, phase: str) -> Scores:
        path = Path("metrics", study, f"{phase}.json")
        scores = read_scores(path)
        stage = self.origin.stages.get(f"evaluate@{phase}")
        recorded = stage.outs.get(path.as_posix()) if stage is not None else None
        if recorded is not None and recorded != hashlib.md5(path.read_bytes()).hexdigest():
            raise UserError(f"reports/{study}: the report was made from another {path}; run `dvc repro` to update it")
        return scores


def kept(studies: Sequence[str] | None = None) -> dict[str, Kept | None]:
    """Every known study, sorted; None for one without committed results. `studies`: only these count as run."""
    if studies is None:
        studies = [path.name for path in Path("metrics").glob("*") if _complete(path.name)]
    shipped = (path.stem for path in Path("studies").glob("*.yaml") if "." not in path.stem)
    return {name: Kept(name) if name in studies else None for name in sorted({*shipped, *studies})}


def _complete(study: str) -> bool:
    return all(Path("reports", study, name).is_file() for name in OWN)


def results(found: dict[str, Kept | None], beside: Path, cost: bool) -> Table:
    """One row per study: headline, difference to the first phase, target and link; with `cost` also training time.

    `beside` is the folder of the document, to which links are relative.
    """
    columns: tuple[str, ...] = (
        "Study",
        "Active phase, score",
        "Images",
        "Against the first phase",
        "Target",
        "Target met",
    )
    columns += ("Training", "Parameters", "Report") if cost else ("Report",)
    rows = []
    for study, result in found.items():
        if result is None:
            dashes = [cell(ABSENT)] * (len(columns) - 3)
            rows.append((cell(study), cell(NOT_RUN, tone="quiet"), *dashes, cell(how_to_run(study), tone="code")))
        else:
            rows.append(_results_row(study, result, beside, cost))
    return Table("results", "Results", columns, tuple(rows), (_results_caption(found, cost),))


def _results_caption(found: dict[str, Kept | None], cost: bool) -> str:
    sentences = [
        tables.INTERVALS,
        "Differences to the first phase are paired: both phases on the same resampled images.",
    ]
    if cost:
        sentences.append("Training is the time of pre-training and all phases on the machine of the run.")
    demos = [name for name, result in found.items() if result is not None and not result.inputs.params.report.real_data]
    if demos:
        sentences.append(f"Generated demo data, not comparable with published figures: {', '.join(demos)}.")
    if None in found.values():
        sentences.append("Studies that were not run have no committed results; the command produces them.")
    return " ".join(sentences)


def _results_row(study: str, result: Kept, beside: Path, cost: bool) -> tuple[Cell, ...]:
    inputs, ledger = result.inputs, result.ledger
    phase, split, metric = inputs.params.phase, inputs.headline_split, inputs.params.report.headline
    file = inputs.file_metrics(phase)
    link = os.path.relpath(inputs.report_folder / "report.md", beside).replace(os.sep, "/")
    goals, words = _targets(result)
    return (
        cell(study + ("" if inputs.params.report.real_data else " (demo)")),
        cell(f"{phase}: {tables.label(inputs, metric)} ", ledger.interval(file, f"splits.{split}.{metric}")),
        cell(f"{split}, ", *tables.counted(inputs, ledger, phase, split)),
        _against_first(result),
        cell(*goals),
        cell(", ".join(words) or ABSENT),
        *((cell(_training(result)), cell(ledger.num(file, "parameters", "count"))) if cost else ()),
        cell(f"[report]({link})"),
    )


def _against_first(result: Kept) -> Cell:
    inputs, split, metric = result.inputs, result.inputs.headline_split, result.inputs.params.report.headline
    first = next(iter(inputs.metrics))
    if first == inputs.params.phase:
        return cell(ABSENT)
    paired = result.derived.final.get(split)
    row = paired.difference(metric) if paired is not None else None
    if row is None or row.value is None:
        return cell(f"{first}: not compared, different images")
    difference = result.ledger.interval(inputs.file_own("derived.json"), f"final.{split}.{metric}", "signed")
    return cell(f"{first}: ", difference, f", {words(row)}")


def _targets(result: Kept) -> tuple[list[Inline], list[str]]:
    """The active phase's targets (or, without any, the published figures) and the verdict on each."""
    inputs, params = result.inputs, result.inputs.params
    claimed = [i for i, claim in enumerate(params.report.claims) if (claim.phase or params.phase) == params.phase]
    targets = [i for i in claimed if params.report.claims[i].kind == "target"]
    headline = [i for i in claimed if params.report.claims[i].metric == params.report.headline]
    parts: list[Inline] = []
    words: list[str] = []
    for index in targets or headline:
        claim = params.report.claims[index]
        named = "" if claim.kind == "target" else f"{claim.kind} "
        value = claims.claimed(inputs, result.ledger, index)
        parts.append(
            ("; " if parts else "", f"{named}{tables.label(inputs, claim.metric)} ", *value, f", {claim.split}")
        )
        judged = result.derived.claims[index]
        words.append(judged.status + (f" ({judged.why})" if judged.why else ""))
    return parts or [(ABSENT,)], words[:1] if len(set(words)) == 1 else words


def _training(result: Kept) -> str:
    """Duration of pre-training and of every phase; a stage restored from the cache was not timed."""
    run, seconds = result.origin.run.stages, 0.0
    for name, stage in run.items():
        if name == "pretrain" or name.startswith("finetune@"):
            if stage.seconds is None:
                return "not timed (from the cache)"
            seconds += stage.seconds
    devices = ", ".join(result.origin.devices)
    return show(seconds, "duration") + (f" ({devices})" if devices else "")


def phases(found: dict[str, Kept | None], study: str) -> Table | str:
    """The phases of one study with difference and verdict; a sentence where it was not run."""
    if study not in found:
        raise UserError(f"{study!r}: no such study; allowed: {', '.join(found)}")
    result = found[study]
    if result is None:
        return f"{NOT_RUN.capitalize()}: `{how_to_run(study)}`"
    return tables.phases(result.inputs, result.ledger, result.derived, result.inputs.params.report.headline)


def ablation(study: str, beside: Path) -> Table | str:
    """The effect of each change of the ablated phase, from reports/<study>-ablation/; a sentence if it is missing."""
    folder = Path("reports", f"{study}-ablation")
    path = folder / "ablation.json"
    if not path.is_file():
        return f"{NOT_RUN.capitalize()}: `{how_to_run(study)}`, commit, then `retrace ablate`"
    found, ledger, file = AblationResult.read(path), Ledger(), path.as_posix()
    headline = found.headline
    if any(headline not in found.effects.get(name, {}) for name in found.factors):
        raise UserError(f"{path}: damaged: no effect on {headline} for every factor; run `retrace ablate`")
    metrics = [name for name in next(iter(found.effects.values())) if name in (headline, "focus_mIoU")]
    rows = [
        _effect_row(ledger, file, f"effects.{name}", factor.label, found.effects[name], metrics, headline)
        for name, factor in found.factors.items()
    ]
    if found.together:
        rows.append(_effect_row(ledger, file, "together", "all together", found.together, metrics, headline))
    labels = ["focus classes" if name == "focus_mIoU" else title(found.task, name) for name in metrics]
    link = os.path.relpath(folder / "ablation.md", beside).replace(os.sep, "/")
    seeds = ", ".join(map(str, found.seeds))
    caption = (
        f"{_worst(found)}Phase {found.phase}, {found.design}, seeds {seeds}; {found.split}, n = ",
        ledger.num(file, "images", "count"),
        f" images. Percentage points; brackets: 95 % interval from seeds and images. [All effects and runs]({link})",
    )
    return Table("ablation", "Effects", ("Change", *labels, "Verdict"), tuple(rows), caption)


def _worst(found: AblationResult) -> str:
    """The sentence on the factor with the largest measurable loss, if there is one."""
    effects = {name: found.effects[name][found.headline] for name in found.factors}
    costly = {name: effect.value for name, effect in effects.items() if of_effect(effect) == WORSE}
    if not costly:
        return ""
    return f"Largest loss, {found.sentences[min(costly, key=lambda name: costly[name] or 0.0)]}. "


def _effect_row(
    ledger: Ledger, file: str, key: str, label: str, effects: Effects, metrics: list[str], headline: str
) -> tuple[Cell, ...]:
    word = of_effect(effects[headline])
    values = [cell(ledger.interval(file, f"{key}.{metric}", "points")) for metric in metrics]
    return cell(label), *values, cell(word, tone=tables.TONES[word])
