"""The parts of a report, independent of the output format: sections of text, tables, figures and pictures."""

from dataclasses import dataclass, field, replace
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
    fold: bool = False  # in HTML only its title is shown until it is opened
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
class Link:
    """A fact with its evidence. `target`: `#<section>` of the same page, or a file beside or above it."""

    label: str
    parts: Inline
    target: str


@dataclass(frozen=True)
class Links:
    """Facts side by side, each linked to its evidence. `title` names the list."""

    title: str
    items: tuple[Link, ...]
    kind: Literal["links"] = "links"


@dataclass(frozen=True)
class Interval:
    """A row of `Intervals`: `score` is `Ledger.interval`, `verdict` what is said about it."""

    name: str
    score: Inline
    verdict: Cell

    @property
    def ends(self) -> tuple[float, ...]:
        """The value, and where there is an interval its two ends; empty where the score is undefined."""
        numbers = [part.value for part in self.score if isinstance(part, Num)]
        return tuple(float(number) for number in numbers if isinstance(number, int | float))


@dataclass(frozen=True)
class Intervals:
    """Scores with their intervals, drawn below each other over one axis; `floor`: that of the best constant answer."""

    title: str
    rows: tuple[Interval, ...]
    floor: Inline = ()
    caption: Inline = ()
    kind: Literal["intervals"] = "intervals"


@dataclass(frozen=True)
class Slider:
    """What a reader sees when moving the confidence: `points` are (precision, recall, F1) by class."""

    confidence: tuple[float, ...]
    points: dict[str, tuple[tuple[float, float, float], ...]]
    start: float


@dataclass(frozen=True)
class Figure:
    """A drawing: `figures/<name>.svg` for Markdown, the same drawing inline for HTML."""

    name: str
    drawing: Annotated[Chart | Matrix, Field(discriminator="kind")]
    caption: str
    png: bool = False  # whether figures/<name>.png is wanted too
    slider: Slider | None = None
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Swatch:
    """One entry of a picture's legend; `style` of the line for boxes: solid | dashed | dotted, else filled."""

    name: str
    color: str  # #rrggbb
    style: str = "filled"


@dataclass(frozen=True)
class Picture:
    """A photograph with its caption: figures/<file>, whose bytes have this sha256.

    `panels` names the panels of equal width, from left to right; empty for a single picture.
    """

    file: str
    sha256: str
    caption: Inline
    panels: tuple[str, ...] = ()
    legend: tuple[Swatch, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side. With an `id` they are small, and Markdown lists their captions below the title."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    id: str = ""  # of the element, for links
    title: Inline = ()
    kind: Literal["gallery"] = "gallery"


Block = Annotated[Table | Text | Bullets | Links | Intervals | Figure | Gallery, Field(discriminator="kind")]


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it; with `fold`, HTML shows only the heading until it is opened."""

    id: str
    title: str
    blocks: tuple[Block, ...] = field(default_factory=tuple)
    fold: bool = False


def section(id: str, title: str, *blocks: "Block | None", fold: bool = False) -> Section | None:
    """A section of the blocks that are not None; None when there is no block."""
    present = tuple(block for block in blocks if block is not None)
    return Section(id, title, present, fold) if present else None


def folded(table: "Table | None") -> "Table | None":
    """The table, of which HTML shows only the title until it is opened."""
    return replace(table, fold=True) if table is not None else None


@dataclass(frozen=True)
class Page:
    """`name` is that of its files: <name>.md, and <name>.html unless it is `markdown_only`."""

    name: str
    title: str
    sections: tuple[Section, ...]
    markdown_only: bool = False
