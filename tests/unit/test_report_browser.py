"""The report's page in a real browser: names, headers, contrast, no error and no request; what its script does.

Every page is loaded once per case by headless Chromium, with a probe that runs after the page's own script and leaves
its findings in the document, which `--dump-dom` prints.
"""

import contextlib
import re
from pathlib import Path

import pytest

from retrace.config.load import load
from stages import report as stage
from tests.support.browser import CHROMIUM, DARK, FAULTS, SUPPORT, opened
from tests.support.fixtures_metrics import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not opened in a browser"),
]


@pytest.fixture(scope="module", params=["segmentation", "detection"])
def page(request, tmp_path_factory):
    """The text of a report's page, with pictures that have panels."""
    folder = tmp_path_factory.mktemp(request.param)
    build(folder, request.param)
    with contextlib.chdir(folder):
        params = load()
        stage.report(params)
        return Path("reports", params.study, "report.html").read_text()


@pytest.mark.parametrize(("flags", "size"), [((), "1440,900"), ((DARK,), "600,900")])
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
    more = (SUPPORT / "probe_actions.js").read_text()
    found = opened(page, tmp_path, more)
    assert found["faults"] == []
    scores = [score for score in found["sorted"] if score is not None]
    assert scores == sorted(scores) and len(scores) > 1 and found["order"] == "ascending"
    assert found["markdown"].splitlines()[1].startswith("| ---") and "\\toprule" in found["latex"]
    assert found["behind"][:2] == [2, True] and "," not in found["behind"][2]
    assert found["told"] and found["counts"] and found["off"] and found["hidden"] > 0 and found["large"]


def test_page_without_scripts_still_shows_answer_chart_and_tables(page):
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert 'class="headline"' in text and 'class="interval"' in text and "<table>" in text
    assert len(page.encode()) < 3_000_000
