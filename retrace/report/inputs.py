"""The inputs of the report, read once: parameters, metrics files, manifests, histories and run journals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrace.config.metrics import OVERALL, PER_CLASS
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.files import LOGS, read_json
from retrace.provenance.run_log import journal_path
from retrace.report.numbers import number, read_csv

ONCE_A_STUDY = ("collect", "rebalance", "pretrain")
ONCE_A_PHASE = ("finetune", "evaluate")


@dataclass(frozen=True)
class Inputs:
    """The files as read. Paths are relative to the project's folder; `file_*` give the names that numbers refer to."""

    params: Params
    metrics: dict[str, dict[str, Any]]  # by phase, in the order of params.yaml
    leftover: tuple[str, ...]  # phases with metrics files that params.yaml no longer has
    dataset: dict[str, Any]
    splits: dict[str, Any]
    start: dict[str, Any] | None  # of pretraining; None where no phase needs any
    history: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    pretrain_history: list[dict[str, str]] = field(default_factory=list)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    journals: dict[str, dict[str, Any]] = field(default_factory=dict)  # by "<stage>" or "<stage>@<phase>"
    speed: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def study(self) -> str:
        return self.params.study

    @property
    def report_folder(self) -> Path:
        return Path("reports") / self.study

    @property
    def active(self) -> dict[str, Any]:
        """Metrics of the active phase."""
        return self.metrics[self.params.phase]

    @property
    def headline_split(self) -> str:
        """test where it has images, else the first split that was scored."""
        scored = self.active["splits"]
        return "test" if scored.get("test", {}).get("images") else next(iter(scored))

    @property
    def overall(self) -> tuple[str, ...]:
        """Overall metrics of this task that were measured, headline first."""
        names = [name for name in OVERALL[self.params.task] if self._measured(name)]
        return tuple(sorted(names, key=lambda name: name != self.params.report.headline))

    @property
    def per_class(self) -> tuple[str, ...]:
        """Scores of every class that were measured, the main one first."""
        rows = [
            row
            for phase in self.metrics.values()
            for split in phase["splits"].values()
            for row in split["per_class"].values()
        ]
        return tuple(name for name in PER_CLASS[self.params.task] if any(name in row for row in rows))

    def _measured(self, name: str) -> bool:
        nodes = [split.get(name) for phase in self.metrics.values() for split in phase["splits"].values()]
        return any(node is not None and (not isinstance(node, Mapping) or node["value"] is not None) for node in nodes)

    def compared_with(self, phase: str) -> str | None:
        """The phase that `phase` starts from; without one the first phase; None for the first itself."""
        names = list(self.params.phases)
        init = self.params.phases[phase].init
        return init if init in names else names[0] if phase != names[0] else None

    def file_metrics(self, phase: str) -> str:
        return f"metrics/{self.study}/{phase}.json"

    def file_history(self, phase: str) -> str:
        return f"models/{self.study}/{phase}/history.csv"

    @property
    def file_start(self) -> str:
        return f"models/{self.study}/pretrain/start.json"

    @property
    def file_dataset(self) -> str:
        return f"data/{self.study}/raw/dataset.json"

    @property
    def file_splits(self) -> str:
        return f"data/{self.study}/splits/summary.json"

    def file_own(self, name: str) -> str:
        """A document that the report itself writes beside report.md."""
        return (self.report_folder / name).as_posix()

    def seen(self, phase: str, split: str, name: str) -> int:
        """How many images (segmentation) or objects (detection) of a class a split holds."""
        row = self.metrics[phase]["splits"][split]["per_class"][name]
        return int(row["instances"] if self.params.task == "detection" else row["images"])

    @property
    def seen_key(self) -> str:
        return "instances" if self.params.task == "detection" else "images"


def read_inputs(params: Params) -> Inputs:
    """Read what earlier stages wrote.

    Raises:
        UserError: a phase of params.yaml has no metrics file, a file is damaged or belongs to another study.
    """
    study = params.study
    metrics = _metrics(params)
    measured = sorted(path.stem for path in Path("metrics", study).glob("*.json"))
    models = Path("models", study)
    pretrained = params.pretrain.method != "none"
    history_of_pretraining = models / "pretrain" / "history.csv"
    return Inputs(
        params=params,
        metrics=metrics,
        leftover=tuple(name for name in measured if name not in params.phases),
        dataset=read_json(Path("data", study, "raw", "dataset.json")),
        splits=read_json(Path("data", study, "splits", "summary.json")),
        start=read_json(models / "pretrain" / "start.json") if pretrained else None,
        history={phase: read_csv(models / phase / "history.csv") for phase in params.phases},
        pretrain_history=read_csv(history_of_pretraining) if history_of_pretraining.exists() else [],
        samples={phase: _rows(Path("metrics", study, phase, "samples.json")) for phase in params.phases},
        journals=_journals(params),
        speed={phase: row for phase in params.phases if (row := _log(LOGS / study / phase / "speed.json"))},
    )


def _metrics(params: Params) -> dict[str, dict[str, Any]]:
    paths = {phase: Path("metrics", params.study, f"{phase}.json") for phase in params.phases}
    missing = [phase for phase, path in paths.items() if not path.is_file()]
    if len(missing) == len(paths):
        raise UserError(f"metrics/{params.study}: no phase has been evaluated yet; run `dvc repro` first")
    if missing:
        names = ", ".join(missing)
        raise UserError(
            f"metrics/{params.study}: there is no metrics file for phase {names} (phases in params.yaml: "
            f"{', '.join(paths)}); run `dvc repro evaluate@{missing[0]}`, or remove the phase from params.yaml"
        )
    result = {}
    for phase, path in paths.items():
        document = read_json(path)
        for key, wanted in (("study", params.study), ("phase", phase), ("task", params.task)):
            if not isinstance(document, dict) or document.get(key) != wanted:
                given = document.get(key) if isinstance(document, dict) else None
                raise UserError(f"{path}: {key} is {given!r}, not {wanted!r}; run `dvc repro evaluate@{phase}`")
        if document["classes"] != list(params.classes):
            raise UserError(f"{path}: its classes differ from those in params.yaml; run `dvc repro evaluate@{phase}`")
        result[phase] = document
    _headline_exists(params, result)
    return result


def _headline_exists(params: Params, metrics: dict[str, dict[str, Any]]) -> None:
    allowed = OVERALL[params.task]
    if params.report.headline not in allowed:
        raise UserError(
            f"params.yaml: report.headline = {params.report.headline!r}: {params.task} has no such metric; "
            f"allowed: {', '.join(allowed)}"
        )
    for phase, document in metrics.items():
        if not document["splits"]:
            raise UserError(
                f"metrics/{params.study}/{phase}.json: no split was scored; run `dvc repro evaluate@{phase}`"
            )


def _rows(path: Path) -> list[dict[str, Any]]:
    return read_json(path) if path.exists() else []


def _journals(params: Params) -> dict[str, dict[str, Any]]:
    names = {stage: journal_path(params.study, stage) for stage in ONCE_A_STUDY}
    for phase in params.phases:
        names |= {f"{stage}@{phase}": journal_path(params.study, stage, phase) for stage in ONCE_A_PHASE}
    return {name: row for name, path in names.items() if (row := _log(path))}


def _log(path: Path) -> dict[str, Any] | None:
    # logs are not outputs of a stage: a missing or damaged log only leaves its line out
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None


def values(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """(epoch, value) pairs of a history, without empty values."""
    pairs = [(number(row.get("epoch")), number(row.get(column))) for row in rows]
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]
