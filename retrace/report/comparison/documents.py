"""Tables generated into documents, between two comment lines of README.md and docs/*.md, and reports/README.md whole.

<!-- retrace:results begin -->             every study: score, difference, target, link
<!-- retrace:results end -->

<!-- retrace:phases offroad begin -->      the phases of one study
<!-- retrace:phases offroad end -->
"""

import re
from collections.abc import Sequence
from pathlib import Path

from retrace.errors import UserError
from retrace.report.blocks import Table
from retrace.report.comparison import committed
from retrace.report.comparison.committed import Kept
from retrace.report.render import markdown, markdown_table

BEGIN = re.compile(r"<!-- retrace:(?P<block>\S+(?: \S+)*) begin -->\n?")
BLOCKS = "results, phases <study>, ablation <study>"
REPORTS = Path("reports/README.md")


def generate(studies: Sequence[str] | None = None) -> dict[Path, str]:
    """The text of every document with generated parts as it ought to be; `studies`: only these count as run.

    Raises:
        UserError: a marker is unknown or not closed, or a results file is damaged.
    """
    found = committed.kept(studies)
    texts = {}
    for path in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        new = fill(path, text, found)
        if new != text or BEGIN.search(text):
            texts[path] = new
    texts[REPORTS] = reports_page(found)
    return texts


def fill(path: Path, text: str, found: dict[str, Kept | None]) -> str:
    """`text` with everything between markers made anew. A marker is a line of its own outside code blocks."""
    result: list[str] = []
    inside, fenced = "", False
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if inside:
            if line.rstrip() != f"<!-- retrace:{inside} end -->":
                continue
            result += [block(inside, path, number, found), line]
            inside = ""
            continue
        fenced ^= line.startswith("```")
        result.append(line)
        match = None if fenced else BEGIN.fullmatch(line)
        inside = match["block"] if match else ""
    if inside:
        raise UserError(f"{path}: <!-- retrace:{inside} begin --> has no line <!-- retrace:{inside} end --> after it")
    return "".join(result)


def block(name: str, path: Path, number: int, found: dict[str, Kept | None]) -> str:
    """What belongs between the markers of `name` in the document at `path`."""
    kind, _, study = name.partition(" ")
    if name == "results":
        return _shown(committed.results(found, path.parent, cost=False))
    if kind == "phases" and study in found:
        return _shown(committed.phases(found, study))
    if kind == "ablation" and study in found:
        return _shown(committed.ablation(study, path.parent))
    raise UserError(
        f"{path}, before line {number}: retrace:{name}: no such block; allowed: {BLOCKS}; studies: {', '.join(found)}"
    )


def _shown(what: Table | str) -> str:
    if isinstance(what, str):
        return f"\n{what}\n\n"
    parts = [markdown_table(what), *([markdown(what.caption)] if what.caption else [])]
    return "\n" + "\n\n".join(parts) + "\n\n"


def reports_page(found: dict[str, Kept | None]) -> str:
    """reports/README.md."""
    parts = [
        "# Results\n\nMade by `retrace compare --write` from `metrics/` and `reports/`; do not edit.\n",
        _shown(committed.results(found, REPORTS.parent, cost=True)).rstrip("\n") + "\n",
    ]
    for study, result in found.items():
        title = f": {result.inputs.params.report.title}" if result is not None else ""
        parts.append(f"\n## {study}{title}\n")
        if result is not None:
            parts.append(f"\n[Report]({study}/report.md), the same as [one page]({study}/report.html).\n")
        parts.append(_shown(committed.phases(found, study)).rstrip("\n") + "\n")
    return "".join(parts)
