"""Give the trainings of a rerun the record that they are compared with as they go, and read what they found."""

import json
from pathlib import Path

from retrace.config.schema import Params
from retrace.documents.hashes import Comparison, Hashes, Outcome, StepHashes
from retrace.files import LOGS, read_jsonl, write_text
from retrace.provenance.verify.chains import chain_of, record_of, trainings

STEPS = "steps.jsonl"


def write_comparisons(folder: Path, results: Path, project: Path, params: Params) -> None:
    """Write the `Comparison` of every training whose chain is recorded.

    Args:
        folder: for `COMPARE` of `retrace/training/record.py`; it is made.
        results: the recorded files, laid out like the project.
        project: its logs may hold the digests of the steps.
    """
    folder.mkdir()
    for name in trainings(params):
        write_comparison(folder, results, project, params.study, name)


def write_comparison(
    folder: Path,
    results: Path,
    project: Path,
    study: str,
    name: str,
    after: int | None = None,
    until: int | None = None,
) -> None:
    """Write the `Comparison` of one training, of the epochs after `after` up to `until` where they are given."""
    chain, record = chain_of(results, study, name), record_of(results, study, name)
    if chain is None:
        return
    Comparison(chain=chain, record=record, after=after, until=until).write(folder / f"{name}.json")
    steps = project / LOGS / study / name / STEPS
    if record is not None and steps.is_file() and _fit(steps, record):
        write_text(folder / f"{name}.{STEPS}", steps.read_text(encoding="utf-8"))


def _fit(steps: Path, record: Hashes) -> bool:
    """Whether the digests of steps are of the recorded training: each epoch ends in the state of its last step.

    The file is a log, so it may be of another run, or of one that several processes made.
    """
    last = {}
    try:
        for line in read_jsonl(steps):
            row = StepHashes.model_validate(line)
            last[row.epoch] = row.tensors
    except (json.JSONDecodeError, UnicodeDecodeError, ValueError):
        return False
    return last == {row.epoch: row.tensors for row in record.epochs if row.epoch}


def outcome(folder: Path, name: str) -> Outcome | None:
    """What the comparison of a training found; None where it went through or did not take place."""
    file = folder / f"{name}.found.json"
    return Outcome.read(file) if file.is_file() else None


def training_of(stage: str) -> str:
    """The training of a stage, e.g. "baseline-18" of "finetune_repeat@baseline-18"."""
    return stage.partition("@")[2] or stage
