"""What the site shows of each folder of reports/: a card, and the entries of the search."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from retrace.documents.parameters import Parameters
from retrace.documents.report_files import ReportFiles
from retrace.errors import UserError
from retrace.files import read_json, sha256_of
from retrace.report.blocks import Figure, Gallery, Intervals, Page, Picture, Section, Table, Text
from retrace.report.document import NAME, Report, read
from retrace.report.numbers import plain
from retrace.report.sums import SUMS

REPORT = "report"  # the page of a study; another name is that of an ablation


@dataclass(frozen=True)
class Entry:
    """Something that the search finds. `kind`: study, phase, class, section, table, figure or errors."""

    study: str
    kind: str
    title: str
    link: str


@dataclass(frozen=True)
class Shown:
    """A report or an ablation: its folder in reports/ and its first page."""

    folder: Path
    report: Report
    page: Page

    @property
    def link(self) -> str:
        """The page's address, seen from the index."""
        return f"{quote(self.folder.name)}/{self.page.name}.html"

    @property
    def is_ablation(self) -> bool:
        return self.page.name != REPORT

    @property
    def summary(self) -> Section:
        return self.page.sections[0]

    @property
    def texts(self) -> list[Text]:
        """The question of the study and its answer, or the first words of an ablation."""
        found = [block for block in self.summary.blocks if isinstance(block, Text)]
        named = [block for block in found if block.tone in ("question", "headline")]
        return named or found[:1]

    @property
    def intervals(self) -> Intervals | None:
        """The chart of all phases."""
        return next((block for block in self.summary.blocks if isinstance(block, Intervals)), None)

    @property
    def picture(self) -> Picture | None:
        """The middle one of the first pictures: neither the best nor the worst."""
        gallery = next((block for block in self.summary.blocks if isinstance(block, Gallery)), None)
        return gallery.pictures[len(gallery.pictures) // 2] if gallery is not None else None

    def section(self, name: str) -> str | None:
        """The address of a section, seen from the index."""
        known = any(section.id == name for section in self.page.sections)
        return f"{self.link}#{name}" if known else None

    def entries(self) -> Iterator[Entry]:
        """What the search finds of it, in the order of the page."""
        study = self.report.study
        yield Entry(study, "ablation" if self.is_ablation else "study", self.page.title, self.link)
        parameters = self.folder / "parameters.json"
        if not self.is_ablation:
            for phase in Parameters.read(parameters).phases:
                yield Entry(study, "phase", phase, self.section("phases") or self.link)
            for name in read_json(parameters)["classes"]:
                yield Entry(study, "class", name, self.section("classes") or self.link)
        for section in self.page.sections:
            link = f"{self.link}#{quote(section.id)}"
            yield Entry(study, "section", section.title, link)
            for block in section.blocks:
                if isinstance(block, Table) and block.title:
                    yield Entry(study, "table", block.title, link)
                elif isinstance(block, Figure):
                    yield Entry(study, "figure", block.caption, link)
                elif isinstance(block, Gallery) and block.id:
                    yield Entry(study, "errors", plain(block.title), f"{self.link}#{quote(block.id)}")


def read_all(root: Path) -> list[Shown]:
    """Every report and ablation in the folder `root`, sorted by name.

    Raises:
        UserError: there is none, one is damaged, or a page is not the one that files.json records.
    """
    found = []
    for path in sorted(root.glob(f"*/{NAME}")):
        report = read(path.parent).report
        page = report.pages[0]
        _check(path.parent, (NAME, f"{page.name}.html"))
        found.append(Shown(path.parent, report, page))
    if not found:
        raise UserError(f"{root}: there is no report yet; run `dvc repro`, then this command again")
    return found


def _check(folder: Path, names: tuple[str, ...]) -> None:
    recorded = ReportFiles.read(folder / SUMS).files if (folder / SUMS).is_file() else {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; run `dvc repro report` or `git checkout -- {path}`")
        if name in recorded and recorded[name] != sha256_of(path):
            raise UserError(
                f"{path}: not the bytes that {folder / SUMS} records; run `dvc repro report`, or restore it: "
                f"`git checkout -- {path}`"
            )
