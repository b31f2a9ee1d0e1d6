"""Write tables, figures, verdicts and provenance from the metrics files: `python -m stages.report`."""

import sys
from pathlib import Path
from typing import Any

from retrace.config.load import load
from retrace.config.schema import Params
from retrace.documents.derived import Derived
from retrace.documents.provenance import Provenance
from retrace.errors import stage
from retrace.files import whole_folder, write_json
from retrace.provenance.run_log import journal
from retrace.report import bundle, plots
from retrace.report.blocks import Page
from retrace.report.conclusion import conclusion
from retrace.report.derived import derive
from retrace.report.document import Report, code_sum, read, write
from retrace.report.inputs import Inputs, read_inputs
from retrace.report.numbers import Ledger
from retrace.report.provenance import provenance
from retrace.report.render import render
from retrace.report.sections import compose
from retrace.report.sums import write_sums


def report(params: Params) -> Inputs:
    """Write reports/<study>/, bundles/<study>/, plots/ and metrics.json; returns the inputs that were read."""
    inputs = read_inputs(params)
    with whole_folder(inputs.report_folder) as folder:
        write_report(folder, inputs, provenance(inputs))
    with whole_folder(bundle.folder(params.study)) as folder:
        bundle.write(folder, inputs, inputs.report_folder / bundle.GUIDE)
    with whole_folder(Path("plots")) as folder:
        plots.write_plots(folder, inputs)
    write_json(Path("metrics.json"), plots.scalars(inputs))
    return inputs


def write_report(folder: Path, inputs: Inputs, origin: Provenance) -> None:
    """Write the documents of reports/<study>/ and the pages made of them to `folder`; `origin` is provenance.json."""
    params, derived = inputs.params, derive(inputs, origin)
    own: dict[str, Any] = {
        "parameters.json": params.model_dump(mode="json", exclude={"machine", "ablation"}),
        "derived.json": derived.content(),
        "provenance.json": origin.content(),
    }
    ledger = Ledger()
    for name, document in own.items():
        ledger.add(inputs.file_own(name), document)
        write_json(folder / name, document)
    pages = (
        Page("report", params.report.title, tuple(compose(inputs, ledger, derived, origin))),
        bundle.guide(inputs, ledger, derived, origin),
    )
    code = code_sum(Path(__file__).parents[1])
    write(folder, Report(params.study, params.task, not params.report.real_data, code, pages), ledger)
    render(read(folder).report, folder, folder)
    write_sums(folder)


@stage
def main() -> None:
    """Entry point of the DVC stage."""
    params = load()
    with journal(params.study, "report"):
        inputs = report(params)
    if inputs.leftover:
        print(
            f"ignoring the metrics of phases and repeats that params.yaml no longer has: {', '.join(inputs.leftover)}"
        )
    text = "\n".join(conclusion(inputs, Derived.read(inputs.report_folder / "derived.json")))
    encoding = sys.stdout.encoding or "utf-8"
    print(
        text.encode(encoding, "backslashreplace").decode(encoding)
    )  # a class name may not be in the encoding of the terminal


if __name__ == "__main__":
    main()
