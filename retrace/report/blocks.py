"""The parts of a report, independent of the output format: sections of text, tables, figures and pictures."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from retrace.report.drawings import Chart, Matrix
from retrace.report.numbers import Inline, Num, plain


@dataclass(frozen=True)
class Cell:
    """A table cell; `tone` is good | bad | warn | quiet | '' and only colors it."""

    parts: Inline
    tone: str = ""

    @property
    def text(self) -> str:
        """The text alone."""
        return plain(self.parts)


def cell(*parts: "str | Num | Inline", tone: str = "") -> Cell:
    """A cell from text, numbers and runs of both."""
    return Cell(run(*parts), tone)


def run(*parts: "str | Num | Inline") -> Inline:
    """One flat run of text and numbers."""
    flat: list[str | Num] = []
    for part in parts:
        flat.extend(part if isinstance(part, tuple) else (part,))
    return tuple(flat)


@dataclass(frozen=True)
class Table:
    """`name` becomes tables/<name>.csv; the caption gives the split, the number of images and the kind of interval."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: Inline = ()
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{self.name}: {len(row)} cells in {len(self.columns)} columns"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    parts: Inline
    tone: str = ""
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Inline, ...]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True)
class Figure:
    """A drawing: `figures/<name>.svg` for Markdown, the same drawing inline for HTML."""

    name: str
    drawing: Annotated[Chart | Matrix, Field(discriminator="kind")]
    caption: str
    png: bool = False  # whether figures/<name>.png is wanted too
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Picture:
    """A photograph with its caption: figures/<file>, whose bytes have this sha256."""

    file: str
    sha256: str
    caption: Inline


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    kind: Literal["gallery"] = "gallery"


Block = Annotated[Table | Text | Bullets | Figure | Gallery, Field(discriminator="kind")]


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    id: str
    title: str
    blocks: tuple[Block, ...] = field(default_factory=tuple)


def section(id: str, title: str, *blocks: "Block | None") -> Section | None:
    """A section of the blocks that are not None; None when there is no block."""
    present = tuple(block for block in blocks if block is not None)
    return Section(id, title, present) if present else None


@dataclass(frozen=True)
class Page:
    """`name` is that of its files: <name>.md, and <name>.html unless it is `markdown_only`."""

    name: str
    title: str
    sections: tuple[Section, ...]
    markdown_only: bool = False
