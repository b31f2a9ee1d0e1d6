"""The report's table of contents: which table stands where, and the sentences between them."""

from typing import Any

from stages.reporting import figures, pictures, tables
from stages.reporting.blocks import Bullets, Section, Text, section
from stages.reporting.inputs import Inputs
from stages.reporting.numbers import Ledger


def compose(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> list[Section]:
    """All sections in reading order; one with nothing to say is left out."""
    split = inputs.headline_split
    report = inputs.params.report
    found = [
        section(
            "summary",
            "Summary",
            Text((report.summary,)) if report.summary else None,
            tables.headline(inputs, ledger),
            tables.final(inputs, ledger, derived),
        ),
        section(
            "phases",
            "Phases side by side",
            tables.phases(inputs, ledger, derived, report.headline),
            *(tables.overall(inputs, ledger, name) for name in inputs.active["splits"]),
            tables.groups(inputs, ledger, split),
        ),
        section("claims", "Published and target figures", tables.claims(inputs, ledger, derived)),
        section(
            "classes",
            "Per class",
            *(tables.per_class(inputs, ledger, inputs.params.phase, name) for name in inputs.active["splits"]),
            figures.per_class(inputs, split),
            figures.confusion(inputs, split),
        ),
        section("models", "Models compared", tables.models(inputs, ledger, split)),
        section(
            "training",
            "Training",
            figures.pretraining_curve(inputs),
            figures.training_curves(inputs),
        ),
        section("samples", "Sample predictions", pictures.samples(inputs, ledger, split)),
        section("next", "Next steps", Bullets(tuple((step,) for step in report.next_steps)) if report.next_steps else None),
    ]
    return [part for part in found if part is not None]
