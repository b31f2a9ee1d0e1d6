"""The tables of `retrace score` for a terminal, and as Markdown, HTML, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrace.errors import UserError
from retrace.files import write_text
from retrace.report.blocks import Page, Section, Table
from retrace.report.comparison.latex import latex_table
from retrace.report.comparison.render import COLORS
from retrace.report.numbers import plain
from retrace.report.render import layout, markdown, markdown_table
from retrace.scoring.measure import Result


@dataclass(frozen=True)
class Document:
    """What is written: a title, the tables, and the numbers behind them."""

    title: str
    tables: Sequence[Table]
    result: Result


def writer(path: Path) -> Callable[[Document], str]:
    """The renderer for the ending of `path`.

    Raises:
        UserError: another ending than .md, .html, .csv or .tex.
    """
    writers = {".md": to_markdown, ".html": to_html, ".csv": to_csv, ".tex": to_latex}
    if path.suffix not in writers:
        raise UserError(f"{path}: no such format; allowed endings: {', '.join(writers)}")
    return writers[path.suffix]


def write(document: Document, path: Path) -> None:
    """Write the document as the ending of `path` says."""
    write_text(path, writer(path)(document))


def to_terminal(document: Document) -> None:
    """Print the tables."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    for table in document.tables:
        console.print(Text(table.title, style="bold"))
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in table.columns:
            grid.add_column(Text(name), overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(one.text.replace(" [", "\n["), style=COLORS.get(one.tone, "")) for one in row))
        console.print(grid)
        if table.caption:
            console.print(Text(plain(table.caption), style="dim"))
        console.print()


def to_markdown(document: Document) -> str:
    """A GitHub table each."""
    parts = [f"# {markdown((document.title,))}"]
    for table in document.tables:
        parts += [f"## {markdown((table.title,))}", markdown_table(table)]
        if table.caption:
            parts.append(markdown(table.caption))
    return "\n\n".join(parts) + "\n"


def to_html(document: Document) -> str:
    """One page that needs no other file."""
    sections = []
    for table in document.tables:
        rows = tuple(tuple(replace(one, tone=one.tone or "line") for one in row) for row in table.rows)
        sections.append(Section(table.name, table.title, (replace(table, title="", rows=rows),)))
    return layout("report.html", Page("score", document.title, tuple(sections)), eyebrow="score", note="")


def to_latex(document: Document) -> str:
    """A `table` environment each, with the rules of the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in document.tables:
        said = plain(table.caption)
        parts.append(latex_table(table, f"{table.title}. {said}" if said else f"{table.title}."))
    return "\n".join(parts) + "\n"


CSV_COLUMNS = (
    *("predictions", "metric", "class", "value", "low", "high", "units", "floor", "above_floor"),
    *("compared_with", "difference", "difference_low", "difference_high", "p", "detectable", "verdict"),
)


def to_csv(document: Document) -> str:
    """One line per file and score, with every number in its own cell at full precision; unknown values are empty."""
    result, stream = document.result, io.StringIO()
    lines = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    lines.writeheader()
    for one in result.scored:
        for name, score in one.scores.items():
            metric, _, of = name.partition("/")
            found, floor = (one.differences or {}).get(name), one.floors.get(name)
            lines.writerow(
                {
                    "predictions": one.name,
                    "metric": metric,
                    "class": of,
                    **{key: getattr(score, key) for key in ("value", "low", "high")},
                    "units": score.n,
                    "floor": None if floor is None else floor.value,
                    "above_floor": None if floor is None else floor.beaten,
                    "compared_with": "" if found is None else result.base,
                    "difference": getattr(found, "value", None),
                    **{f"difference_{key}": getattr(found, key, None) for key in ("low", "high")},
                    **{key: getattr(found, key, None) for key in ("p", "detectable")},
                    "verdict": "" if found is None else found.verdict or f"none: {found.why}",
                }
            )
    return stream.getvalue()
