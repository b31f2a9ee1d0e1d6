"""derived.json: the numbers and verdicts of the report that no metrics file holds."""

from typing import Any

from retrace.report import bundle, checks, comparisons, lists, training_log
from retrace.report.inputs import Inputs


def derive(inputs: Inputs, origin: dict[str, Any]) -> dict[str, Any]:
    """The keys of `comparisons.derive` and `lists`, `log`, `checks` and `bundle`; `origin` is provenance.json."""
    return comparisons.derive(inputs) | {
        "lists": lists.derive(inputs),
        "log": training_log.derive(inputs),
        "checks": checks.run_checks(inputs, origin),
        "bundle": bundle.derive(inputs),
    }
