"""Check every number printed in report.md, report.html and tables/*.csv against the file it was read from.

report.html names file, key and format of each number, so those are derived again one by one. report.md and the tables
must then show the numbers of report.html in the same order, and numbers.json must list exactly these. The reproduction
guide repeats numbers of the report and its documents: each must be one of theirs.
"""

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from retrace.documents.shapes import AGAIN, Number, read
from retrace.errors import UserError
from retrace.report.bundle import GUIDE
from retrace.report.numbers import Ledger, show

NUMBER = re.compile(r"[-+−]?\d+(?:[.,]\d+)*")
BLOCKS = ("p", "td", "th", "li", "h1", "h2", "h3", "figcaption", "tr", "div", "title")
SILENT = ("style", "svg", "title", "nav")
SCORE = re.compile(r"(?<![\w.])[-+]?\d\.\d{3,4}(?![\w.])")
DOCUMENTS = ("parameters.json", "provenance.json")  # what a page may quote as text: settings, versions
Where = tuple[str, str, str]  # file, key, format


@dataclass
class Page:
    """What stands in report.html (`name`): numbers with their sources, the text as lines, the tables as cells."""

    name: str = "report.html"
    printed: list[tuple[Where, str]] = field(default_factory=list)
    unsourced: list[str] = field(default_factory=list)  # text that names no source
    lines: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._silent = 0
        self._number: Where | None = None
        self._text = ""
        self._line = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag in SILENT:
            self._silent += 1
        elif tag == "table":
            self.page.tables.append([])
        elif tag == "tr" and self.page.tables:
            self.page.tables[-1].append([])
        elif tag == "span" and "data-key" in named:
            self._number = (named.get("data-source", ""), named["data-key"], named.get("data-format", ""))
            self._text = ""
        elif tag == "img":
            self.page.lines.append(named.get("alt", ""))

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self._line += data
        if self._number is not None:
            self._text += data
        else:
            self.page.unsourced.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT:
            self._silent -= 1
        elif tag == "span" and self._number is not None:
            self.page.printed.append((self._number, self._text))
            self._number = None
        if tag in BLOCKS and not self._silent:
            if tag in ("td", "th") and self.page.tables and self.page.tables[-1]:
                self.page.tables[-1][-1].append(self._line.strip("\n"))
            self.page.lines.append(self._line)
            self._line = ""


def read_page(path: Path, again: str = AGAIN) -> Page:
    """Parse report.html; a missing file is a `UserError`, which says that the command `again` writes it."""
    reader = _Reader()
    reader.page.name = path.name
    reader.feed(_read(path, again))
    reader.close()
    return reader.page


def _read(path: Path, again: str) -> str:
    name = "/".join(path.parts[-3:])  # reports/<study>/<file>; the folder above may be a copy
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; run {again} and commit what it writes") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 ({error}); restore it (`git checkout -- {name}`), or run {again}") from None


@dataclass
class Checked:
    """How many printed numbers were derived again, what is wrong (one line each), and which could not be checked."""

    numbers: int
    wrong: list[str]
    unchecked: dict[str, int]  # file -> numbers that were read from it


def check(root: Path, name: str, page_name: str = "report", again: str = AGAIN) -> Checked:
    """Check the pages of reports/<name> against the files below `root`, a folder laid out like the project.

    again: the command that writes these pages.
    """
    folder = root / "reports" / name
    page = read_page(folder / f"{page_name}.html", again)
    rows = read(folder / "numbers.json", list[Number], again, f"reports/{name}/numbers.json")
    listed = {(row["file"], row["key"], row["format"]): row["text"] for row in rows}
    absent = sorted({file for file, _, _ in listed if not (root / file).is_file()})
    unchecked = {file: sum(key[0] == file for key in listed) for file in absent}
    guide = folder / GUIDE
    told = NUMBER.findall(_bare(_read(guide, again))) if guide.is_file() else []
    wrong = _spans(root, page, listed, set(told))
    wrong += _unsourced(folder, page)
    wrong += _markdown(_read(folder / f"{page_name}.md", again), f"{page_name}.md", name, page)
    wrong += _tables(folder / "tables", page)
    if told:
        wrong += _repeated(guide, page, folder, listed)
    return Checked(len(listed) - sum(unchecked.values()), [f"reports/{name}/{line}" for line in wrong], unchecked)


def _spans(root: Path, page: Page, listed: dict[Where, str], told: set[str]) -> list[str]:
    ledger, wrong = Ledger(root), []
    for (file, key, format), text in listed.items():
        now = _now(root, ledger, (file, key, format), text)
        if now != text:
            wrong.append(f"numbers.json: {file}: {key}: printed {text}, the file says {now}")
    for (file, key, format), text in page.printed:
        if (file, key, format) not in listed:
            wrong.append(f"{page.name}: {file}: {key} is printed ({text}), but numbers.json does not list it")
        now = _now(root, ledger, (file, key, format), listed.get((file, key, format), text))
        if now != text:
            wrong.append(f"{page.name}: {file}: {key}: printed {text}, the file says {now}")
    seen = {where for where, _ in page.printed}
    for (file, key, format), text in sorted(listed.items()):
        if (file, key, format) not in seen and not told.issuperset(NUMBER.findall(text)):
            wrong.append(f"{page.name}: {file}: {key} is listed in numbers.json, but no number on the page names it")
    return wrong


def _now(root: Path, ledger: Ledger, where: Where, otherwise: str) -> str:
    """What the file says today; `otherwise` where the file is not here."""
    file, key, format = where
    if not (root / file).is_file():
        return otherwise
    try:
        return show(ledger.value(file, key), format)
    except (KeyError, TypeError, ValueError, UserError):  # an edited key, format or value, or a damaged file
        return "nothing"


def _unsourced(folder: Path, page: Page) -> list[str]:
    """Scores on the page that name no source and are no parameter either."""
    texts = [_read(folder / name, AGAIN) for name in DOCUMENTS if (folder / name).is_file()]
    known = {token for text in texts for token in SCORE.findall(text)}
    found = [token for text in page.unsourced for token in SCORE.findall(text)]
    return [f"{page.name}: {token} is printed without a source" for token in found if token not in known]


def _markdown(text: str, name: str, folder: str, page: Page) -> list[str]:
    """Same numbers in the same order as on the page; captions stand twice where the page has an `alt` text too.

    Above its title the page names the study, as the folder does and report.md does not: bdd100k is no number of it.
    """
    shown = [(token, "") for line in page.lines for token in NUMBER.findall(line)]
    written = [(token, f"the name of reports/{folder}") for token in NUMBER.findall(folder)]
    for number, line in enumerate(text.splitlines(), start=1):
        written += [(token, f"{name} line {number}") for token in NUMBER.findall(_bare(line))]
    return _unequal(written, shown, page.name)


def _bare(text: str) -> str:
    # without the escapes of Markdown and the addresses of pictures, which the page does not show
    return re.sub(r"\]\([^()]*\)", "]", re.sub(r"\\(.)", r"\1", text))


def _repeated(guide: Path, page: Page, folder: Path, listed: dict[Where, str]) -> list[str]:
    """Numbers of the guide that neither the page, numbers.json nor a document beside it holds."""
    sources = [*page.lines, *listed.values()]
    sources += [_read(folder / name, AGAIN) for name in (*DOCUMENTS, "derived.json")]
    known = {token for text in sources for token in NUMBER.findall(text)}
    return [
        f"{guide.name} line {number}: {token} is neither in {page.name} nor in the JSON files of the report"
        for number, line in enumerate(_bare(_read(guide, AGAIN)).splitlines(), start=1)
        for token in NUMBER.findall(line)
        if token not in known and len(token) > 2  # one and two digits number steps and lists
    ]


def _unequal(left: list[tuple[str, str]], right: list[tuple[str, str]], other: str) -> list[str]:
    """Where two runs of (number, place) differ, one line for each stretch."""
    mine, theirs = [token for token, _ in left], [token for token, _ in right]
    if mine == theirs:
        return []
    lines = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        if kind != "equal":
            place = left[min(a, len(left) - 1)][1] if left else "the Markdown page"
            lines.append(f"{place}: {_some(mine[a:b])}, where {other} has {_some(theirs[c:d])}")
    return lines


def _some(tokens: Iterable[str]) -> str:
    listed = list(tokens)
    return (" ".join(listed[:6]) + (" ..." if len(listed) > 6 else "")) or "no number"


def _tables(folder: Path, page: Page) -> list[str]:
    """Every CSV table is one of the tables of the page, cell by cell."""
    left, wrong = list(page.tables), []
    for path in sorted(folder.glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as stream:
            grid = list(csv.reader(stream))
        if grid in left:
            left.remove(grid)
        else:
            wrong.append(f"tables/{path.name}: {_difference(grid, left, page.name)}")
    heads = [" | ".join(grid[0]) if grid else "without a row" for grid in left if not wrong]
    return wrong + [f"{page.name}: the table {head} has no file in tables/" for head in heads]


def _difference(grid: list[list[str]], tables: list[list[list[str]]], other: str) -> str:
    """The first cell that differs from the page's table with the same header and number of rows."""
    for table in tables:
        if table and grid and table[0] == grid[0] and len(table) == len(grid):
            for row, (mine, theirs) in enumerate(zip(grid, table, strict=True), start=1):
                for column, (a, b) in enumerate(zip(mine, theirs, strict=False)):
                    if a != b:
                        return f"row {row}, {grid[0][column]}: {a!r}, where {other} has {b!r}"
    return f"{other} has no such table"
