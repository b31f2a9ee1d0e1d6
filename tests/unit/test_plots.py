"""`dvc plots diff` of two revisions with known values, drawn by a browser and read back from the page."""

import base64
import csv
import html
import io
import json
import re
import shutil

import pytest
import yaml
from PIL import Image

from tests.support.projects import ROOT, run

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
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


READ = """
<pre id="read"></pre>
<script>
setTimeout(() => {
  const middle = element => {
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const plots = {};
  for (const plot of document.querySelectorAll("div[id]")) {
    const texts = [...plot.querySelectorAll("svg text")].map(one => [one.textContent, middle(one)]);
    const marks = [...plot.querySelectorAll("[role=graphics-symbol]")]
      .map(one => [one.getAttribute("aria-label"), middle(one)]);
    plots[plot.id] = {texts, marks};
  }
  document.getElementById("read").textContent = JSON.stringify(plots);
}, 5000);
</script>
</body>"""


@pytest.fixture(scope="module")
def drawn(page):
    """Texts and marks of every plot as a browser draws them, each with its place in pixels."""
    if not CHROMIUM:
        pytest.skip("no Chromium here to draw the page with")
    head, _, tail = (page / "index.html").read_text(encoding="utf-8").rpartition("</body>")
    (page / "read.html").write_text(head + READ + tail, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options += ["--virtual-time-budget=20000", "--dump-dom"]
    done = run(page, CHROMIUM, *options, (page / "read.html").as_uri(), check=True)
    return json.loads(html.unescape(re.search(r'<pre id="read">(.*?)</pre>', done.stdout, re.S)[1]))


def nearest(plot, words, place, axis):
    """The word of `words` in a plot that is nearest to a place along an axis, 0 across or 1 down."""
    found = [(abs(at[axis] - place[axis]), text) for text, at in plot["texts"] if text in words]
    assert {text for _, text in found} == set(words)
    return min(found)[1]


def facts(label):
    """`{title: value}` of a mark as it is described to a reader of the page."""
    return dict(part.split(": ", 1) for part in label.split("; ") if ": " in part)


def test_the_page_works_without_a_network(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.(?:https?:)?//", text) == []
    for licensed in ("vega", "vega-lite", "vega-embed"):
        assert re.search(rf"/\* {licensed} \d+\.\d+\.\d+\n", text)
    assert text.count("Redistribution and use in source and binary forms") == 3


def test_both_revisions_have_their_sample_picture(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    colors = set()
    for source in re.findall(r'<img[^>]*src="([^"]+)"', text.rpartition("<h1>")[2]):
        content = base64.b64decode(source.split(",")[1]) if source.startswith("data:") else (page / source).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            red, _, blue = image.convert("RGB").getpixel((4, 4))
            colors.add("red" if red > blue else "blue")
    assert colors == {"red", "blue"}


@pytest.mark.slow
def test_every_panel_shows_the_scores_of_its_own_revision_and_split(drawn):
    plot, found = drawn["per_class"], {}
    for label, place in plot["marks"]:
        values = facts(label)
        if "Class" in values and "Phase" in values:
            key = nearest(plot, SCORES, place, 1), nearest(plot, ("val", "test"), place, 0), values["Class"]
            found[key] = float(next(value for name, value in values.items() if name.startswith("Score")))
    assert found == {
        (revision, split, name): score
        for revision, splits in SCORES.items()
        for split, values in splits.items()
        for name, score in zip(CLASSES, values, strict=True)
    }


@pytest.mark.slow
def test_the_confusion_of_every_revision_is_in_its_own_panel(drawn):
    plot, found = drawn["confusion"], {}
    for label, place in plot["marks"]:
        values = facts(label)
        if values.get("True class") and values.get("Predicted class") == values["True class"]:
            key = nearest(plot, SCORES, place, 1), nearest(plot, ("val", "test"), place, 0), values["True class"]
            share = next(value for name, value in values.items() if name.lower().startswith("share"))
            found.setdefault(key, set()).add(float(share))
    assert found == {
        (revision, split, name): {score}
        for revision, splits in SCORES.items()
        for split, values in splits.items()
        for name, score in zip(CLASSES, values, strict=True)
    }


@pytest.mark.slow
def test_every_axis_has_a_title(drawn):
    titles = {
        "training_loss": {"Epoch", "Training loss", "Phase", "Revision"},
        "validation": {"Epoch", "Monitored metric (0 to 1)", "Phase", "Revision"},
        "per_class": {"Score (IoU of a mask, AP of boxes)", "Class", "Phase", "Revision", "Split"},
        "confusion": {"Predicted class", "True class", "Revision", "Split"},
        "precision_recall": {"Recall", "Precision", "Class", "Phase", "Revision"},
    }
    for name, wanted in titles.items():
        assert wanted <= {text for text, _ in drawn[name]["texts"]}, name


@pytest.mark.slow
def test_a_curve_is_drawn_for_every_class_and_revision(drawn):
    plot = drawn["precision_recall"]
    heights = {}
    for label, place in plot["marks"]:
        if "Precision: " in label:
            key = nearest(plot, PRECISION, place, 1), nearest(plot, CLASSES, place, 0)
            heights[key] = float(facts(label)["Precision"])
    assert heights == {
        (revision, name): value
        for revision, values in PRECISION.items()
        for name, value in zip(CLASSES, values, strict=True)
    }
