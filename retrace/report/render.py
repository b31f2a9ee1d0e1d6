"""Write sections as Markdown, as one self-contained HTML page, and as CSV tables and figures."""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from retrace.errors import UserError
from retrace.files import write_bytes, write_text
from retrace.report.blocks import Cell, Figure, Gallery, Page, Picture, Table
from retrace.report.document import Report
from retrace.report.drawings import Drawn, adapt, draw
from retrace.report.numbers import ABSENT, Inline, plain
from retrace.report.widgets import axis, floor, matrix_rows, slider_data

SOURCES = (
    "Click a number, or move to it with Tab and the arrow keys and press Enter, to see the file and key it was read "
    "from. report.json lists all of them."
)
CODE = re.compile(r"(`[^`|\n]+`)")  # in texts of params.yaml, e.g. a next step


def render(report: Report, pictures: Path, folder: Path) -> None:
    """Write the pages, tables/*.csv and figures/* of a report into `folder`, from `report` alone.

    Args:
        pictures: folder that holds the photographs of figures/.

    Raises:
        UserError: a photograph is missing there, or is not the one that the report names.
    """
    drawn: dict[str, Drawn] = {}
    for block in (block for page in report.pages for part in page.sections for block in part.blocks):
        if isinstance(block, Figure):
            drawn[block.name] = draw(block.drawing, block.png)
            for ending, content in drawn[block.name].files.items():
                write_bytes(folder / "figures" / f"{block.name}.{ending}", content)
        elif isinstance(block, Gallery):
            for picture in block.pictures:
                write_bytes(folder / "figures" / picture.file, _content(pictures, picture))
    for page in report.pages:
        if not page.markdown_only:
            for block in (block for part in page.sections for block in part.blocks):
                if isinstance(block, Table):
                    write_text(folder / "tables" / f"{block.name}.csv", table_csv(block))
            words = {"eyebrow": f"study {report.study} · {report.task}", "note": SOURCES}
            text = layout("report.html", page, drawn, folder, demo=report.demo, **words)
            write_text(folder / f"{page.name}.html", text)
        template = "guide.md" if page.markdown_only else "report.md"
        write_text(folder / f"{page.name}.md", layout(template, page, demo=report.demo))


def _content(folder: Path, picture: Picture) -> bytes:
    path = folder / "figures" / picture.file
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        raise UserError(f"figures/{picture.file}: not the picture that report.json names (sha256 {picture.sha256})")
    return content


def layout(
    template: str,
    page: Page,
    drawn: Mapping[str, Drawn] = MappingProxyType({}),
    folder: Path = Path(),
    demo: bool = False,
    **words: str,
) -> str:
    """The text of a page.

    Args:
        template: its name, without `.j2`.
        drawn: the figures, by name.
        folder: where figures/ has the photographs.
        demo: whether the page says that its data was generated.
        words: for HTML `eyebrow` and `note`: what stands above the title and at the end.
    """
    environment = templates(PackageLoader("retrace.report"))
    environment.filters["uri"] = lambda picture: data_uri((folder / "figures" / picture.file).read_bytes())
    environment.filters["inline_svg"] = lambda figure: Markup(
        adapt(drawn[figure.name], figure.name, figure.caption, figure.drawing)
    )
    facts = {"page": page, "sections": page.sections, "title": page.title, "demo": demo}
    return environment.get_template(f"{template}.j2").render(facts, **words)


def templates(loader: BaseLoader) -> Environment:
    """The templates of `loader`, with the filters that blocks need besides `uri` and `inline_svg`."""
    environment = Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and ".html" in name,
    )
    environment.filters |= {"md": markdown, "md_table": markdown_table, "html": html, "plain": plain}
    environment.filters |= {"axis": axis, "floor": floor, "matrix_rows": matrix_rows, "slider_data": slider_data}
    return environment


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


def data_uri(content: bytes) -> str:
    """A JPEG as a data URI, so that the page needs no other file."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
