"""`retrace why 0.752`: show the metrics file, weights, parameters, data, code and commit behind a number."""

import hashlib
import json
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from retrace.config import PARAMS, read_yaml
from retrace.config.trainings import stage_of
from retrace.documents.ablation import AblationResult
from retrace.documents.parameters import Parameters
from retrace.documents.provenance import Provenance
from retrace.documents.scores import read_scores
from retrace.errors import UserError
from retrace.files import CODE, sha256_of
from retrace.programs import git, how_to_get
from retrace.provenance.verify.trace import Match, find

LISTED = 12  # matches shown of one group, with hashes
FEW = 3  # of each kind, without hashes
TRACED = 4  # groups of matches that are traced; beyond that they are only listed
WIDTH = 80
ABLATION = "-ablation/ablation.json"


def why(query: str, study: str | None, hashes: bool = False) -> Iterator[str]:
    """The lines to print, the study of params.yaml first: its matches with their origin, then those of other studies.

    At most a screen of 24 lines; with `hashes` every match, and the sha256 or md5 of all that it was made from.
    """
    active = _active()
    matches = sorted(find(query, study), key=lambda match: (match.study != active, _group(match)))
    groups = [list(rows) for _, rows in groupby(matches, key=_group)]
    if not hashes:
        yield from _screen(query, groups)
        return
    for rows in groups:
        yield from _matches(rows, LISTED)
        if len(groups) <= TRACED:
            yield from origin(rows, True)
        yield ""
    if len(groups) > TRACED:
        yield f"{len(matches)} numbers match; give the file too to see the origin of one of them: retrace why FILE:KEY"


def _active() -> str:
    """The study of params.yaml; empty where there is none."""
    try:
        return str(read_yaml(PARAMS).get("study", ""))
    except UserError:
        return ""


def _screen(query: str, groups: list[list[Match]]) -> Iterator[str]:
    first, *others = groups
    yield from _matches(first, FEW)
    yield from origin(first, False)
    yield ""
    if others:
        yield f"{sum(map(len, others))} more numbers match:"
    for rows in others[:FEW]:
        yield f"  {rows[0].text}  {rows[0].file}: {rows[0].key}" + (f" and {len(rows) - 1} more" * (len(rows) > 1))
    if len(others) > FEW:
        yield f"  and more in {', '.join(sorted({rows[0].study for rows in others[FEW:]}))}"
    more = "To see where one of them comes from: retrace why FILE:KEY. " if others else ""
    yield from textwrap.wrap(f"{more}For every hash: retrace why {query} --hashes", WIDTH, break_on_hyphens=False)


def _group(match: Match) -> tuple[str, bool, tuple[str, ...]]:
    return match.study, match.file.endswith(ABLATION), match.phases


def _matches(rows: list[Match], most: int) -> Iterator[str]:
    for match in rows[:most]:
        value, text = match.now()
        yield f"{match.text}  {match.file}: {match.key}"
        if text != match.text:
            yield f"    DIFFERENT now: {text}"
        elif isinstance(value, float):
            yield f"    value {value!r}"
    if len(rows) > most:
        yield f"    and {len(rows) - most} more numbers of the same origin"


def origin(rows: list[Match], hashes: bool) -> Iterator[str]:
    """The origin of numbers of one study and the same phases, as `  name: facts` lines."""
    study, phases = rows[0].study, rows[0].phases
    folder = Path("reports", study)
    facts = Provenance.read(folder / "provenance.json")
    parameters = Parameters.read(folder / "parameters.json")
    yield from _line("study", f"{study}: {parameters.report.title} ({folder}/report.md)")
    for file in sorted({match.file for match in rows}):
        if hashes or not Path(file).is_file():
            yield from _line("file", f"{file}, {_sum(Path(file))}")
    if rows[0].file.endswith(ABLATION):
        yield from _experiments(study, rows, hashes)
        return
    for phase in phases:
        yield from _phase(study, phase, parameters, facts, hashes)
    if hashes:
        yield from _code([step for step in facts.stages if step.partition("@")[2] in phases], facts)
    path = folder / "parameters.json"
    md5 = f", {_sum(path)}" if hashes else ""
    yield from _line("parameters", f"{path}{md5}; seed {facts.seed}, {facts.threads} CPU threads")
    yield from _data(study, facts, hashes)
    yield from _line("environment", _environment(facts, hashes))
    state = facts.git
    listed = ", ".join(state.changed if hashes else state.changed[:FEW])
    listed += f" and {len(state.changed) - FEW} more" if not hashes and len(state.changed) > FEW else ""
    changes = f"uncommitted changes in {listed}" if state.dirty else "nothing uncommitted"
    commit = (state.commit or "") if hashes else (state.commit or "")[:12]
    yield from _line("commit", f"{commit}, {changes}" if commit else "no Git repository")


def _experiments(study: str, rows: list[Match], hashes: bool) -> Iterator[str]:
    """The experiments behind the numbers of an ablation, each with its own weights and provenance."""
    found = AblationResult.read(Path(rows[0].file))
    wanted = {match.key.split(".")[1] for match in rows if match.key.startswith("runs.")}
    single = len(wanted) == 1 and all(match.key.startswith("runs.") for match in rows)
    runs = [run for index, run in enumerate(found.runs) if not single or str(index) in wanted]
    most = LISTED if hashes else FEW
    facts: Provenance | None = None
    for row in runs[:most]:
        file = f"reports/{study}/provenance.json"
        text = git("show", f"{row.commit}:./{file}", check=False)
        facts = Provenance.parse(text, f"{file} of commit {row.commit[:12]}") if text else facts
        weights = f"models/{study}/{found.phase}"
        outs = row.made or {weights: "not recorded"}
        if text and facts is not None:
            outs = {weights: _outs(facts).get(weights, "not recorded")}
        listed = "".join(f", {path} md5 {md5}" for path, md5 in outs.items()) if hashes else ""
        absent = "" if text else " (not in this repository: dvc exp pull from the remote it was pushed to)"
        yield from _line("experiment", f"{row.name}, commit {row.commit[:12]}{absent}{listed}")
    if len(runs) > most:
        yield from _line("experiment", f"and {len(runs) - most} more, see runs in {rows[0].file}")
    if facts is not None:
        if hashes:
            yield from _code([f"{step}@{found.phase}" for step in ("finetune", "evaluate")], facts)
        yield from _data(study, facts, hashes)
        yield from _line("environment", _environment(facts, hashes))
    elif found.made_from and hashes:  # as ablation.json keeps them: outs by md5, files of the commit by Git's object id
        for name, places in (("code", CODE), ("data", ("data", "models")), ("environment", ("requirements",))):
            files = [f"{path}:{sum}" for path, sum in found.made_from.items() if path.split("/")[0] in places]
            yield from _line(name, ", ".join(files))


def _phase(study: str, phase: str, parameters: Parameters, facts: Provenance, hashes: bool) -> Iterator[str]:
    scores = read_scores(Path("metrics", study, f"{phase}.json"))
    weights = scores.weights
    path = Path(weights.file) if "/" in weights.file else Path("models", study, phase, weights.file)
    sha256 = f", sha256 {weights.sha256}" if hashes else ""
    again = f"dvc repro {stage_of('finetune', phase)}"
    yield from _line("weights", f"{path}{sha256} ({_here(path, weights.sha256, again)})")
    block, training = parameters.phases[parameters.trainings[phase]], scores.training
    digest = hashlib.sha256(json.dumps(block, sort_keys=True).encode()).hexdigest()
    start, md5 = f"models/{study}/{block.get('init')}", _outs(facts).get(f"models/{study}/{block.get('init')}")
    text = f"{phase}: epoch {training.best_epoch} of {training.epochs_run}, started from {start}"
    text += f" (md5 {md5 or 'not recorded'}); its parameters: sha256 {digest}" if hashes else ""
    yield from _line("phase", text)


def _code(steps: list[str], facts: Provenance) -> Iterator[str]:
    deps: dict[str, str | None] = {}
    for step in steps or list(facts.stages):
        deps |= facts.stages[step].deps if step in facts.stages else {}
    code = [f"{path}:{(deps[path] or '')[:8]}" for path in sorted(deps) if path.split("/")[0] in CODE]
    yield from _line("code", "md5 " + " ".join(code) if code else "not recorded")


def _outs(facts: Provenance) -> dict[str, str]:
    return {out: md5 or "unknown" for stage in facts.stages.values() for out, md5 in stage.outs.items()}


def _data(study: str, facts: Provenance, hashes: bool) -> Iterator[str]:
    recorded = facts.data
    path = Path("data", study, "raw", "manifest.jsonl")
    if recorded is not None and recorded.sha256:
        counts = ", ".join(f"{split} {count}" for split, count in recorded.images.items())
        sha256 = f", sha256 {recorded.sha256}" if hashes else ""
        here = _here(path, recorded.sha256, "dvc repro collect")
        yield from _line("data manifest", f"{path}{sha256} ({here}); images: {counts}")
    elif path.is_file():
        yield from _line("data manifest", f"{path}, {_sum(path)}, as it is here")
    if hashes:
        outs, folders = _outs(facts), [f"data/{study}/{name}" for name in ("raw", "splits")]
        listed = [f"{folder} md5 {outs[folder]}" for folder in folders if folder in outs]
        yield from _line("data", ", ".join(listed) or "not recorded")


def _environment(facts: Provenance, hashes: bool) -> str:
    lock, versions = facts.lock, facts.packages
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy") if name in versions)
    machine = ", ".join(filter(None, (facts.platform, facts.cpu, "/".join(facts.devices))))
    sha256 = f", sha256 {lock.sha256}" if hashes else ""
    return f"{lock.file}{sha256}; Python {facts.python}, {packages}; {machine}"


def _here(path: Path, sha256: str, again: str) -> str:
    if not path.is_file():
        return f"not here; to get it: {how_to_get(path.as_posix(), again)}"
    return "here, the same bytes" if sha256_of(path) == sha256 else "here, but with OTHER bytes"


def _sum(path: Path) -> str:
    return f"sha256 {sha256_of(path)}" if path.is_file() else "not here"


def _line(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name}: {text}", WIDTH, initial_indent="  ", subsequent_indent="      ",
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
