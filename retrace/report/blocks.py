"""The parts of a report, independent of the output format: sections of text, tables, figures and pictures."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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
    kind: str = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{self.name}: {len(row)} cells in {len(self.columns)} columns"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    parts: Inline
    tone: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Inline, ...]
    kind: str = "bullets"


@dataclass(frozen=True)
class Figure:
    """A drawing: `figures/<name>.svg` for Markdown, the same drawing inline for HTML."""

    name: str
    svg: str  # stands alone, on white
    caption: str
    kind: str = "figure"


@dataclass(frozen=True)
class Picture:
    """A photograph with its caption."""

    file: str  # figures/<file>
    content: bytes
    mime: str
    caption: Inline


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    kind: str = "gallery"


Block = Table | Text | Bullets | Figure | Gallery


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


def numbers_in(part: Any) -> Iterator[Num]:
    """Every number in a section, a block or a run of text, at any depth."""
    if isinstance(part, Num):
        yield part
    elif isinstance(part, (list, tuple)):
        for item in part:
            yield from numbers_in(item)
    elif hasattr(part, "__dataclass_fields__"):
        for name in part.__dataclass_fields__:
            yield from numbers_in(getattr(part, name))
