"""`retrace why 0.752`: show the metrics file, weights, parameters, data, code and commit behind a number."""

import hashlib
import json
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from retrace.documents.ablation import AblationResult
from retrace.documents.parameters import Parameters
from retrace.documents.provenance import Provenance
from retrace.documents.scores import read_scores
from retrace.files import CODE, sha256_of
from retrace.programs import git
from retrace.provenance.verify.trace import Match, find

LISTED = 12  # matches shown of one group
TRACED = 4  # groups of matches that are traced; beyond that they are only listed
WIDTH = 80
ABLATION = "-ablation/ablation.json"


def why(query: str, study: str | None) -> Iterator[str]:
    """The lines to print: every match, and the origin of each group of matches (same study, same phases)."""
    matches = sorted(find(query, study), key=_group)
    groups = [list(rows) for _, rows in groupby(matches, key=_group)]
    for rows in groups:
        yield from _matches(rows)
        if len(groups) <= TRACED:
            yield from origin(rows)
        yield ""
    if len(groups) > TRACED:
        yield f"{len(matches)} numbers match; give the file too to see the origin of one of them: retrace why FILE:KEY"


def _group(match: Match) -> tuple[str, bool, tuple[str, ...]]:
    return match.study, match.file.endswith(ABLATION), match.phases


def _matches(rows: list[Match]) -> Iterator[str]:
    for match in rows[:LISTED]:
        value, text = match.now()
        yield f"{match.text}  {match.file}: {match.key}"
        if text != match.text:
            yield f"    DIFFERENT now: {text}"
        elif isinstance(value, float):
            yield f"    value {value!r}"
    if len(rows) > LISTED:
        yield f"    and {len(rows) - LISTED} more numbers of the same origin"


def origin(rows: list[Match]) -> Iterator[str]:
    """The origin of numbers of one study and the same phases, as `  name: facts` lines."""
    study, phases = rows[0].study, rows[0].phases
    folder = Path("reports", study)
    facts = Provenance.read(folder / "provenance.json")
    parameters = Parameters.read(folder / "parameters.json")
    yield from _line("study", f"{study}: {parameters.report.title} ({folder}/report.md)")
    for file in sorted({match.file for match in rows}):
        yield from _line("file", f"{file}, {_sum(Path(file))}")
    if rows[0].file.endswith(ABLATION):
        yield from _experiments(study, rows)
        return
    for phase in phases:
        yield from _phase(study, phase, parameters, facts)
    yield from _code([step for step in facts.stages if step.partition("@")[2] in phases], facts)
    path = folder / "parameters.json"
    yield from _line("parameters", f"{path}, {_sum(path)}; seed {facts.seed}, {facts.threads} CPU threads")
    yield from _data(study, facts)
    yield from _line("environment", _environment(facts))
    state = facts.git
    changes = f"uncommitted changes in {', '.join(state.changed)}" if state.dirty else "nothing uncommitted"
    yield from _line("commit", f"{state.commit}, {changes}" if state.commit else "no Git repository")


def _experiments(study: str, rows: list[Match]) -> Iterator[str]:
    """The experiments behind the numbers of an ablation, each with its own weights and provenance."""
    found = AblationResult.read(Path(rows[0].file))
    wanted = {match.key.split(".")[1] for match in rows if match.key.startswith("runs.")}
    single = len(wanted) == 1 and all(match.key.startswith("runs.") for match in rows)
    runs = [run for index, run in enumerate(found.runs) if not single or str(index) in wanted]
    facts: Provenance | None = None
    for row in runs[:LISTED]:
        file = f"reports/{study}/provenance.json"
        text = git("show", f"{row.commit}:./{file}", check=False)
        facts = Provenance.parse(text, f"{file} of commit {row.commit[:12]}") if text else facts
        weights = f"models/{study}/{found.phase}"
        outs = row.made or {weights: "not recorded"}
        if text and facts is not None:
            outs = {weights: _outs(facts).get(weights, "not recorded")}
        listed = ", ".join(f"{path} md5 {md5}" for path, md5 in outs.items())
        absent = "" if text else " (not in this repository: dvc exp pull from the remote)"
        yield from _line("experiment", f"{row.name}, commit {row.commit[:12]}{absent}, {listed}")
    if len(runs) > LISTED:
        yield from _line("experiment", f"and {len(runs) - LISTED} more, see runs in {rows[0].file}")
    if facts is not None:
        yield from _code([f"{step}@{found.phase}" for step in ("finetune", "evaluate")], facts)
        yield from _data(study, facts)
        yield from _line("environment", _environment(facts))
    elif found.made_from:  # as ablation.json keeps them: outs by md5, files of the commit by Git's object id
        for name, places in (("code", CODE), ("data", ("data", "models")), ("environment", ("requirements",))):
            files = [f"{path}:{sum}" for path, sum in found.made_from.items() if path.split("/")[0] in places]
            yield from _line(name, ", ".join(files))


def _phase(study: str, phase: str, parameters: Parameters, facts: Provenance) -> Iterator[str]:
    scores = read_scores(Path("metrics", study, f"{phase}.json"))
    weights = scores.weights
    path = Path(weights.file) if "/" in weights.file else Path("models", study, phase, weights.file)
    yield from _line("weights", f"{path}, sha256 {weights.sha256} ({_here(path, weights.sha256)})")
    block, training = parameters.phases[parameters.trainings[phase]], scores.training
    digest = hashlib.sha256(json.dumps(block, sort_keys=True).encode()).hexdigest()
    start, md5 = f"models/{study}/{block.get('init')}", _outs(facts).get(f"models/{study}/{block.get('init')}")
    yield from _line("phase", f"{phase}: epoch {training.best_epoch} of {training.epochs_run}, started from "
                     f"{start} (md5 {md5 or 'not recorded'}); its parameters: sha256 {digest}")  # fmt: skip


def _code(steps: list[str], facts: Provenance) -> Iterator[str]:
    deps: dict[str, str | None] = {}
    for step in steps or list(facts.stages):
        deps |= facts.stages[step].deps if step in facts.stages else {}
    code = [f"{path}:{(deps[path] or '')[:8]}" for path in sorted(deps) if path.split("/")[0] in CODE]
    yield from _line("code", "md5 " + " ".join(code) if code else "not recorded")


def _outs(facts: Provenance) -> dict[str, str]:
    return {out: md5 or "unknown" for stage in facts.stages.values() for out, md5 in stage.outs.items()}


def _data(study: str, facts: Provenance) -> Iterator[str]:
    recorded = facts.data
    path = Path("data", study, "raw", "manifest.jsonl")
    if recorded is not None and recorded.sha256:
        counts = ", ".join(f"{split} {count}" for split, count in recorded.images.items())
        text = f"{path}, sha256 {recorded.sha256} ({_here(path, recorded.sha256)}); images: {counts}"
        yield from _line("data manifest", text)
    elif path.is_file():
        yield from _line("data manifest", f"{path}, {_sum(path)}, as it is here")
    outs, folders = _outs(facts), [f"data/{study}/{name}" for name in ("raw", "splits")]
    listed = [f"{folder} md5 {outs[folder]}" for folder in folders if folder in outs]
    yield from _line("data", ", ".join(listed) or "not recorded")


def _environment(facts: Provenance) -> str:
    lock, versions = facts.lock, facts.packages
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy") if name in versions)
    machine = ", ".join(filter(None, (facts.platform, facts.cpu, "/".join(facts.devices))))
    return f"{lock.file}, sha256 {lock.sha256}; Python {facts.python}, {packages}; {machine}"


def _here(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "not here: dvc pull"
    return "here, the same bytes" if sha256_of(path) == sha256 else "here, but with OTHER bytes"


def _sum(path: Path) -> str:
    return f"sha256 {sha256_of(path)}" if path.is_file() else "not here: dvc pull"


def _line(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name}: {text}", WIDTH, initial_indent="  ", subsequent_indent="      ",
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
