"""`retrace verify` and reports/<study>-ablation/: nothing in it can be edited alone."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from retrace.config.load import parse
from retrace.documents.ablation import AblationResult
from retrace.errors import UserError
from retrace.provenance.verify import ablation
from retrace.report.document import read
from retrace.report.render import render
from retrace.sweeps.attribution import with_sentences
from retrace.sweeps.report import write_files
from tests.support.fixtures_metrics import build
from tests.support.projects import ROOT, commit, run
from tests.support.verified import edit, flip

REPORT = "reports/offroad-ablation"
GIT = ["git", "-C", str(ROOT), "ls-files", "--error-unmatch", f"{REPORT}/ablation.json"]
pytestmark = pytest.mark.skipif(run(ROOT, *GIT).returncode != 0, reason="no committed ablation to check")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with the report code and an ablation that this code writes."""
    root = tmp_path_factory.mktemp("ablation") / "project"
    for name in (REPORT, "reports/offroad", "retrace", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "reports/offroad/parameters.json", root / "params.yaml")
    found = AblationResult.read(root / REPORT / "ablation.json")
    shutil.rmtree(root / REPORT)
    # the committed sentences may be those of earlier code
    write_files(root / REPORT, with_sentences(found), parameters(root))
    run(root, "git", "init", "-q", "-b", "main", check=True)
    commit(root, "an ablation")
    return root


@pytest.fixture
def project(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "project"))


def parameters(root):
    return parse(json.loads((root / "reports/offroad/parameters.json").read_text()))


def document(root):
    return json.loads((root / REPORT / "ablation.json").read_text())


def checked(root):
    commit(root, "edited") if run(root, "git", "status", "--porcelain").stdout else None
    return ablation.check(root, root, root, parameters(root))


def wrong(root):
    return checked(root).wrong


def rewrite(root, change):
    """Edit ablation.json, and write everything else of it anew, as one who edits with care would."""
    path = root / REPORT / "ablation.json"
    found = json.loads(path.read_text())
    change(found)
    shutil.rmtree(root / REPORT)
    edited = AblationResult.parse(json.dumps(found), "ablation.json")
    write_files(root / REPORT, edited, parameters(root))


def test_an_untouched_ablation_is_right_and_what_is_not_checked_is_said(project):
    found = checked(project)
    assert found.wrong == [] and found.numbers > 300
    text = " ".join(found.notes)
    runs = len(document(project)["runs"])
    assert f"{runs} of {runs} experiments are not here" in text and "intervals are not computed again" in text
    assert "other report code" not in text


def test_no_ablation_is_nothing_to_check(project):
    shutil.rmtree(project / REPORT)
    assert checked(project) is None


def test_an_edited_sentence_is_found(project):
    name, text = next(iter(document(project)["sentences"].items()))
    number = re.search(r"[-+]\d+\.\d", text)[0]
    edit(project / REPORT / "ablation.json", text, text.replace(number, "-9.9", 1))
    assert any(f"sentences.{name}" in line and "-9.9" in line and number in line for line in wrong(project))


@pytest.mark.parametrize("name", ["ablation.csv", "ablation.md", "ablation.html", "tables/runs.csv"])
def test_an_edited_number_is_found(project, name):
    path = project / REPORT / name
    number = re.search(r"(?<=[>,| ])[-+]?0\.\d{3,}", path.read_text())[0]
    edit(path, number, "0.987")
    assert any(name in line for line in wrong(project))


def test_an_edited_word_is_found(project):
    edit(project / REPORT / "ablation.md", "Main effects", "Small effects")
    assert any(f"{REPORT}/ablation.md: not what report.json gives" in line for line in wrong(project))


@pytest.mark.parametrize("name", ["effects.png", "effects.svg"])
def test_a_flipped_byte_in_a_figure_is_found(project, name):
    flip(project / REPORT / "figures" / name)
    assert any(f"figures/{name}" in line for line in wrong(project))


def test_another_encoding_of_the_same_picture_is_no_edit(project):
    from PIL import Image

    path = project / REPORT / "figures/effects.png"
    before = path.read_bytes()
    Image.open(path).save(path, compress_level=1)
    assert path.read_bytes() != before and wrong(project) == []


@pytest.mark.parametrize("name", ["ablation.json", "report.json"])
def test_a_missing_document_is_not_taken_for_nothing_to_check(project, name):
    (project / REPORT / name).unlink()
    with pytest.raises(UserError, match=rf"{REPORT}/{name}: no such file; run `retrace ablate`"):
        checked(project)


def test_words_edited_in_report_json_and_on_its_pages_are_found(project):
    folder = project / REPORT
    edit(folder / "report.json", "Main effects", "Small effects", count=-1)
    render(read(folder).report, folder, folder)
    (line,) = wrong(project)
    assert "report.json" in line and "Small effects" in line and "Main effects" in line


def effect(found):
    return next(iter(found["effects"].values()))["mIoU"]


@pytest.mark.parametrize(
    "change, named",
    [
        (
            lambda found: found["effects"]["crop"]["mIoU"].update(value=-0.04, low=-0.05, high=-0.03),
            "effects.crop.mIoU",
        ),
        (lambda found: found["runs"][3]["scores"].update(mIoU=0.9), "the scores of the runs give"),
        (lambda found: found["together"]["mIoU"].update(value=0.0, low=-0.1, high=0.1), "together.mIoU"),
        (lambda found: found["effects"]["crop"]["mIoU"].update(low=0.5), "does not hold"),
    ],
)
def test_an_effect_that_the_runs_do_not_give_is_found(project, change, named):
    rewrite(project, change)
    assert any(named in line for line in wrong(project))


def test_scores_are_those_of_the_experiments_where_they_are_here(project):
    """Two experiments are stood in for by a commit with their metrics file."""
    found = document(project)
    scores = found["runs"][0]["scores"]
    built = build(project / "built", "segmentation")
    metrics = json.loads((project / "built/metrics" / built["study"] / f"{built['phase']}.json").read_text())
    split = metrics["splits"]["test"]
    row = next(iter(split["per_class"].values()))
    split["per_class"] = {}
    for name, value in scores.items():
        metric, _, label = name.partition("/")
        if label:
            split["per_class"][label] = {**row, metric: {**row[metric], "value": value}}
        else:
            split[metric] = {**split[metric], "value": value}
    path = project / "metrics/offroad" / f"{found['phase']}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**metrics, "splits": {found["split"]: split}}))
    shutil.rmtree(project / "built")
    commit(project, "an experiment")
    sha = run(project, "git", "rev-parse", "HEAD").stdout.strip()
    rewrite(project, lambda found: found["runs"][0].update(commit=sha))
    runs = len(found["runs"])
    assert wrong(project) == []
    assert f"{runs - 1} of {runs} experiments are not here" in " ".join(checked(project).notes)
    rewrite(project, lambda found: found["runs"][1].update(commit=sha))
    assert any("runs.1.scores.mIoU" in line and found["runs"][1]["name"] in line for line in wrong(project))


def test_what_earlier_code_wrote_is_written_again_with_that_code(project):
    path = project / "retrace/sweeps/attribution.py"
    edit(path, "no measurable effect", "no effect")
    folder = project / REPORT
    command = "import sys, json; from pathlib import Path; from retrace.config.load import load; "
    command += "from retrace.sweeps.report import write_files; "
    command += "from retrace.sweeps.attribution import with_sentences; "
    command += "from retrace.documents.ablation import AblationResult; "
    command += "found = with_sentences(AblationResult.read(Path(sys.argv[2]))); "
    command += "write_files(Path(sys.argv[1]), found, load())"
    shutil.copy(folder / "ablation.json", project / "kept.json")  # of the words of this code
    shutil.rmtree(folder)
    done = run(project, sys.executable, "-c", command, REPORT, "kept.json", env={"PYTHONPATH": str(project)})
    assert done.returncode == 0, done.stderr
    commit(project, "other words")
    with open(path, "a") as stream:
        stream.write("# newer code\n")
    assert " no effect" in (folder / "ablation.md").read_text()
    assert wrong(project) == []
    edit(folder / "ablation.md", "Main effects", "Small effects")
    assert any("ablation.md: not what report.json gives" in line for line in wrong(project))


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense"])
def test_a_damaged_ablation_is_one_message(project, text):
    (project / REPORT / "ablation.json").write_text(text)
    with pytest.raises(UserError, match=rf"{REPORT}/ablation.json: "):
        checked(project)
