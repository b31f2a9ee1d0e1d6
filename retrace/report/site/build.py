"""Write the site: an index with a card per study and a search, and copies of all pages."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from retrace.errors import UserError
from retrace.files import whole_folder, write_text
from retrace.report.comparison import render, rows
from retrace.report.comparison.selection import select
from retrace.report.document import NAME
from retrace.report.render import data_uri, templates
from retrace.report.site.shown import Entry, Shown, read_all

REPORTS = Path("reports")
INDEX, COMPARISON = "index.html", "comparison.html"
MARK = '<meta name="generator" content="retrace site">'
EVIDENCE = (NAME, "provenance.json", "REPRODUCTION_GUIDE.md")
EYEBROW = '<p class="eyebrow">'


@dataclass(frozen=True)
class Card:
    """A study with its ablations, or an ablation of which the study has no report."""

    shown: Shown
    ablations: tuple[Shown, ...]


def build(target: Path) -> list[str]:
    """Write the site to the folder `target`, in place of a site that is already there; returns its pages.

    Raises:
        UserError: there is no report, one is damaged, or `target` is something else than a site.
    """
    _require_site(target)
    found = read_all(REPORTS)
    comparison = _comparison()
    with whole_folder(target) as folder:
        pages = [INDEX]
        write_text(folder / INDEX, index(found, compared=comparison is not None))
        write_text(folder / ".nojekyll", "")  # GitHub Pages then serves every file as it is
        if comparison is not None:
            write_text(folder / COMPARISON, _with_way_back(comparison, INDEX))
            pages.append(COMPARISON)
        for shown in found:
            _copy(shown, folder / shown.folder.name)
            pages.append(shown.link)
    return pages


def _require_site(target: Path) -> None:
    if not target.exists():
        return
    page = target / INDEX
    inside = any(target.iterdir()) if target.is_dir() else True
    if inside and not (page.is_file() and MARK in page.read_text(encoding="utf-8", errors="replace")):
        raise UserError(
            f"{target}: exists and is not a site that `retrace site` wrote, so it is not replaced; "
            "move it away, or choose another folder with --out"
        )


def _comparison() -> str | None:
    """The comparison of all studies; None without their metrics, e.g. where only reports/ was copied."""
    if not any(Path("metrics").glob("*/*.json")):
        return None
    return render.to_html(rows.compare(select([]), None, None))


def _copy(shown: Shown, folder: Path) -> None:
    page = f"{shown.page.name}.html"
    write_text(folder / page, _with_way_back((shown.folder / page).read_text(encoding="utf-8"), f"../{INDEX}"))
    for name in EVIDENCE:
        if (shown.folder / name).is_file():
            shutil.copyfile(shown.folder / name, folder / name)


def _with_way_back(page: str, index_page: str) -> str:
    return page.replace(EYEBROW, f'{EYEBROW}<a href="{index_page}">All studies</a> · ', 1)


def index(found: list[Shown], compared: bool) -> str:
    """The text of the index page; `compared`: whether it links the comparison."""
    environment = templates(ChoiceLoader([PackageLoader("retrace.report.site"), PackageLoader("retrace.report")]))
    entries = [entry for shown in found for entry in shown.entries()]
    if compared:
        entries.append(Entry("all studies", "comparison", "Comparison of all studies", COMPARISON))
    environment.filters["uri"] = _picture
    template = environment.get_template("index.html.j2")
    return template.render(cards=_cards(found), compared=compared, entries=_as_script(entries), mark=Markup(MARK))


def _cards(found: list[Shown]) -> list[Card]:
    studies = [shown for shown in found if not shown.is_ablation]
    named = {shown.report.study for shown in studies}
    alone = [shown for shown in found if shown.is_ablation and shown.report.study not in named]
    cards = []
    for shown in (*studies, *alone):
        mine = (other for other in found if other.is_ablation and other.report.study == shown.report.study)
        cards.append(Card(shown, tuple(other for other in mine if other is not shown)))
    return cards


def _picture(shown: Shown) -> str:
    assert shown.picture is not None
    return data_uri((shown.folder / "figures" / shown.picture.file).read_bytes())


def _as_script(entries: list[Entry]) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps([asdict(entry) for entry in entries], ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
