"""The order of the report's sections and tables, and the sentences between them."""

from typing import Any

from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance
from retrace.report import (
    answer,
    bundle,
    checks,
    claims,
    data_tables,
    detection_tables,
    error_gallery,
    figures,
    lists,
    made_from,
    method,
    model_tables,
    pictures,
    run_tables,
    seed_tables,
    sheet,
    tables,
    training_log,
)
from retrace.report.blocks import Bullets, Section, Text, folded, section
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger


def compose(inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance) -> list[Section]:
    """All sections in reading order, without empty ones. `document` is provenance.json."""
    report = inputs.params.report
    split = inputs.headline_split
    sections = [
        section(
            "summary",
            "Summary",
            Text((report.summary,), tone="question") if report.summary else None,
            answer.sentence(inputs, ledger, derived, document),
            seed_tables.sentence(inputs, ledger, derived),
            answer.chart(inputs, ledger, derived),
            pictures.first(inputs, ledger, split),
            answer.trust(inputs, ledger, derived, document),
        ),
        _phases(inputs, ledger, derived),
        _classes(inputs, ledger, derived),
        _training(inputs, ledger, derived),
        section("samples", "Sample predictions", pictures.others(inputs, ledger, split)),
        section("errors", "Images behind the errors", *error_gallery.galleries(inputs, ledger, split), fold=True),
        section(
            "claims",
            "Published and target figures",
            claims.final(inputs, ledger, derived),
            claims.claims(inputs, ledger, derived),
            training_log.apart(inputs, ledger, derived),
            fold=True,
        ),
        section(
            "lists",
            "Both validation lists",
            lists.sentences(inputs, ledger, derived),
            lists.table(inputs, ledger, derived),
            fold=True,
        ),
        section("models", "Models compared", model_tables.models(inputs, ledger, split), fold=True),
        _data(inputs, ledger, derived),
        section(
            "run",
            "This run",
            run_tables.summary(inputs, ledger, document),
            run_tables.steps(inputs, ledger, document),
            run_tables.configuration(inputs, ledger),
            fold=True,
        ),
        section("sheet", "Fact sheet", sheet.table(inputs, ledger, derived, document), fold=True),
        section("checks", "Checklist", checks.table(inputs, ledger, derived), fold=True),
        method.method(inputs, ledger),
        section("provenance", "Provenance", made_from.origin(inputs, document), made_from.sums(document), fold=True),
        section("next", "Next steps", _bullets((step,) for step in report.next_steps), fold=True),
        bundle.close(inputs, ledger, derived),
    ]
    return [part for part in sections if part is not None]


def _bullets(items: Any) -> Bullets | None:
    listed = tuple(items)
    return Bullets(listed) if listed else None


def _phases(inputs: Inputs, ledger: Ledger, derived: Derived) -> Section | None:
    metric = inputs.params.report.headline
    others = tuple(inputs.active.splits)
    return section(
        "phases",
        "Phases side by side",
        seed_tables.table(inputs, ledger, derived),
        tables.phases(inputs, ledger, derived, metric),
        tables.never_found(inputs, inputs.headline_split),
        folded(run_tables.changes(inputs, ledger)),
        folded(seed_tables.overall(inputs, ledger, derived)),
        *(folded(tables.overall(inputs, ledger, split)) for split in others),
        *(folded(detection_tables.operating_points(inputs, ledger, split)) for split in others),
        folded(detection_tables.sizes(inputs, ledger, inputs.headline_split)),
        folded(tables.groups(inputs, ledger, inputs.headline_split)),
        _leftover(inputs),
    )


def _leftover(inputs: Inputs) -> Text | None:
    if not inputs.leftover:
        return None
    return Text(
        (
            "This report ignores the metrics of phases and repeats that params.yaml no longer has "
            f"({', '.join(inputs.leftover)}).",
        )
    )


def _classes(inputs: Inputs, ledger: Ledger, derived: Derived) -> Section | None:
    split, phase = inputs.headline_split, inputs.params.phase
    others = [name for name in inputs.active.splits if name != split]
    return section(
        "classes",
        f"Per class, phase {phase} at its best epoch",
        data_tables.unreliable(inputs, ledger, split),
        figures.per_class(inputs, split),
        folded(tables.class_changes(inputs, ledger, derived, split)),
        *(folded(tables.per_class(inputs, ledger, phase, name)) for name in (split, *others)),
        figures.curves(inputs, split),
        figures.confusion(inputs, split),
    )


def _training(inputs: Inputs, ledger: Ledger, derived: Derived) -> Section | None:
    return section(
        "training",
        "Training",
        figures.training_curves(inputs),
        folded(run_tables.training(inputs, ledger, derived)),
        training_log.as_logged(inputs, ledger),
        folded(training_log.curve(inputs, ledger, derived)),
        folded(training_log.ultralytics(inputs, ledger, derived)),
        folded(run_tables.published_epochs(inputs, ledger)),
        run_tables.pretraining(inputs, ledger),
        figures.pretraining_curve(inputs),
        pictures.reconstructions(inputs, ledger),
    )


def _data(inputs: Inputs, ledger: Ledger, derived: Derived) -> Section | None:
    return section(
        "data",
        "Audit of the data",
        data_tables.sources(inputs, ledger),
        data_tables.split_sizes(inputs, ledger),
        data_tables.class_counts(inputs, ledger),
        data_tables.rare(inputs, ledger),
        data_tables.moves(inputs, ledger, derived),
        data_tables.duplicates(inputs, ledger),
        data_tables.leaks(inputs, ledger),
        data_tables.lost(inputs, ledger),
        data_tables.suspected(inputs, ledger),
        data_tables.left_out(inputs, ledger),
        data_tables.polygons(inputs, ledger),
        data_tables.problems(inputs, ledger, derived),
        data_tables.no_problems(inputs),
        figures.box_sizes(inputs),
        data_tables.box_sizes(inputs, ledger, derived),
        fold=True,
    )
