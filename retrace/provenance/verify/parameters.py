"""Compare the committed parameters with those that the results were made with.

params.yaml may have been changed and committed without a rerun, and so may the parameters in the record.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from retrace.config import read_yaml
from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.documents.lock import LockedStage, locked_stage
from retrace.documents.parameters import Parameters
from retrace.documents.provenance import Provenance
from retrace.errors import UserError
from retrace.provenance.verify.pages import first_difference
from retrace.provenance.verify.records import Record, stage_names

LOCK, PARAMS = "dvc.lock", "params.yaml"
UNRECORDED = {"machine", "ablation"}  # blocks that no result depends on
REMEDY = "undo the change, or run `dvc repro` and commit what it writes"


def check(root: Path, params: Params, record: Record, origin: Provenance | None) -> list[str]:
    """Contradictions between params.yaml, parameters.json, provenance.json and dvc.lock, one line each.

    Args:
        root: folder of the commit.
        params: the committed parameters of the study.
        record: where the results of the study are recorded.
        origin: the committed provenance.json.

    Raises:
        UserError: a file is missing or damaged.
    """
    file = f"reports/{params.study}/parameters.json"
    kept = parse(Parameters.read(root / file, file).content(), file)
    wrong = list(_differs(PARAMS, params, f"{file} has", kept))
    if origin is not None:
        wrong += _stated(f"reports/{params.study}/provenance.json", origin, kept)
    if record.file == LOCK:
        wrong += _locked(root, params)
    elif not (root / LOCK).is_file() and (root / "metrics.json").exists():
        wrong.append(f"{LOCK}: not in the commit, so nothing records metrics.json and plots; {REMEDY}")
    return wrong


def _differs(name: str, mine: Params, whose: str, theirs: Params) -> Iterator[str]:
    one, other = (values.model_dump(mode="json", exclude=UNRECORDED) for values in (mine, theirs))
    for key in one:
        place = first_difference(one[key], other[key], key, whose)
        if place:
            yield f"{name}: {place}; {REMEDY}"


def _stated(name: str, origin: Provenance, kept: Params) -> Iterator[str]:
    """What provenance.json says of the parameters."""
    pairs = {
        "study": (origin.study, kept.study),
        "seed": (origin.seed, kept.seed),
        "threads": (origin.threads, kept.runtime.threads),
        "numerics": (origin.numerics, kept.runtime.numerics),
    }
    for key, (told, wanted) in pairs.items():
        if told != wanted:
            yield f"{name}: {key}: {told!r}, where parameters.json says {wanted!r}; {REMEDY}"


def _locked(root: Path, params: Params) -> Iterator[str]:
    """The parameters in dvc.lock: those of the report are complete, those of each stage are a part of them."""
    listed = read_yaml(root / LOCK).get("stages") or {}
    stages: dict[str, LockedStage] = {name: locked_stage(listed.get(name)) for name in stage_names(params)}
    report = _values(stages["report"])
    if not report or not stages["report"].outs:
        yield f"{LOCK}: has no record of the stage report; {REMEDY}"
        return
    try:
        theirs = parse(report, LOCK)
    except UserError as error:
        yield f"{LOCK}: report: {error}; {REMEDY}"
        return
    yield from _differs(PARAMS, params, f"{LOCK} has", theirs)
    for name, stage in stages.items():
        for key, value in _values(stage).items():
            place = first_difference(value, _at(report, key), key, "its stage report has")
            if place:
                yield f"{LOCK}: {name}: {place}; {REMEDY}"


def _values(stage: LockedStage) -> dict[str, JsonValue]:
    return dict((stage.params or {}).get(PARAMS) or {})


def _at(values: JsonValue, key: str) -> JsonValue:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
