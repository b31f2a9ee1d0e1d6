"""Differences that a report committed, for a clone without the results per image that they were computed from."""

import hashlib

from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance
from retrace.report.comparison.selection import Run
from retrace.statistics.estimate import Difference


def recorded(run: Run, base: Run, metric: str, split: str) -> Difference | None:
    """The difference of two phases of one study in the report at their commit; None where it does not hold it.

    The report counts only if it was made from the very metrics files that are compared.
    """
    if (run.study, run.place.commit) != (base.study, base.place.commit) or not _made_from(run, base):
        return None
    path = f"reports/{run.study}/derived.json"
    content = run.place.read(path)
    if content is None:
        return None
    derived = Derived.parse(content.decode(), f"{path} of {run.place.name}")
    compared = derived.comparisons.get(run.phase)
    paired = compared.on(split) if compared is not None and compared.origin == base.phase else None
    if paired is None and run.phase == run.active and base.phase == next(iter(derived.comparisons), None):
        paired = derived.final.get(split)
    found = paired.difference(metric) if paired is not None else None
    return found if found is not None and found.value is not None else None


def _made_from(*runs: Run) -> bool:
    for run in runs:
        path = f"reports/{run.study}/provenance.json"
        content = run.place.read(path)
        if content is None:
            return False
        stage = Provenance.parse(content.decode(), f"{path} of {run.place.name}").stages.get(f"evaluate@{run.phase}")
        outs = stage.outs if stage is not None else {}
        if outs.get(f"metrics/{run.study}/{run.phase}.json") != hashlib.md5(run.content).hexdigest():
            return False
    return True
