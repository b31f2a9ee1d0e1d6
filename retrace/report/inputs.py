"""The inputs of the report, read once: parameters, documents of earlier stages, histories, run logs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from retrace.config.metrics import CLASS, headlines, names
from retrace.config.schema import Params
from retrace.config.trainings import stage_of
from retrace.documents.ablation import AblationResult
from retrace.documents.base import Document
from retrace.documents.dataset import Dataset
from retrace.documents.error_pictures import ErrorPicture, read_error_pictures
from retrace.documents.run_log import RunLog
from retrace.documents.samples import Sample, read_samples
from retrace.documents.scores import Scores, read_scores
from retrace.documents.speed import Speed
from retrace.documents.splits import SplitSummary
from retrace.documents.start import START, Start
from retrace.errors import UserError
from retrace.files import LOGS
from retrace.provenance.run_log import journal_path
from retrace.report.numbers import number, read_csv

ONCE_A_STUDY = ("collect", "rebalance", "pretrain")
ONCE_A_PHASE = ("finetune", "evaluate")
Kind = TypeVar("Kind", bound=Document)


@dataclass(frozen=True)
class Results:
    """The scores of a study's phases. `file_*` give the names of files that numbers refer to."""

    params: Params
    metrics: dict[str, Scores]  # by phase, in the order of params.yaml

    @property
    def study(self) -> str:
        return self.params.study

    @property
    def report_folder(self) -> Path:
        return Path("reports") / self.study

    @property
    def active(self) -> Scores:
        """Scores of the active phase."""
        return self.metrics[self.params.phase]

    @property
    def headline_split(self) -> str:
        """test where it has images, else the first split that was scored."""
        return self.active.headline_split

    @property
    def overall(self) -> tuple[str, ...]:
        """Overall metrics of this task that were measured, headline first."""
        measured = [name for name in headlines(self.params.task) if self._measured(name)]
        return tuple(sorted(measured, key=lambda name: name != self.params.report.headline))

    @property
    def per_class(self) -> tuple[str, ...]:
        """Scores of every class that were measured, the main one first."""
        scored = [split for phase in self.metrics.values() for split in phase.splits.values()]
        rows = [row for split in scored for row in split.per_class.values()]
        listed = names(self.params.task, CLASS)
        return tuple(name for name in listed if any(row.has(name) for row in rows))

    def _measured(self, name: str) -> bool:
        scored = [split for phase in self.metrics.values() for split in phase.splits.values()]
        return any(split.estimate(name).value is not None for split in scored)

    def compared_with(self, phase: str) -> str | None:
        """The phase that `phase` starts from; without one the first phase; None for the first itself."""
        phases = list(self.params.phases)
        init = self.params.phases[phase].init
        return init if init in phases else phases[0] if phase != phases[0] else None

    def file_metrics(self, phase: str) -> str:
        return f"metrics/{self.study}/{phase}.json"

    def file_history(self, phase: str) -> str:
        return f"models/{self.study}/{phase}/history.csv"

    def file_own(self, name: str) -> str:
        """A document that the report itself writes beside report.md."""
        return (self.report_folder / name).as_posix()

    def seen(self, phase: str, split: str, name: str) -> int:
        """How many images (segmentation) or objects (detection) of a class a split holds."""
        return self.metrics[phase].splits[split].per_class[name].seen

    @property
    def seen_key(self) -> str:
        return "instances" if self.params.task == "detection" else "images"


@dataclass(frozen=True)
class Inputs(Results):
    """The files as read. Paths are relative to the project's folder."""

    leftover: tuple[str, ...]  # trainings with metrics files that params.yaml no longer has
    dataset: Dataset
    splits: SplitSummary
    start: Start | None  # of pretraining; None where no phase needs any
    history: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    pretrain_history: list[dict[str, str]] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: list[ErrorPicture] = field(default_factory=list)  # of the active phase
    journals: dict[str, RunLog] = field(default_factory=dict)  # by "<stage>" or "<stage>@<phase>"
    speed: dict[str, Speed] = field(default_factory=dict)
    ablation: AblationResult | None = None  # of this study, where there is one beside the report's folder
    repeats: dict[str, Scores] = field(default_factory=dict)  # by training, `<phase>-<seed>`

    def scores(self, training: str) -> Scores:
        """The scores of a phase's shipped weights, or of one of its repeats."""
        return self.metrics[training] if training in self.metrics else self.repeats[training]

    @property
    def file_ablation(self) -> str:
        """Where the study's ablation stands."""
        return f"reports/{self.study}-ablation/ablation.json"

    @property
    def file_start(self) -> str:
        return f"models/{self.study}/pretrain/start.json"

    @property
    def file_dataset(self) -> str:
        return f"data/{self.study}/raw/dataset.json"

    @property
    def file_splits(self) -> str:
        return f"data/{self.study}/splits/summary.json"


def read_inputs(params: Params) -> Inputs:
    """Read what earlier stages wrote.

    Raises:
        UserError: a phase of params.yaml has no metrics file, a file is damaged or belongs to
            another study.
    """
    study = params.study
    scores = _metrics(params)
    measured = sorted(path.stem for path in Path("metrics", study).glob("*.json"))
    models = Path("models", study)
    pretrained = params.pretrain.method != "none"
    pretraining = models / "pretrain" / "history.csv"
    speed = {phase: _log(Speed, LOGS / study / phase / "speed.json") for phase in params.phases}
    return Inputs(
        params=params,
        metrics={phase: scores[phase] for phase in params.phases},
        repeats={name: row for name, row in scores.items() if name not in params.phases},
        leftover=tuple(name for name in measured if name not in params.trainings),
        dataset=Dataset.read(Path("data", study, "raw", "dataset.json")),
        splits=SplitSummary.read(Path("data", study, "splits", "summary.json")),
        start=Start.read(models / "pretrain" / START) if pretrained else None,
        history={phase: read_csv(models / phase / "history.csv") for phase in params.phases},
        pretrain_history=read_csv(pretraining) if pretraining.exists() else [],
        samples={phase: _samples(study, phase) for phase in params.phases},
        errors=_errors(study, params.phase),
        journals=_journals(params),
        speed={phase: row for phase, row in speed.items() if row is not None},
        ablation=_log(AblationResult, Path("reports", f"{study}-ablation", "ablation.json")),
    )


def _metrics(params: Params) -> dict[str, Scores]:
    paths = {name: Path("metrics", params.study, f"{name}.json") for name in params.trainings}
    missing = [phase for phase, path in paths.items() if not path.is_file()]
    if len(missing) == len(paths):
        raise UserError(f"metrics/{params.study}: no phase has been evaluated yet; run `dvc repro` first")
    if missing:
        raise UserError(
            f"metrics/{params.study}: there is no metrics file for phase {', '.join(missing)} "
            f"(phases in params.yaml: {', '.join(paths)}); run `dvc repro {stage_of('evaluate', missing[0])}`, "
            "or remove the phase from params.yaml"
        )
    result = {}
    for phase, path in paths.items():
        scores, again = read_scores(path), f"run `dvc repro {stage_of('evaluate', phase)}`"
        for key, wanted in (("study", params.study), ("phase", phase), ("task", params.task)):
            if getattr(scores, key) != wanted:
                raise UserError(f"{path}: {key} is {getattr(scores, key)!r}, not {wanted!r}; {again}")
        if scores.classes != list(params.classes):
            raise UserError(f"{path}: its classes differ from those in params.yaml; {again}")
        if not scores.splits:
            raise UserError(f"{path}: no split was scored; {again}")
        result[phase] = scores
    return result


def _samples(study: str, phase: str) -> list[Sample]:
    path = Path("metrics", study, phase, "samples.json")
    return read_samples(path) if path.exists() else []


def _errors(study: str, phase: str) -> list[ErrorPicture]:
    path = Path("metrics", study, phase, "errors.json")
    return read_error_pictures(path) if path.exists() else []


def _journals(params: Params) -> dict[str, RunLog]:
    paths = {stage: journal_path(params.study, stage) for stage in ONCE_A_STUDY}
    for training in params.trainings:
        for stage in ONCE_A_PHASE:
            paths[stage_of(stage, training)] = journal_path(params.study, stage, training)
    logs = {name: _log(RunLog, path) for name, path in paths.items()}
    return {name: log for name, log in logs.items() if log is not None}


def _log(kind: type[Kind], path: Path) -> Kind | None:
    # neither logs nor an ablation are outputs of a stage: a missing or damaged one only leaves its line out
    try:
        return kind.read(path)
    except UserError:
        return None


def values(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """(epoch, value) pairs of a history, without empty values."""
    pairs = [(number(row.get("epoch")), number(row.get(column))) for row in rows]
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]
