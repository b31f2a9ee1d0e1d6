"""Read finished experiments: metrics from `dvc exp show`, per-image results from the DVC cache."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from retrace import seeds
from retrace.config.metrics import CLASS, names
from retrace.config.schema import Params
from retrace.documents.scores import parse_scores
from retrace.errors import UserError
from retrace.programs import dvc, git
from retrace.progress import track
from retrace.report.resamples import per_image, read_units
from retrace.statistics.bootstrap import Units, bootstrap
from retrace.sweeps.design import Experiment
from retrace.sweeps.git import find


@dataclass(frozen=True)
class Results:
    """All runs of a design on one split: `scores` {metric: [R]}, `draws` {metric: [B, R]} on the same resamples.

    `made`: of every run {path: md5} of its weights, metrics file and results per image.
    """

    experiments: tuple[Experiment, ...]
    commits: tuple[str, ...]
    made: tuple[dict[str, str], ...]
    split: str
    images: int
    units: int
    unit: str  # what they are called: image, sequence or group
    scores: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]


def read_results(params: Params, experiments: Sequence[Experiment]) -> Results:
    """Raises `UserError` when an experiment is missing, or was scored on other images than the rest."""
    assert params.ablation is not None
    phase = params.ablation.phase
    kept = find(experiment.name for experiment in experiments)
    missing = [experiment.name for experiment in experiments if experiment.name not in kept]
    if missing:
        raise UserError(
            f"{len(missing)} experiments are missing, the first is {missing[0]}; run `retrace ablate` again"
        )
    shown = shown_metrics({name: experiment.baseline for name, experiment in kept.items()})
    commits = tuple(kept[experiment.name].commit for experiment in experiments)
    split, ids, units, unit = "", None, 0, "image"
    scores: dict[str, list[float]] = {}
    draws: dict[str, list[np.ndarray]] = {}
    for experiment, commit in track(list(zip(experiments, commits, strict=True)), "reading experiments"):
        found = _one(params, phase, experiment.name, commit)
        split, ids, units, unit = found.split, found.ids if ids is None else ids, found.units, found.unit
        if found.ids != ids:
            raise UserError(f"{experiment.name}: was scored on other images than the experiments before it")
        _same_as_shown(experiment.name, params, found, shown[experiment.name])
        for name in found.scores:
            scores.setdefault(name, []).append(found.scores[name])
            draws.setdefault(name, []).append(found.draws[name])
    return Results(
        tuple(experiments),
        commits,
        tuple(made_by(commit, phase) for commit in commits),
        split,
        len(ids or ()),
        units,
        unit,
        {name: np.array(values) for name, values in scores.items()},
        {name: np.stack(columns, axis=1) for name, columns in draws.items()},
    )


def made_by(commit: str, phase: str) -> dict[str, str]:
    """{path: md5} of what an experiment's finetune and evaluate wrote, from its dvc.lock."""
    stages = YAML(typ="safe", pure=True).load(git("show", f"{commit}:./dvc.lock"))["stages"]
    outs = (out for step in ("finetune", "evaluate") for out in stages[f"{step}@{phase}"]["outs"])
    return {out["path"]: out["md5"] for out in outs}


def shown_metrics(baselines: dict[str, str]) -> dict[str, dict[str, float]]:
    """`{experiment: {"test_mIoU": value, ...}}` of metrics.json, from `dvc exp show --json`."""
    revs = [part for commit in sorted(set(baselines.values())) for part in ("--rev", commit)]
    found = {}
    for commit in json.loads(dvc("exp", "show", "--json", *revs)):
        for experiment in commit.get("experiments") or ():
            data = experiment["revs"][0].get("data") or {}
            found[experiment["name"]] = (data.get("metrics") or {}).get("metrics.json", {}).get("data") or {}
    absent = sorted(set(baselines) - set(found))
    if absent:
        raise UserError(f"dvc exp show does not list {', '.join(absent)}; remove it (`dvc exp remove`) and run again")
    return found


@dataclass(frozen=True)
class _Run:
    split: str
    ids: list[str]
    units: int
    unit: str
    scores: dict[str, float]
    draws: dict[str, np.ndarray]


def _one(params: Params, phase: str, name: str, commit: str) -> _Run:
    from dvc.api import DVCFileSystem

    folder = f"metrics/{params.study}/{phase}"
    document = parse_scores(git("show", f"{commit}:{folder}.json"), f"{folder}.json of {name}")
    split = document.headline_split
    with tempfile.TemporaryDirectory() as temporary:
        files = DVCFileSystem(".", rev=commit)
        try:
            for path in files.ls(folder, detail=False):
                if Path(path).stem.endswith(f"_{split}"):
                    files.get_file(path, str(Path(temporary, Path(path).name)))
        except FileNotFoundError:
            raise UserError(
                f"{name}: its per-image results are no longer in the DVC cache; `dvc exp pull <remote> {name}`, or "
                f"`dvc exp remove {name}` and run `retrace ablate` again"
            ) from None
        ids = Path(temporary, f"images_{split}.txt").read_text(encoding="utf-8").split()
        statistic = per_image(Path(temporary), split, document, params.report.focus_classes)
        units = _units(Path(temporary), split, name)
        wanted = metrics(params)
        values = statistic(np.ones((1, len(ids))))
        seed = seeds.derive(params.seed, "bootstrap", split)
        draws = bootstrap(lambda weights: _chosen(statistic(weights), wanted), units, params.evaluate.bootstrap, seed)
    chosen = {name: float(values[name][0]) for name in wanted}
    return _Run(split, ids, units.count, document.splits[split].unit, chosen, draws)


def _units(folder: Path, split: str, name: str) -> Units:
    try:
        return read_units(folder, split)
    except FileNotFoundError:
        raise UserError(
            f"{name}: it was scored by a version that did not write which images are independent; "
            f"`dvc exp remove {name}` and run `retrace ablate` again"
        ) from None


def _chosen(found: dict[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: found[name] for name in wanted}


def metrics(params: Params) -> list[str]:
    """The headline, the mean over the focus classes where there is one, and the main score of every class."""
    main = names(params.task, CLASS)[0]
    focus = ["focus_mIoU"] if params.task == "segmentation" and params.report.focus_classes else []
    overall = dict.fromkeys([params.report.headline, *focus])
    return [*overall, *(f"{main}/{name}" for name in params.classes)]


def _same_as_shown(name: str, params: Params, found: _Run, shown: dict[str, float]) -> None:
    headline = params.report.headline
    value = shown.get(f"{found.split}_{headline}")
    if value is None or abs(value - found.scores[headline]) > 1e-9:
        raise UserError(
            f"{name}: metrics.json has {found.split}_{headline} = {value}, but its per-image results give "
            f"{found.scores[headline]}; remove the experiment (`dvc exp remove {name}`) and run `retrace ablate` again"
        )
