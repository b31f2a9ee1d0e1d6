"""Tables, figures, verdicts and provenance from the metrics files: `python -m stages.report`."""

import sys
from pathlib import Path
from typing import Any

from stages.errors import stage
from stages.files import read_json, whole_folder, write_json
from stages.journal import journal
from stages.params import Params, load
from stages.reporting import bundle, plots
from stages.reporting.blocks import numbers_in
from stages.reporting.conclusion import conclusion
from stages.reporting.derived import derive
from stages.reporting.inputs import Inputs, read_inputs
from stages.reporting.numbers import Ledger
from stages.reporting.provenance import provenance
from stages.reporting.render import write_guide, write_pages
from stages.reporting.sections import compose


def report(params: Params) -> Inputs:
    """Write reports/<study>/, bundles/<study>/, plots/ and metrics.json; returns what they were made from."""
    inputs = read_inputs(params)
    with whole_folder(inputs.report_folder) as folder:
        write_report(folder, inputs, provenance(inputs))
    with whole_folder(bundle.folder(params.study)) as folder:
        bundle.write(folder, inputs, inputs.report_folder / bundle.GUIDE)
    with whole_folder(Path("plots")) as folder:
        plots.write_plots(folder, inputs)
    write_json(Path("metrics.json"), plots.scalars(inputs))
    return inputs


def write_report(folder: Path, inputs: Inputs, origin: dict[str, Any]) -> None:
    """The pages, tables, figures and documents of reports/<study>/ into `folder`; `origin` is provenance.json."""
    params, derived = inputs.params, derive(inputs, origin)
    own: dict[str, Any] = {
        "parameters.json": params.model_dump(mode="json", exclude={"machine", "ablation"}),
        "derived.json": derived,
        "provenance.json": origin,
    }
    ledger = Ledger()
    for name, document in own.items():
        ledger.add(inputs.file_own(name), document)
    sections = compose(inputs, ledger, derived, origin)
    guide = bundle.guide(inputs, ledger, derived, origin)
    for name, document in own.items():
        write_json(folder / name, document)
    page = {"title": params.report.title, "study": params.study, "task": params.task}
    write_pages(folder, sections, **page, demo=not params.report.real_data)
    write_guide(folder / bundle.GUIDE, guide, title=bundle.page_title(inputs), demo=not params.report.real_data)
    write_json(folder / "numbers.json", ledger.index(numbers_in([sections, guide])))


@stage
def main() -> None:
    """Entry point of the DVC stage."""
    params = load()
    with journal(params.study, "report"):
        inputs = report(params)
    if inputs.leftover:
        print(f"ignored metrics of phases that params.yaml no longer has: {', '.join(inputs.leftover)}")
    text = "\n".join(conclusion(inputs, read_json(inputs.report_folder / "derived.json")))
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # a class may have a name that it cannot write


if __name__ == "__main__":
    main()
