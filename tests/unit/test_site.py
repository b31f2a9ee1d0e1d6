"""`retrace site`: every link leads somewhere, the bytes are the same twice, and no name can break a page."""

import contextlib
import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from retrace.cli.app import app
from retrace.config.load import load
from stages import report as stage
from tests.support.browser import CHROMIUM, DARK, FAULTS, opened
from tests.support.fixtures_metrics import LANES, build
from tests.support.projects import ROOT

HOSTILE = '</script><img src=x onerror=missing()> & "quoted"'
CLASS = "<b>White\u2028 Solid</b>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study with names that are HTML, a plain copy of its report, and an ablation."""
    root = tmp_path_factory.mktemp("site")
    text = json.dumps(LANES).replace(json.dumps("White Solid"), json.dumps(CLASS))
    params = json.loads(text)
    params["report"]["title"] = HOSTILE
    build(root, params=params)
    with contextlib.chdir(root):
        stage.report(load())
        shutil.copytree(ROOT / "reports/offroad-ablation", "reports/lanes-ablation")
        made = Path("reports/lanes-ablation/report.json")
        made.write_text(made.read_text().replace('"study": "offroad"', '"study": "lanes"', 1))
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["site", *arguments])


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(page):
    return json.loads(re.search(r'<script type="application/json" id="entries">(.*?)</script>', page, re.S)[1])


def test_every_link_of_every_page_leads_somewhere(project):
    assert run().exit_code == 0
    pages = sorted(Path("site").rglob("*.html"))
    names = {path.relative_to("site").as_posix() for path in pages}
    assert names == {"comparison.html", "index.html", "lanes-ablation/ablation.html", "lanes/report.html"}
    for path in pages:
        text = path.read_text()
        links = [html.unescape(link) for link in re.findall(r'<a [^>]*?href="([^"]*)"', text)]
        if path.name == "index.html":
            links += [entry["link"] for entry in entries(text)]
        assert links
        for link in links:
            assert not re.match(r"[a-z]+:|/", link), link
            name, _, anchor = unquote(link).partition("#")
            target = path.parent / name if name else path
            assert target.is_file(), (path, link)
            assert not anchor or f'id="{anchor}"' in target.read_text(), (path, link)
    assert all("All studies</a>" in path.read_text() for path in pages if path.name != "index.html")


def test_the_site_is_the_same_bytes_twice_and_replaces_itself(project):
    assert run("--out", "one").exit_code == run("--out", "two").exit_code == 0
    first = content(Path("one"))
    assert content(Path("two")) == first
    Path("one/old.html").write_text("from an earlier site")
    assert run("--out", "one").exit_code == 0
    assert content(Path("one")) == first


def test_names_from_the_data_are_text_on_the_index(project):
    run()
    page = Path("site/index.html").read_text()
    assert (
        "<img src=x" not in page
        and CLASS not in page
        and html.escape(HOSTILE, quote=False) in page.replace("&#34;", '"')
    )
    found = {(entry["kind"], entry["title"]) for entry in entries(page)}
    assert {("study", HOSTILE), ("class", CLASS), ("phase", "mae_ohem"), ("section", "Training")} <= found
    assert ("comparison", "Comparison of all studies") in found
    assert any(kind == "errors" for kind, _ in found) and any(kind == "ablation" for kind, _ in found)
    assert page.count('<article id="') == 1  # the ablation is on the card of its study
    assert 'href="lanes-ablation/ablation.html"' in page and 'src="data:image/jpeg' in page


def test_an_ablation_without_a_report_has_a_card(project):
    shutil.rmtree("reports/lanes")
    shutil.rmtree("metrics")
    assert run().exit_code == 0
    page = Path("site/index.html").read_text()
    assert page.count('<article id="lanes-ablation"') == 1 and not Path("site/comparison.html").exists()


def other_folder():
    Path("site").mkdir()
    Path("site/thesis.tex").write_text("years of work")


def no_report():
    shutil.rmtree("reports")


def edited_page():
    path = Path("reports/lanes/report.html")
    path.write_text(path.read_text().replace("0.7", "0.9", 1))


def damaged_report():
    Path("reports/lanes/report.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_folder, "site: exists and is not a site"),
        (no_report, "there is no report yet"),
        (edited_page, "reports/lanes/report.html: not the bytes that"),
        (damaged_report, "reports/lanes/report.json"),
    ],
)
def test_wrong_input_is_one_message_and_nothing_is_written(project, spoil, words):
    spoil()
    before = content(project)
    done = run()
    assert done.exit_code == 1 and words in done.stderr and "Traceback" not in done.output
    assert content(project) == before


SEARCHED = """
const words = document.getElementById("words");
words.value = "lanes WHITE";
words.dispatchEvent(new Event("input"));
found.titles = all("#results b").map((element) => element.textContent);
words.value = "nothing has this name";
words.dispatchEvent(new Event("input"));
found.none = document.getElementById("count").textContent;
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not opened in a browser")
@pytest.mark.parametrize(("flags", "size"), [((), "1440,900"), ((DARK,), "500,900")])
def test_the_search_finds_classes_without_a_network(project, tmp_path, flags, size):
    run()
    found = opened(Path("site/index.html").read_text(), tmp_path, SEARCHED, flags, size)
    assert {name: found[name] for name in FAULTS} == {name: [] for name in FAULTS}
    assert CLASS in found["titles"] and found["none"].startswith("0 ")
    assert found["width"] <= 0
