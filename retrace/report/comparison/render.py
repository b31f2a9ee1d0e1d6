"""A comparison as a terminal table, Markdown, one self-contained HTML page, CSV or LaTeX."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrace.config import metrics
from retrace.errors import UserError
from retrace.files import write_text
from retrace.report.blocks import Bullets, Cell, Page, Section, Table, cell
from retrace.report.comparison.rows import Comparison, Group, Row
from retrace.report.numbers import ABSENT, show
from retrace.report.tables import INTERVALS, judged
from retrace.statistics.estimate import Interval

NARROW = 110  # columns of a terminal below which an interval goes on a line of its own
COLORS = {"good": "green", "bad": "red", "warn": "yellow", "quiet": "dim"}
FIRST = "reference"  # verdict of the row that the others are compared with


def write(comparison: Comparison, path: Path) -> None:
    """Write the comparison as the ending of `path` says.

    Raises:
        UserError: another ending than .md, .html, .csv or .tex.
    """
    write_text(path, writer(path)(comparison))


def writer(path: Path) -> Callable[[Comparison], str]:
    """The renderer for the ending of `path`."""
    from retrace.report.comparison.latex import to_latex

    writers: dict[str, Callable[[Comparison], str]] = {
        ".md": to_markdown,
        ".html": to_html,
        ".csv": to_csv,
        ".tex": to_latex,
    }
    if path.suffix not in writers:
        raise UserError(f"{path}: no such format; allowed endings: {', '.join(writers)}")
    return writers[path.suffix]


def text(score: Interval | None, style: str = "fraction") -> str:
    """`0.752 [0.710, 0.789]`, or `0.752` without an interval, or a dash."""
    if score is None:
        return ABSENT
    if score.low is None or score.high is None:
        return show(score.value, style)
    return f"{show(score.value, style)} [{show(score.low, style)}, {show(score.high, style)}]"


def title(group: Group) -> str:
    """`lanes, test: mIoU with its 95 % bootstrap interval over images`."""
    return f"{group.study}, {group.split}: {_label(group)}"


def caption(group: Group) -> str:
    """What brackets, focus and difference mean."""
    focus = _focus(group)
    sentences = [INTERVALS]
    if focus:
        sentences.append(f"Focus is the mean IoU of {' + '.join(focus)}.")
    if any(row.difference is not None and row.difference.found is not None for row in group.rows):
        sentences.append(f"Differences to {group.base.name} are paired: both runs on the same resampled images.")
    return " ".join(sentences)


def table(group: Group) -> Table:
    """One row per run."""
    columns = ["Run", _label(group), "Focus", "Images", "Parameters", "Difference", "Verdict"]
    rows = []
    for row in group.rows:
        cells = {
            "Run": cell(row.run.name.removeprefix(f"{group.study}:")),
            _label(group): cell(text(row.score)),
            "Focus": cell(text(row.focus)),
            "Images": cell(counted(row)),
            "Parameters": cell(show(row.run.scores.parameters, "count")),
            "Difference": cell(text(row.difference.found if row.difference else None, "signed")),
            "Verdict": _verdict(row),
        }
        rows.append(cells)
    kept = [name for name in columns if name != "Focus" or any(row.focus for row in group.rows)]
    return Table(group.study, title(group), tuple(kept), tuple(tuple(row[name] for name in kept) for row in rows))


def _verdict(row: Row) -> Cell:
    if row.difference is None:
        return cell(FIRST, tone="quiet")
    if row.difference.found is None:
        return cell(f"not compared: {row.difference.why}", tone="warn")
    detectable = show(row.difference.found.detectable, "fraction")
    return judged(row.difference.found, (detectable,))


def counted(row: Row) -> str:
    """`48 in 10`: images in independent units, where these are fewer."""
    images = show(row.images, "count")
    return images if row.units in (0, row.images) else f"{images} in {show(row.units, 'count')}"


def _label(group: Group) -> str:
    return metrics.title(group.base.scores.task, group.metric)


def _focus(group: Group) -> tuple[str, ...]:
    return group.base.focus_classes if any(row.focus for row in group.rows) else ()


def to_terminal(comparison: Comparison) -> None:
    """Print the comparison; it fits a terminal of 80 columns."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    for group in comparison.groups:
        console.print(Text(title(group), style="bold"))
        console.print(_grid(table(group), narrow=console.width < NARROW))
        console.print(Text(caption(group), style="dim"))
        console.print()
    notes = Grid.grid(padding=(0, 1, 0, 0))
    for line in comparison.notes:
        notes.add_row("-", Text(line))
    console.print(notes)


def _grid(drawn: Table, narrow: bool) -> Any:
    """The table for a terminal; in a narrow one, intervals and verdicts are on lines of their own."""
    from rich.table import Table as Grid
    from rich.text import Text

    columns = drawn.columns[:-1] if narrow else drawn.columns
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        number = name in ("Images", "Parameters")
        grid.add_column("Params" if name == "Parameters" else name, justify="right" if number else "left")
    for cells in drawn.rows:
        texts = [one.text for one in cells[: len(columns)]]
        size = drawn.columns.index("Parameters")
        texts[size] = f"{int(cells[size].text.replace(',', '')) / 1e6:.1f} M"
        if narrow:
            texts = [texts[0].replace(":", ":\n"), *(one.replace(" [", "\n[") for one in texts[1:])]
        drawn_cells = [Text(one, overflow="fold") for one in texts]
        verdict = Text(cells[-1].text, style=COLORS.get(cells[-1].tone, ""))
        if narrow:
            found = drawn_cells[-1].plain != ABSENT
            drawn_cells[-1] = Text("\n").join([drawn_cells[-1], verdict]) if found else verdict
        else:
            drawn_cells[-1] = verdict
        grid.add_row(*drawn_cells)
    return grid


def to_markdown(comparison: Comparison) -> str:
    """A GitHub table for each study, with its notes."""
    from retrace.report.render import markdown, markdown_table

    parts = ["# Comparison"]
    for group in comparison.groups:
        parts += [f"## {markdown((title(group),))}", markdown_table(table(group)), markdown((caption(group),))]
    if comparison.notes:
        parts.append("\n".join(f"- {markdown((line,))}" for line in comparison.notes))
    return "\n\n".join(parts) + "\n"


def to_html(comparison: Comparison) -> str:
    """One page that needs no other file."""
    from retrace.report.render import layout

    sections = []
    for group in comparison.groups:
        drawn = table(group)
        rows = tuple(tuple(replace(one, tone=one.tone or "line") for one in row) for row in drawn.rows)
        drawn = replace(drawn, title="", rows=rows, caption=(caption(group),))
        sections.append(Section(group.study, title(group), (drawn,)))
    if comparison.notes:
        sections.append(Section("notes", "Notes", (Bullets(tuple((line,) for line in comparison.notes)),)))
    page = Page("comparison", "Comparison", tuple(sections))
    return layout("report.html", page, eyebrow="compare", note="")


CSV_COLUMNS = (
    *("run", "study", "phase", "commit", "split", "images", "units", "metric", "value", "low", "high"),
    *("focus_mIoU", "focus_mIoU_low", "focus_mIoU_high", "focus_classes", "parameters"),
    *("compared_with", "difference", "difference_low", "difference_high", "detectable", "verdict"),
)


def to_csv(comparison: Comparison) -> str:
    """One line per run, with every number in its own cell at full precision; unknown values are empty."""
    stream = io.StringIO()
    lines = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    lines.writeheader()
    for group in comparison.groups:
        for row in group.rows:
            lines.writerow(_csv_row(group, row))
    return stream.getvalue()


def _csv_row(group: Group, row: Row) -> dict[str, Any]:
    found = row.difference.found if row.difference else None
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {
        "run": row.run.name,
        "study": group.study,
        "phase": row.run.phase,
        "commit": row.run.place.commit or "",
        "split": group.split,
        "images": row.images,
        "units": row.units,
        "metric": group.metric,
        **{name: getattr(row.score, name, None) for name in ("value", "low", "high")},
        **{f"focus_mIoU{end}": getattr(row.focus, name, None) for end, name in ends.items()},
        "focus_classes": " + ".join(_focus(group)),
        "parameters": row.run.scores.parameters,
        "compared_with": group.base.name if row.difference else "",
        **{f"difference{end}": getattr(found, name, None) for end, name in ends.items()},
        "detectable": getattr(found, "detectable", None),
        "verdict": _verdict(row).text if row.difference else "",
    }
