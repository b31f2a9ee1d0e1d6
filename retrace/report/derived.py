"""derived.json: the numbers and verdicts of the report that no metrics file holds."""

from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance
from retrace.report import bundle, checks, comparisons, data_tables, lists, over_seeds, training_log
from retrace.report.inputs import Inputs


def derive(inputs: Inputs, origin: Provenance) -> Derived:
    """Everything that derived.json holds, from the results per image, the logs and the checks."""
    compared = comparisons.compare(inputs)
    claims = range(len(inputs.params.report.claims))
    seeds = over_seeds.over_seeds(inputs)
    return Derived(
        comparisons=compared.comparisons,
        groups=compared.groups,
        final=compared.final,
        classes=comparisons.classes(inputs),
        training=comparisons.log_gaps(inputs),
        audit=data_tables.audit(inputs),
        claims=[comparisons.judge(inputs, index) for index in claims],
        lists=lists.derive(inputs),
        log=training_log.derive(inputs),
        checks=checks.run_checks(inputs, origin),
        bundle=bundle.derive(inputs),
        **({} if seeds is None else {"seeds": seeds}),
    )
