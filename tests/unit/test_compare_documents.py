"""The tables that `retrace compare --write` generates into documents."""

import functools
import shutil
from pathlib import Path

import pytest

from retrace.cli.compare import write_documents
from retrace.errors import UserError
from retrace.files import read_json
from retrace.report.comparison import committed
from retrace.report.comparison.documents import fill, generate
from tests.support.fixtures_compare import copied, make
from tests.support.fixtures_documents import ablation
from tests.support.fixtures_metrics import LANES, PLATES
from tests.support.projects import ROOT, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """`finished(task)`: the study of a task, made once for all tests; they work on copies."""
    return functools.cache(lambda task: make(tmp_path_factory.mktemp(task), task))


@pytest.fixture
def lanes(finished, tmp_path, monkeypatch):
    return copied(finished("segmentation"), tmp_path, monkeypatch)


RESULTS = "<!-- retrace:results begin -->\n<!-- retrace:results end -->\n"
PHASES = "<!-- retrace:phases lanes begin -->\nan older table\n<!-- retrace:phases lanes end -->\n"


def test_blocks_are_filled_and_stay_as_they_are(lanes):
    Path("README.md").write_text(f"# Title\n\n{RESULTS}after\n")
    Path("docs/story.md").write_text(f"{PHASES}\n```\n{RESULTS}```\n")
    assert write_documents([]) == ["README.md", "docs/story.md", "reports/README.md"]
    assert write_documents([]) == []
    readme, story = Path("README.md").read_text(), Path("docs/story.md").read_text()
    score = read_json(Path("metrics/lanes/mae_ohem.json"))["splits"]["test"]["mIoU"]
    assert f"mae_ohem: mIoU {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" in readme
    assert "[report](reports/lanes/report.md)" in readme and readme.endswith("after\n")
    assert "`retrace use offroad --demo && dvc repro`" in readme
    assert "an older table" not in story and f"```\n{RESULTS}```" in story
    told = read_json(Path("reports/lanes/derived.json"))["comparisons"]["colder"]["test"]["mIoU"]
    assert f"{told['value']:+.3f} [{told['low']:+.3f}, {told['high']:+.3f}]" in story
    page = Path("reports/README.md").read_text()
    assert "[report](lanes/report.md)" in page
    times = read_json(Path("reports/lanes/provenance.json"))["run"]["stages"]
    assert sum(times[f"finetune@{phase}"]["seconds"] for phase in LANES["phases"]) + 12.5 == 402.5
    assert "6 min 42 s" in page


@pytest.mark.parametrize(
    "given, named",
    [
        ({"names": ["lanes"]}, "lanes"),
        ({"files": [Path("a.md")]}, "-o/--out"),
        ({"metric": "mIoU"}, "--metric"),
        ({"split": "val"}, "--split"),
    ],
)
def test_what_write_leaves_no_choice_of_is_refused(lanes, given, named):
    with pytest.raises(UserError, match=f"{named}: not allowed with --write"):
        write_documents(**{"names": [], **given})


def test_effects_of_an_ablation_become_a_table(lanes):
    marked = "<!-- retrace:ablation lanes begin -->\n<!-- retrace:ablation lanes end -->\n"
    assert "Not run: `retrace use lanes && dvc repro`, commit, then `retrace ablate`" in fill(
        Path("README.md"), marked, committed.kept()
    )

    def effects(value, low, high):
        return {"mIoU": {"value": value, "low": low, "high": high}, "IoU/Background": {"value": 0.5}}

    labels = {"crop": "random crop", "dice": "Dice", "zoom": "zoom"}
    document = ablation(
        factors={name: {"label": label} for name, label in labels.items()},
        effects={
            "crop": effects(-0.019, -0.026, -0.012),
            "dice": effects(0.002, -0.003, 0.007),
            "zoom": effects(0.0, None, None),
        },
        sentences={"crop": "random crop: -1.9 mIoU points [-2.6, -1.2]", "dice": "Dice: no measurable effect"},
    )
    Path("reports/lanes-ablation").mkdir()
    document.write(Path("reports/lanes-ablation/ablation.json"))
    made = fill(Path("docs/story.md"), marked, committed.kept())
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in made.splitlines() if line.startswith("|")]
    assert lines[0] == ["Change", "mIoU", "Verdict"]
    assert lines[2:] == [
        ["random crop", "-1.9 [-2.6, -1.2]", "**worse**"],
        ["Dice", "+0.2 [-0.3, +0.7]", "undecided"],
        ["zoom", "+0.0", "undecided"],
    ]
    assert "Largest loss, random crop: -1.9 mIoU points [-2.6, -1.2]. Phase colder" in made
    assert "seeds 17, 18; test, n = 20 images" in made and "(../reports/lanes-ablation/ablation.md)" in made


def test_targets_are_shown_with_their_verdict(lanes, finished):
    shutil.copytree(finished("detection") / "metrics/plates", "metrics/plates")
    shutil.copytree(finished("detection") / "reports/plates", "reports/plates")
    table = committed.results(committed.kept(), Path("."), cost=False)
    cells = {row[0].text: [cell.text for cell in row] for row in table.rows}
    assert cells["lanes"][5] == "not met, met"
    assert cells["plates (demo)"][5] == "not comparable (demo data)"
    assert cells["plates (demo)"][4] == "mAP@0.5 at least 0.85, test"
    assert set(cells) == {"lanes", "offroad", "plates (demo)"} and PLATES["phase"] in cells["plates (demo)"][1]


def test_a_report_older_than_its_metrics_is_refused(lanes):
    path = Path("metrics/lanes/baseline.json")
    path.write_text(path.read_text().replace("0.7", "0.8", 1))
    with pytest.raises(
        UserError, match=r"reports/lanes: .* made from another metrics/lanes/baseline.json; run `dvc repro`"
    ):
        generate()


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense"])
@pytest.mark.parametrize("file", ["reports/lanes/provenance.json", "reports/lanes/derived.json",
                                  "reports/lanes/parameters.json", "metrics/lanes/baseline.json"])  # fmt: skip
def test_a_damaged_file_is_one_message_with_the_remedy(lanes, file, text):
    Path(file).write_text(text)
    with pytest.raises(UserError, match=rf"{file}: .*`dvc repro"):
        write_documents([])


def test_a_damaged_ablation_is_one_message_with_the_remedy(lanes):
    path = Path("reports/lanes-ablation/ablation.json")
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(UserError, match=rf"{path}: damaged: .*`retrace ablate`"):
        committed.ablation("lanes", Path("docs"))


def test_wrong_markers_are_named(lanes):
    found = committed.kept()
    with pytest.raises(
        UserError, match=r"README.md, before line 2: retrace:phases nope: no such block; allowed: results"
    ):
        fill(Path("README.md"), "<!-- retrace:phases nope begin -->\n<!-- retrace:phases nope end -->\n", found)
    with pytest.raises(UserError, match=r"README.md: <!-- retrace:results begin --> has no line"):
        fill(Path("README.md"), "<!-- retrace:results begin -->\n", found)


def test_generated_tables_of_this_project_are_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = run(ROOT, "git", "ls-files", "reports/*/provenance.json")
    if listed.returncode:
        pytest.skip("not a Git repository: nothing tells which results are committed")
    studies = [Path(line).parent.name for line in listed.stdout.splitlines()]
    stale = [
        path.as_posix()
        for path, text in generate(studies).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run `retrace compare --write`: {', '.join(stale)}"
