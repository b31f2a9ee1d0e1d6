"""Write sections as Markdown, as one self-contained HTML page, and as CSV tables and figures."""

import base64
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from retrace.files import write_bytes, write_text
from retrace.report.blocks import Block, Cell, Figure, Gallery, Section, Table
from retrace.report.figures import adapt
from retrace.report.numbers import ABSENT, Inline, plain

CODE = re.compile(r"(`[^`|\n]+`)")  # in texts of params.yaml, e.g. a next step


def write_pages(folder: Path, sections: Sequence[Section], name: str = "report", **context: Any) -> None:
    """<name>.md, <name>.html (by the templates of that name), tables/*.csv and figures/* into `folder`."""
    blocks = [block for section in sections for block in section.blocks]
    for block in blocks:
        _write_parts(folder, block)
    for page in (f"{name}.md", f"{name}.html"):
        write_text(folder / page, _rendered(page, sections, context))


def write_guide(path: Path, sections: Sequence[Section], **context: Any) -> None:
    """The reproduction guide, in Markdown only; it can be read without report.md."""
    write_text(path, _rendered("guide.md", sections, context))


def _rendered(page: str, sections: Sequence[Section], context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("retrace.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and ".html" in name,
    )
    environment.filters |= {
        "md": markdown,
        "md_table": markdown_table,
        "html": html,
        "uri": data_uri,
        "plain": plain,
        "tone": tone,
    }
    environment.filters |= {"inline_svg": lambda figure: Markup(adapt(figure.svg, figure.name))}
    return environment.get_template(f"{page}.j2").render(sections=sections, **context)


def _write_parts(folder: Path, block: Block) -> None:
    if isinstance(block, Table):
        write_text(folder / "tables" / f"{block.name}.csv", table_csv(block))
    elif isinstance(block, Figure):
        write_text(folder / "figures" / f"{block.name}.svg", block.svg)
    elif isinstance(block, Gallery):
        for picture in block.pictures:
            write_bytes(folder / "figures" / picture.file, picture.content)


def table_csv(table: Table) -> str:
    """The table as text cells, header first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([cell.text for cell in row] for row in table.rows)
    return stream.getvalue()


def markdown(inline: Inline) -> str:
    """Text for Markdown; special characters in names (|, *, <, ...) are escaped, `code` stays code."""
    return "".join(_escape(part if isinstance(part, str) else part.text) for part in inline)


def _escape(text: str) -> str:
    # odd parts are code, in which nothing has a meaning (but | in a table: such a part is not taken for code)
    return "".join(part if odd % 2 else _literal(part) for odd, part in enumerate(CODE.split(text)))


def _literal(text: str) -> str:
    for sign in "\\`*<>|":
        text = text.replace(sign, f"\\{sign}")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("\n", " ")


def markdown_table(table: Table) -> str:
    """A GitHub table."""
    rows = [[_md_cell(cell) for cell in row] for row in table.rows]
    columns = [_escape(column) for column in table.columns]
    return tabulate(rows, columns, tablefmt="pipe", disable_numparse=True)


def _md_cell(cell: Cell) -> str:
    text = markdown(cell.parts)
    if cell.tone == "code" and text != ABSENT:
        return f"`{cell.text.replace('|', '/')}`"
    return f"**{text}**" if text and cell.tone in ("good", "bad", "warn") else text


def html(inline: Inline) -> Markup:
    """Text for HTML; every number is a span with its file and key. An interval is not broken across lines."""
    parts = []
    for index, part in enumerate(inline):
        if part == " [" and inline[index + 4 : index + 5] == ("]",):  # of an interval: [, low, comma, high, ]
            parts.append(Markup(' <span class="whole">['))
        elif part == "]" and index >= 4 and inline[index - 4] == " [":
            parts.append(Markup("]</span>"))
        elif isinstance(part, str):
            text = escape(part)
            parts.append(Markup(CODE.sub(lambda found: f"<code>{found[0][1:-1]}</code>", text)))
        else:
            span = '<span class="n" data-source="{}" data-key="{}" data-format="{}" title="{}">{}</span>'
            where = f"{part.file}: {part.key}"
            parts.append(Markup(span).format(part.file, part.key, part.format, where, part.text))
    return Markup("").join(parts)


def tone(cell: Cell) -> str:
    """CSS class of a cell."""
    return cell.tone


def data_uri(content: bytes, mime: str) -> str:
    """The content as a data URI, so that the page needs no other file."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
