"""The recorded md5 of every dependency and output of a commit, from dvc.lock or the study's provenance.json."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrace.config import read_yaml
from retrace.config.schema import Params
from retrace.config.trainings import stage_of
from retrace.documents.base import checked
from retrace.documents.lock import locked_stage
from retrace.documents.provenance import Provenance
from retrace.errors import UserError
from retrace.provenance.md5 import digest, listing

ONCE = ("collect", "rebalance", "pretrain")
LOCK_AGAIN = "`dvc repro`"


@dataclass(frozen=True)
class Record:
    """`outs` and `deps`: `{stage: {path: md5}}`, stages in the order they run."""

    file: str  # where it was read
    outs: dict[str, dict[str, str]]
    deps: dict[str, dict[str, str]] = field(default_factory=dict)

    def paths(self) -> dict[str, str]:
        """`{path: md5}` of every out."""
        return {path: md5 for outs in self.outs.values() for path, md5 in outs.items()}


def stage_names(params: Params) -> list[str]:
    """The stages of a study in an order in which they can run; `finetune` and `evaluate` once a training."""
    phases: list[str] = []
    for phase in params.phases:
        phases += [name for name in reversed(chain(params, phase)) if name not in phases]
    trainings = [*phases, *(name for name in params.trainings if name not in phases)]
    steps = [stage_of(step, name) for name in trainings for step in ("finetune", "evaluate")]
    return [*ONCE, *steps, "report"]


def chain(params: Params, phase: str) -> list[str]:
    """A phase, the phase whose weights it starts from, and so on back to the first."""
    found = [phase]
    while (init := params.phases[found[-1]].init) in params.phases:
        found.append(init)
    return found


def from_lock(root: Path, params: Params) -> Record | None:
    """The study's stages in dvc.lock; None where it holds another study.

    dvc.lock holds one study at a time, the one that `collect` made last. Entries of phases that only another study has
    stay in it, because DVC never removes them, and say nothing about the present.
    """
    path = root / "dvc.lock"
    try:
        listed = (read_yaml(path).get("stages") or {}) if path.is_file() else {}
    except UserError as error:
        raise UserError(f"dvc.lock: {str(error).removeprefix(f'{path}: ')}; {LOCK_AGAIN}") from None
    checked(dict[str, dict[str, Any]], listed, "dvc.lock", LOCK_AGAIN)
    collected = locked_stage(listed.get("collect"), again=LOCK_AGAIN).out_sums
    if collected and all(path.split("/")[1:2] != [params.study] for path in collected):
        return None
    record = Record("dvc.lock", {}, {})
    for name in stage_names(params):
        entry = locked_stage(listed.get(name), again=LOCK_AGAIN)
        outs = entry.out_sums
        if any(out.split("/")[1:2] == [params.study] for out in outs):
            record.outs[name] = outs
            record.deps[name] = entry.dep_sums
    return record if record.outs else None


def from_provenance(root: Path, params: Params) -> Record | None:
    """The study's stages in its committed provenance.json; None where there is none."""
    file = f"reports/{params.study}/provenance.json"
    if not (root / file).is_file():
        return None
    stages = Provenance.read(root / file, file).stages
    names = [name for name in stage_names(params) if name in stages]
    outs = {name: known(stages[name].outs) for name in names}
    return Record(file, outs, {name: known(stages[name].deps) for name in names})


def known(sums: dict[str, str | None]) -> dict[str, str]:
    """Without the paths for which DVC gave no md5."""
    return {path: md5 for path, md5 in sums.items() if md5 is not None}


def committed(root: Path, params: Params) -> Record:
    """The record to compare with.

    Raises:
        UserError: neither file records this study, or a stage of it is missing there.
    """
    record = from_lock(root, params) or from_provenance(root, params)
    if record is None:
        raise UserError(
            f"{params.study}: this commit holds no result of this study, neither in dvc.lock nor in "
            f"reports/{params.study}/provenance.json; run `dvc repro` and commit what it writes"
        )
    missing = [name for name in stage_names(params) if name != "report" and name not in record.outs]
    if missing:
        raise UserError(
            f"{record.file}: has no record of {', '.join(missing)}; run `dvc repro` and commit what it writes"
        )
    return record


def contradictions(root: Path, params: Params, record: Record) -> list[str]:
    """Contradictions within the commit, one line each.

    dvc.lock against provenance.json (outs and deps), and every recorded out that Git holds against the bytes in Git.
    What the deps themselves name is compared in `deps.check`.
    """
    lines = []
    other = from_provenance(root, params)
    if other is not None and other.file != record.file:
        theirs = other.paths()
        for path, md5 in record.paths().items():
            if path in theirs and theirs[path] != md5:
                lines.append(f"{path}: {record.file} says {md5}, {other.file} says {theirs[path]}")
        for stage, deps in record.deps.items():
            told = other.deps.get(stage, {})
            if stage != "report" or told:  # a report cannot quote the record of itself
                lines += _unequal(stage, deps, record.file, told, other.file)
    kept = kept_by_git(root, params)
    for path, md5 in record.paths().items():
        files = listing(root / path)  # None: DVC keeps it, a clone does not have it
        if files is None and path in kept:
            lines.append(
                f"{path}: {record.file} says {md5}, but the commit does not hold it; `git add {path}` and commit"
            )
        elif files is not None and digest(files) != md5:
            lines.append(f"{path}: {record.file} says {md5}, the committed file has {digest(files)}")
    return lines


def _unequal(stage: str, mine: dict[str, str], file: str, told: dict[str, str], other: str) -> Iterator[str]:
    """Deps that one of the two records lacks, or for which it has another md5."""
    for path in dict.fromkeys([*mine, *told]):
        one, two = mine.get(path, "nothing"), told.get(path, "nothing")
        if one != two:
            yield f"{stage}: {path}: {file} says {one}, {other} says {two}"


def kept_by_git(root: Path, params: Params) -> set[str]:
    """Outs that dvc.yaml leaves to Git (`cache: false`): a clone must have them."""
    found = set()
    blocks = read_yaml(root / "dvc.yaml").get("stages") or {}
    for block in checked(dict[str, dict[str, Any]], blocks, "dvc.yaml", "`git checkout HEAD~1 -- dvc.yaml`").values():
        block = block.get("do", block)
        for row in (row for kind in ("outs", "metrics", "plots") for row in block.get(kind) or ()):
            named = row.items() if isinstance(row, dict) else ()
            found |= {path for path, options in named if (options or {}).get("cache") is False}
    values = [{"study": params.study, "key": name} for name in params.trainings]
    return {path.replace("${study}", row["study"]).replace("${key}", row["key"]) for path in found for row in values}
