"""Tables, figures, verdicts and provenance from the metrics files: `python -m stages.report`."""

from pathlib import Path
from typing import Any

from stages.errors import stage
from stages.files import whole_folder, write_json
from stages.journal import journal
from stages.params import Params, load
from stages.reporting import plots
from stages.reporting.comparisons import derive
from stages.reporting.inputs import Inputs, read_inputs
from stages.reporting.numbers import Ledger
from stages.reporting.provenance import provenance
from stages.reporting.render import write_pages
from stages.reporting.sections import compose


def report(params: Params) -> Inputs:
    """Write reports/<study>/, plots/ and metrics.json; returns what they were made from."""
    inputs = read_inputs(params)
    derived = derive(inputs)
    own: dict[str, Any] = {
        "parameters.json": params.model_dump(mode="json", exclude={"machine"}),
        "derived.json": derived,
        "provenance.json": provenance(inputs),
    }
    ledger = Ledger()
    for name, document in own.items():
        ledger.add(inputs.file_own(name), document)
    sections = compose(inputs, ledger, derived, own["provenance.json"])
    with whole_folder(inputs.report_folder) as folder:
        for name, document in own.items():
            write_json(folder / name, document)
        page = {"title": params.report.title, "study": params.study, "task": params.task}
        write_pages(folder, sections, **page, demo=not params.report.real_data)
        write_json(folder / "numbers.json", ledger.index())
    with whole_folder(Path("plots")) as folder:
        plots.write_plots(folder, inputs)
    write_json(Path("metrics.json"), plots.scalars(inputs))
    return inputs


@stage
def main() -> None:
    """Entry point of the DVC stage."""
    params = load()
    with journal(params.study, "report"):
        inputs = report(params)
    if inputs.leftover:
        print(f"ignored metrics of phases that params.yaml no longer has: {', '.join(inputs.leftover)}")
    print(f"{inputs.report_folder}/report.html")


if __name__ == "__main__":
    main()
