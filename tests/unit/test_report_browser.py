"""The report's page in a real browser: names, headers, contrast, no error and no request; what its script does.

Every page is loaded once per case by headless Chromium, with a probe that runs after the page's own script and leaves
its findings in the document, which `--dump-dom` prints.
"""

import contextlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from retrace.config.load import load
from stages import report as stage
from tests.support.fixtures_metrics import build

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not opened in a browser"),
]
FIRST = "<script>window.faults = []; addEventListener('error', (event) => faults.push(String(event.message)));</script>"
PROBE = r"""<script>
{ const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const found = {faults, unnamed: [], headless: [], contrast: [], duplicates: [], requests: []};
const name = (element) => {
  const by = element.getAttribute("aria-labelledby");
  const text = by ? by.split(" ").map((id) => document.getElementById(id)?.textContent || "").join("") : "";
  return (text || element.getAttribute("aria-label") || element.getAttribute("alt") || element.textContent).trim();
};
all("svg[role=img], svg:not([role]), img, button, nav, [role=region], input").forEach((element) => {
  const named = element.tagName === "svg" ? element.getAttribute("role") && (element.hasAttribute("aria-label") ||
    document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim()) : name(element) || element.closest("label");
  if (!named) found.unnamed.push(element.outerHTML.slice(0, 120));
});
all("table").forEach((table) => {
  const heads = [...table.rows[0].cells];
  const good = heads.length && heads.every((head) => head.tagName === "TH" && head.scope === "col" && head.textContent.trim()) &&
    [...table.tBodies[0].rows].every((row) => row.cells[0].tagName === "TH" && row.cells[0].scope === "row");
  if (!good) found.headless.push(table.textContent.slice(0, 80));
});
const ids = all("[id]").map((element) => element.id);
found.duplicates = ids.filter((id, index) => ids.indexOf(id) !== index);
found.requests = performance.getEntriesByType("resource").map((entry) => entry.name).filter((url) => !url.startsWith("data:"));
const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor);
    if (color.length === 3) return color;
  }
  return [255, 255, 255];
};
all("p, li, td:not(.matrix td), th, dt, dd, a, button, figcaption, .score, .said, .name").filter((element) => element.offsetParent).forEach((element) => {
  const [one, other] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  if ((one + 0.05) / (other + 0.05) < 4.5) found.contrast.push(element.outerHTML.slice(0, 100));
});
found.words = document.getElementById("main").innerText.split(/\s+/).length;
found.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
__MORE__
document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)}));
}
</script>"""


@pytest.fixture(scope="module", params=["segmentation", "detection"])
def page(request, tmp_path_factory):
    """The text of a report's page, with pictures that have panels."""
    folder = tmp_path_factory.mktemp(request.param)
    build(folder, request.param)
    with contextlib.chdir(folder):
        params = load()
        stage.report(params)
        return Path("reports", params.study, "report.html").read_text()


def opened(text, folder, more="", flags=(), size="1440,900"):
    """What the probe finds in a page."""
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(text)
    start = text.index("<style>")
    text = text[:start] + FIRST + text[start:]
    end = text.rindex("</body>")
    path = folder / "page.html"
    path.write_text(text[:end] + PROBE.replace("__MORE__", more) + text[end:])
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={size}", *flags, "--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    return json.loads(html.unescape(match[1]))


FAULTS = ("faults", "unnamed", "headless", "contrast", "duplicates", "requests")


@pytest.mark.parametrize(("flags", "size"), [((), "1440,900"), (("--blink-settings=preferredColorScheme=0",), "600,900")])
def test_page_has_names_headers_contrast_and_makes_no_request(page, tmp_path, flags, size):
    found = opened(page, tmp_path, flags=flags, size=size)
    assert {name: found[name] for name in FAULTS} == {name: [] for name in FAULTS}
    assert found["words"] <= 1500
    assert found["width"] <= 0  # nothing is wider than the window


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (r'<th scope="col">Phase</th>', "<td>Phase</td>", "headless"),
        (r' role="img" aria-label="[^"]*"', "", "unnamed"),
        (r"<title id=\"training_curves-title\">[^<]*</title>", "", "unnamed"),
        (r'"use strict";', '"use strict"; missing();', "faults"),
    ],
)
def test_probe_finds_what_is_broken(page, tmp_path, old, new, fault):
    broken, count = re.subn(old, lambda _: new, page, count=1)
    assert count == 1
    assert opened(broken, tmp_path)[fault]


def test_script_sorts_copies_and_tells_sources(page, tmp_path):
    more = """
    const table = document.querySelector("#phases table");
    const column = [...table.rows[0].cells].findIndex((cell) => cell.textContent.includes("test"));
    table.rows[0].cells[column].querySelector("button").click();
    found.sorted = [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].textContent));
    found.order = table.rows[0].cells[column].getAttribute("aria-sort");
    found.markdown = asMarkdown(table); found.latex = asLatex(table);
    const number = document.querySelector(".headline .n");
    number.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
    found.source = document.getElementById("source").textContent;
    const wanted = [number.dataset.source, number.dataset.key];
    found.told = wanted.every((word) => found.source.includes(word));
    const matrix = document.querySelector(".matrix"), cell = matrix.querySelector("td");
    const before = cell.textContent;
    document.querySelector(".confusion .tools button").click();
    found.counts = cell.textContent === cell.dataset.count && cell.textContent !== before;
    const figure = document.querySelector(".chart .tools") .closest("figure"), off = figure.querySelector(".tools button");
    off.click();
    found.off = all("[data-series]", figure).filter((part) => part.classList.contains("off")).every((part) => part.dataset.series === off.textContent);
    found.hidden = figure.querySelectorAll(".off").length;
    """
    found = opened(page, tmp_path, more)
    assert found["faults"] == []
    scores = [score for score in found["sorted"] if score is not None]
    assert scores == sorted(scores) and len(scores) > 1 and found["order"] == "ascending"
    assert found["markdown"].splitlines()[1].startswith("| ---") and "\\toprule" in found["latex"]
    assert found["told"] and found["counts"] and found["off"] and found["hidden"] > 0


def test_page_without_scripts_still_shows_answer_chart_and_tables(page):
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert 'class="headline"' in text and 'class="interval"' in text and "<table>" in text
    assert len(page.encode()) < 3_000_000
