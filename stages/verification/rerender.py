"""Write a study's report again with the provenance that it was committed with: `python -m stages.verification.rerender
<folder of the committed report> <target>`, in a project whose stages have run.

What remains then depends on the metrics files and on the code of the report alone, so it must be the same bytes.
"""

import sys
from dataclasses import replace
from pathlib import Path

from stages.errors import UserError, stage
from stages.files import read_json
from stages.params import load
from stages.report import write_report
from stages.reporting.inputs import read_inputs
from stages.reporting.provenance import report_code


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
