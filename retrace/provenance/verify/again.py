"""Write a committed report again: its pages from report.json, or all of it from the results.

`python -m retrace.provenance.verify.again pages|results <committed report> <target>`, in a project's
folder. The code must be the code that wrote the report; it may be that of an earlier commit.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import retrace
from retrace.config.load import load
from retrace.documents.ablation import AblationResult
from retrace.documents.provenance import Provenance
from retrace.errors import UserError, stage
from retrace.programs import environment, git, last_line
from retrace.report import bundle
from retrace.report.document import code_sum, read
from retrace.report.inputs import read_inputs
from retrace.report.render import render
from retrace.sweeps.attribution import with_sentences
from retrace.sweeps.report import write_files
from stages.report import write_report

OWN = Path(retrace.__file__).parents[1]
COMMITS = 5  # that changed a report, in which its code is looked for


def code_of(clone: Path, report: str, wanted: str, more: Sequence[str] = ()) -> Path | None:
    """The folder of the code that wrote a report; None where no such code is found.

    It is this program's own, the commit's, or that of a recent commit that changed the report.

    Args:
        clone: the commit's folder in a temporary clone.
        report: path of the report in it.
        wanted: `code` in report.json.
        more: patterns of files that belong to this code, see `code_sum`.
    """
    for folder in (OWN, clone):
        if code_sum(folder, *more) == wanted:
            return folder
    prefix = git("rev-parse", "--show-prefix", folder=clone, check=False).strip()
    log = ("log", f"-{COMMITS}", "--format=%H", "--", report)
    for commit in git(*log, folder=clone, check=False).split():
        target = clone.parent / f"code-{commit}"
        if not target.exists():
            git("worktree", "add", "--detach", "--quiet", str(target), commit, folder=clone)
        if code_sum(target / prefix, *more) == wanted:
            return target / prefix
    return None


def write_again(what: str, code: Path, place: Path, committed: Path, target: Path) -> None:
    """Write `pages` or `results` (see `pages` and `results`) to `target` with the code in `code`.

    Args:
        place: folder laid out like the project, in which results are looked up.

    Raises:
        UserError: a file that is needed is missing or damaged.
    """
    if code == OWN:
        with contextlib.chdir(place):
            STEPS[what](committed.absolute(), target.absolute())
        return
    words = [what, str(committed.absolute()), str(target.absolute())]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "retrace.provenance.verify.again", *words],
        cwd=place,
        env=environment() | {"PYTHONPATH": os.fspath(code)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(last_line(done.stderr).removeprefix("error: ") or "no reason given")


def pages(committed: Path, target: Path) -> None:
    """Lay out the pages, tables and figures of report.json."""
    render(read(committed).report, committed, target)


def results(committed: Path, target: Path) -> None:
    """Compute the report from the results in this folder: `target`/report, and a study's `target`/bundle.

    What a run alone knows (dates, speeds, commit) is taken from the committed provenance.json. An
    ablation is computed from its ablation.json.
    """
    params = load()
    if (committed / "ablation.json").is_file():
        found = AblationResult.read(committed / "ablation.json")
        write_files(target / "report", with_sentences(found), params)
        return
    origin = Provenance.read(committed / "provenance.json")
    inputs = replace(read_inputs(params), speed=origin.speed, journals={})
    write_report(target / "report", inputs, origin)
    (target / "bundle").mkdir()
    bundle.write(target / "bundle", inputs, target / "report" / bundle.GUIDE)


STEPS = {"pages": pages, "results": results}


@stage
def main() -> None:
    """Entry point; three arguments, see above."""
    what, committed, target = sys.argv[1:]
    STEPS[what](Path(committed), Path(target))


if __name__ == "__main__":
    main()
