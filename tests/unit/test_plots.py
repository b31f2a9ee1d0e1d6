"""`dvc plots diff` of two revisions with known values, drawn by a browser and read back from the page."""

import base64
import csv
import io
import re
import shutil
from html.parser import HTMLParser

import pytest
import yaml
from PIL import Image

from tests.support.projects import ROOT, run

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
CLASSES = ("Road", "Sky")
SCORES = {  # by revision and split, of each class: every cell has a value of its own
    "HEAD~1": {"val": (0.61, 0.62), "test": (0.91, 0.92)},
    "workspace": {"val": (0.11, 0.12), "test": (0.31, 0.32)},
}
PRECISION = {"HEAD~1": (0.95, 0.45), "workspace": (0.85, 0.25)}  # of each class, at every recall


def table(path, rows):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue())


def fill(folder, revision):
    """The files of plots/ with the values of a revision."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    loss = {"HEAD~1": 0.7, "workspace": 0.2}[revision]
    table(
        folder / "history.csv",
        [{"phase": "a", "epoch": n, "train_loss": loss + n / 100, "val_metric": loss} for n in (1, 2)],
    )
    start = {"phase": "a", "active": "yes"}
    scores, shares, curves = [], [], []
    for split, values in SCORES[revision].items():
        for name, other, value in zip(CLASSES, CLASSES[::-1], values, strict=True):
            scores.append({"phase": "a", "split": split, "class": name, "n": 3, "score": value})
            for predicted, share in ((name, value), (other, round(1 - value, 2))):
                cells = {"split": split, "truth": name, "predicted": predicted, "count": 1, "share": share}
                shares.append(start | cells)
    for name, precision in zip(CLASSES, PRECISION[revision], strict=True):
        for recall in (0, 0.5, 1):
            curves.append({"phase": "a", "split": "test", "class": name, "recall": recall, "precision": precision})
    table(folder / "per_class.csv", scores)
    table(folder / "confusion.csv", shares)
    table(folder / "precision_recall.csv", curves)
    color = {"HEAD~1": "red", "workspace": "blue"}[revision]
    Image.new("RGB", (8, 8), color).save(folder / "samples" / "test_best_1.jpg", quality=95)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two revisions of the plots of a study, one committed and one in the working folder."""
    root = tmp_path_factory.mktemp("plots")
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    shutil.copytree(ROOT / ".dvc" / "plots", root / ".dvc" / "plots")
    whole = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"plots": whole["plots"]}, sort_keys=False))
    (root / ".gitignore").write_text("/.dvc/tmp\n/.dvc/cache\n/page\n")
    run(root, "git", "init", "-q", "-b", "main", check=True)
    fill(root / "plots", "HEAD~1")
    run(root, "git", "add", "-A", check=True)
    run(root, "git", "commit", "-qm", "first", check=True)
    run(root, "git", "commit", "-qm", "second", "--allow-empty", check=True)
    fill(root / "plots", "workspace")
    return root


@pytest.fixture(scope="module")
def page(project):
    """The folder that `dvc plots diff` writes."""
    done = run(project, "python", "-m", "dvc", "plots", "diff", "HEAD~1", "-o", "page", check=True)
    assert "WARNING" not in done.stderr and "ERROR" not in done.stderr
    return project / "page"


class Drawn(HTMLParser):
    """The text and the described marks of every plot, in the order of the page."""

    def __init__(self):
        super().__init__()
        self.marks, self.texts, self.plot = {}, {}, ""

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag == "div" and named.get("id"):
            self.plot = named["id"]
        label = named.get("aria-label")
        if label and named.get("role") == "graphics-symbol":
            place = tuple(map(float, re.findall(r"-?[\d.]+", named.get("transform") or named.get("d") or "")[:2]))
            self.marks.setdefault(self.plot, []).append((label, place))

    def handle_data(self, data):
        self.texts.setdefault(self.plot, []).append(data.strip())


@pytest.fixture(scope="module")
def drawn(page):
    if not CHROMIUM:
        pytest.skip("no Chromium here to draw the page with")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options += ["--virtual-time-budget=10000", "--dump-dom"]
    done = run(page, CHROMIUM, *options, (page / "index.html").as_uri(), check=True)
    (page / "drawn.html").write_text(done.stdout)
    found = Drawn()
    found.feed(done.stdout)
    return found


def test_the_page_works_without_a_network(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.(?:https?:)?//", text) == []
    for licensed in ("vega", "vega-lite", "vega-embed"):
        assert re.search(rf"/\* {licensed} \d+\.\d+\.\d+, https://www.npmjs.com/package/{licensed}\n", text)
    assert text.count("Redistribution and use in source and binary forms") == 3


def test_both_revisions_have_their_sample_picture(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    colors = set()
    for source in re.findall(r'<img[^>]*src="([^"]+)"', text):
        content = base64.b64decode(source.split(",")[1]) if source.startswith("data:") else (page / source).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            red, _, blue = image.convert("RGB").getpixel((4, 4))
            colors.add("red" if red > blue else "blue")
    assert colors == {"red", "blue"}


@pytest.mark.slow
def test_debug(drawn):
    import pprint
    pprint.pprint(drawn.marks, width=180)
    pprint.pprint(drawn.texts, width=180)
    assert 0
