"""Write a report again with the provenance that it was committed with: `python -m retrace.provenance.verify.rerender
<folder of the committed report> <target>`, in a project whose stages have run.

What remains then depends on the metrics files and on the code of the report alone, so it must be the same bytes.
"""

import sys
from dataclasses import replace
from pathlib import Path

from retrace.config.load import load
from retrace.errors import UserError, stage
from retrace.files import read_json
from retrace.report.inputs import read_inputs
from retrace.report.provenance import report_code
from stages.report import write_report


def rerender(committed: Path, target: Path) -> None:
    """Fill `target` with the pages, tables, figures and documents of the report.

    Raises:
        UserError: the committed report was written by other report code, so its bytes cannot be compared.
    """
    origin = read_json(committed / "provenance.json")
    if origin.get("report_code") != report_code():
        raise UserError("written by other report code than this commit's")
    inputs = replace(read_inputs(load()), speed=origin["speed"], journals={})
    target.mkdir(parents=True)
    write_report(target, inputs, origin)


@stage
def main() -> None:
    """Entry point; two arguments, see above."""
    rerender(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
