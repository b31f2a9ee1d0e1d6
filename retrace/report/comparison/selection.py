"""Find the metrics files for the names given on the command line."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrace.config.load import parse
from retrace.config.schema import Evaluate, Params, Report
from retrace.config.trainings import phase_of, stage_of
from retrace.documents.scores import Scores, parse_scores
from retrace.errors import UserError
from retrace.programs import experiments
from retrace.report.comparison.places import WORKSPACE, Place, revision


@dataclass(frozen=True)
class Run:
    """One metrics file: a phase of a study, in the working folder or at a commit."""

    place: Place
    study: str
    phase: str
    content: bytes  # of metrics/<study>/<phase>.json
    scores: Scores
    settings: dict[str, Any]  # the parameters it was made with, or those of params.yaml where no report keeps them

    @property
    def name(self) -> str:
        """`lanes:mae_ohem` in the working folder, `HEAD~3:mae_ohem` at a commit."""
        return f"{self.study if self.place.commit is None else self.place.name}:{self.phase}"

    @property
    def headline(self) -> str:
        return str((self.settings.get("report") or {}).get("headline", Report.model_fields["headline"].default))

    @property
    def focus_classes(self) -> tuple[str, ...]:
        return tuple((self.settings.get("report") or {}).get("focus_classes") or ())

    @property
    def resamples(self) -> int:
        return int((self.settings.get("evaluate") or {}).get("bootstrap", Evaluate.model_fields["bootstrap"].default))

    @property
    def margin(self) -> float:
        return float((self.settings.get("report") or {}).get("margin", Report.model_fields["margin"].default))

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def active(self) -> str:
        """The active phase of the parameters."""
        return str(self.settings.get("phase", ""))

    @property
    def demo(self) -> bool:
        """Whether the data are drawn, not the study's own."""
        return (self.settings.get("report") or {}).get("real_data", True) is False

    @property
    def params(self) -> Params | None:
        """All parameters, defaults filled in; None where this version no longer understands them."""
        try:
            return parse(self.settings)
        except UserError:
            return None

    @property
    def split(self) -> str:
        """test where it has images, else the first split that was scored."""
        return self.scores.headline_split


def select(names: Sequence[str]) -> list[Run]:
    """The runs that `names` stand for, in this order, each once; without names every study with results.

    A name is a study (all its phases), a phase, `study:phase`, `workspace`, a commit, branch, tag or experiment (its
    active phase), or `commit:phase`, `commit:study`, `commit:study:phase`. Studies and phases come before commits.

    Raises:
        UserError: there is no such thing, or it has no results.
    """
    here = Place(WORKSPACE)
    if names:
        found = [run for name in names for run in _runs(here, name)]
    else:
        found = [run for study in here.names("metrics") for run in _phases(here, study)]
    if not found:
        study = _active(here)[0]
        todo = how_to_run(study) if study else "run this in the project's folder"
        raise UserError(f"metrics/: no study has results here; {todo}")
    return list({(run.place.commit, run.study, run.phase): run for run in found}.values())


def how_to_run(study: str, demo: bool = True) -> str:
    """The commands that give a study results."""
    flag = " --demo" if demo and Path("studies", f"{study}.demo.yaml").is_file() else ""
    return f"retrace use {study}{flag} && dvc repro"


def known_studies(place: Place) -> list[str]:
    """Studies that come with the project or have metrics at `place`, sorted."""
    shipped = (name.removesuffix(".yaml") for name in place.names("studies", ".yaml"))
    return sorted({*(name for name in shipped if "." not in name), *place.names("metrics")})


def _runs(here: Place, name: str) -> list[Run]:
    parts = name.split(":")
    if len(parts) > 3 or not all(parts):
        raise UserError(f"{name!r}: write a study, a phase, a commit or an experiment, or commit:study:phase")
    if len(parts) == 3:
        return [_run(_place(here, parts[0]), parts[1], parts[2])]
    if len(parts) == 2 and parts[0] in known_studies(here):
        return [_run(here, *parts)]
    if len(parts) == 2:
        place = _place(here, parts[0])
        return _at(place, parts[1]) or _unknown(name, place)
    return _at(here, name) or [_active_run(_place(here, name))]


def _at(place: Place, name: str) -> list[Run]:
    """The runs of a study or phase of this name; none where there is neither."""
    active, _ = _active(place)
    if name in known_studies(place):
        return _phases(place, name) or _no_results(place, name)
    having = [study for study in known_studies(place) if name in _measured(place, study)]
    if active in having:
        return [_run(place, active, name)]
    if len(having) > 1:
        choices = ", ".join(f"{study}:{name}" for study in having)
        raise UserError(f"{name!r}: several studies have a phase of this name; write one of {choices}")
    return [_run(place, having[0], name)] if having else []


def _place(here: Place, name: str) -> Place:
    found = here if name == WORKSPACE else revision(name)
    if found is None:
        known = {
            "studies": known_studies(here),
            "phases": _measured(here, _active(here)[0]),
            "experiments": sorted({row.name for row in experiments()}),
        }
        listed = "; ".join(f"{kind}: {', '.join(values)}" for kind, values in known.items() if values)
        raise UserError(
            f"{name!r}: no study, measured phase, commit or experiment of this name{'; ' if listed else ''}{listed}"
        )
    return found


def _unknown(name: str, place: Place) -> list[Run]:
    have = [f"{study}:{phase}" for study in place.names("metrics") for phase in _measured(place, study)]
    raise UserError(f"{name!r}: no such study or phase at {place.name}; measured there: {', '.join(have) or 'nothing'}")


def _no_results(place: Place, study: str) -> list[Run]:
    where = "" if place.commit is None else f" at {place.name}"
    raise UserError(f"metrics/{study}: study {study} has no results{where}; run: {how_to_run(study)}")


def _active(place: Place) -> tuple[str, str]:
    """(study, phase) of params.yaml."""
    values = place.mapping("params.yaml")
    return str(values.get("study", "")), str(values.get("phase", ""))


def _active_run(place: Place) -> Run:
    return _run(place, *_active(place))


def _measured(place: Place, study: str) -> list[str]:
    return [name.removesuffix(".json") for name in place.names(f"metrics/{study}", ".json")]


def _phases(place: Place, study: str) -> list[Run]:
    """All measured phases of a study, in the order of its parameters."""
    measured = _measured(place, study)
    order = (_settings(place, study).get("phases") or {}) if measured else {}
    return [_run(place, study, phase) for phase in order if phase in measured]


def _run(place: Place, study: str, phase: str) -> Run:
    path = f"metrics/{study}/{phase}.json"
    content = place.read(path)
    if content is None:
        where = "" if place.commit is None else f" at {place.name}"
        measured = ", ".join(_measured(place, study)) or "none"
        problem = f"{path}: no such file{where}; measured phases of {study}: {measured}"
        raise UserError(problem + _remedy(place, study, phase))
    scores = parse_scores(content, f"{path} of {place.name}")
    if not scores.splits or (scores.study, scores.phase) != (study, phase):
        raise UserError(
            f"{path} of {place.name}: not a metrics file of this phase (study {scores.study}, "
            f"phase {scores.phase}, splits {list(scores.splits)})"
        )
    return Run(place, study, phase, content, scores, _settings_of(place, study, phase, content))


def _remedy(place: Place, study: str, phase: str) -> str:
    """What makes a missing metrics file; nothing at a commit, and for what is no phase of the study."""
    values = place.mapping("params.yaml")
    active = values.get("study") == study
    kept = values if active else place.mapping(f"reports/{study}/parameters.json")
    if place.commit is not None or phase_of(phase) not in (kept.get("phases") or {}):
        return ""
    return f"; run `dvc repro {stage_of('evaluate', phase)}`" if active else f"; run: {how_to_run(study)}"


def _settings_of(place: Place, study: str, phase: str, content: bytes) -> dict[str, Any]:
    """What the report of this very metrics file keeps (params.yaml may be edited since); without it, as for a study."""
    stages = place.mapping(f"reports/{study}/provenance.json").get("stages") or {}
    outs = (stages.get(stage_of("evaluate", phase)) or {}).get("outs") or {}
    kept = place.mapping(f"reports/{study}/parameters.json")
    if "seed" in kept and outs.get(f"metrics/{study}/{phase}.json") == hashlib.md5(content).hexdigest():
        return kept
    return _settings(place, study, phase)


def _settings(place: Place, study: str, phase: str | None = None) -> dict[str, Any]:
    """params.yaml where it speaks of this study (and phase), else the parameters that the study's report keeps."""
    values = place.mapping("params.yaml")
    if values.get("study") == study and (phase is None or phase_of(phase) in (values.get("phases") or {})):
        return values
    kept = place.mapping(f"reports/{study}/parameters.json")
    if "seed" not in kept:
        raise UserError(
            f"reports/{study}/parameters.json: missing or incomplete at {place.name}, so the parameters of {study} "
            f"are not known; run: {how_to_run(study)}"
        )
    return kept
