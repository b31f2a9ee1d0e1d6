"""`retrace compare`: what it pairs and what it refuses to pair, also at commits and of experiments."""

import csv
import functools
import io
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from retrace.cli.compare import compare as command
from retrace.errors import UserError
from retrace.evaluation.scores import segmentation
from retrace.files import read_json
from retrace.report.comparison import cache, render, rows
from retrace.report.comparison.selection import select
from retrace.seeds import derive as seed_of
from retrace.statistics.bootstrap import Units, resample_weights
from tests.support.fixtures_compare import copied, lock, make
from tests.support.fixtures_metrics import LANES
from tests.support.projects import copy_of, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """`finished(task)`: the study of a task, made once for all tests; they work on copies."""
    return functools.cache(lambda task: make(tmp_path_factory.mktemp(task), task))


@pytest.fixture
def lanes(finished, tmp_path, monkeypatch):
    return copied(finished("segmentation"), tmp_path, monkeypatch)


@pytest.fixture
def plates(finished, tmp_path, monkeypatch):
    return copied(finished("detection"), tmp_path, monkeypatch)


def only(*names, **options):
    """The rows of a comparison of one study."""
    (group,) = rows.compare(select(names), **options).groups
    return group.rows


def why(row):
    assert row.difference.found is None
    return row.difference.why, row.difference.remedy


def paired_by_hand(study, phase, other, split, params):
    """Difference in mIoU and its interval, straight from the confusion matrices."""
    mine, theirs = (np.load(f"metrics/{study}/{name}/confusion_{split}.npy").astype(float) for name in (phase, other))

    def score(matrices, weights):
        found, whole = segmentation.scores(np.tensordot(weights, matrices, 1))["IoU"], matrices.sum((0, 2)) > 0
        return found[..., whole].mean(-1)  # NaN without one of the classes

    draws = []
    units = Units.each(len(mine))
    for weights in resample_weights(
        units, params["evaluate"]["bootstrap"], seed_of(params["seed"], "bootstrap", split)
    ):
        draws.append(score(mine, weights) - score(theirs, weights))
    ones, count = np.ones(len(mine)), len(mine)
    outside = 100 * stats.norm.sf((count / (count - 1)) ** 0.5 * stats.t.isf(0.025, count - 1))
    expanded = [outside, 100 - outside]
    return score(mine, ones) - score(theirs, ones), *np.nanpercentile(np.concatenate(draws), expanded)


def test_difference_is_that_of_the_report_and_of_a_plain_calculation(lanes):
    (first, second, third) = only("lanes")
    assert first.difference is None
    assert [row.run.phase for row in (first, second, third)] == list(LANES["phases"])
    found = second.difference.found
    assert asdict(found) == read_json(Path("reports/lanes/derived.json"))["comparisons"]["mae_ohem"]["test"]["mIoU"]
    value, low, high = paired_by_hand("lanes", "mae_ohem", "baseline", "test", LANES)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-12)
    assert found.verdict == "better" and low > 0


def test_detection_is_paired_too(plates):
    _, second = only("plates")
    told = read_json(Path("reports/plates/derived.json"))["comparisons"]["resnet50"]["test"]["AP50"]
    assert asdict(second.difference.found) == told


def test_metric_and_split_can_be_chosen(lanes):
    (group,) = rows.compare(select(["lanes"]), metric="focus_mIoU", split="val").groups
    told = read_json(Path("reports/lanes/derived.json"))["comparisons"]["mae_ohem"]["val"]["focus_mIoU"]
    assert asdict(group.rows[1].difference.found) == told
    assert asdict(group.rows[1].score) == read_json(Path("metrics/lanes/mae_ohem.json"))["splits"]["val"]["focus_mIoU"]
    with pytest.raises(UserError, match=r"'AP50': not a metric of lanes; allowed: mIoU"):
        rows.compare(select(["lanes"]), metric="AP50")
    with pytest.raises(UserError, match=r"'train': not a scored split of lanes; allowed: test, val"):
        rows.compare(select(["lanes"]), split="train")


def rescored(root, change, phase="mae_ohem"):
    """Change the results of a phase as another evaluation would have, and lock them."""
    folder = root / "metrics" / "lanes" / phase
    confusion, names = np.load(folder / "confusion_test.npy"), (folder / "images_test.txt").read_text().split()
    confusion, names = change(confusion, names)
    np.save(folder / "confusion_test.npy", confusion)
    (folder / "images_test.txt").write_text("".join(f"{name}\n" for name in names))
    document = read_json(folder.with_suffix(".json"))
    document["splits"]["test"]["images"] = len(names)
    document["splits"]["test"]["mIoU"]["value"] = float(segmentation.scores(confusion.sum(0))["mIoU"])
    folder.with_suffix(".json").write_text(json.dumps(document))
    lock(root, LANES)


def test_other_images_are_not_paired(lanes):
    rescored(lanes, lambda confusion, names: (confusion[1:], names[1:]))
    short, story = why(only("baseline", "mae_ohem")[1])
    assert short == "other images"
    assert "19 of the 19 images of lanes:mae_ohem are in lanes:baseline" in story


def test_the_same_images_in_another_order_are_not_paired_row_by_row(lanes):
    rescored(lanes, lambda confusion, names: (confusion[::-1], names[::-1]))
    assert why(only("baseline", "mae_ohem")[1])[0] == "other images"


def test_a_commit_is_read_from_the_cache(lanes):
    shutil.rmtree("metrics")
    shutil.rmtree("data")
    _, second = only("HEAD:baseline", "HEAD:mae_ohem")
    assert second.run.place.commit == run(lanes, "git", "rev-parse", "HEAD").stdout.strip()
    assert second.difference.found.verdict == "better"


def test_a_study_that_dvc_lock_has_left_is_read_by_its_provenance(lanes):
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    shutil.rmtree("metrics/lanes/baseline")
    assert only("baseline", "mae_ohem")[1].difference.found.verdict == "better"


def test_missing_results_per_image_name_the_command_that_gets_them(lanes):
    shutil.rmtree(".dvc/cache")
    Path("metrics/lanes/baseline/images_test.txt").unlink()
    Path("reports/lanes/derived.json").unlink()
    short, story = why(only("baseline", "mae_ohem")[1])
    assert short == "results per image missing"
    assert "`dvc repro evaluate@baseline`" in story and "dvc pull" not in story  # there is nothing to pull from
    Path(".dvc/config").write_text("['remote \"store\"']\n    url = /tmp/store\n")
    _, story = why(only("baseline", "mae_ohem")[1])
    assert "`dvc pull metrics/lanes/baseline`" in story and "`dvc repro evaluate@baseline`" in story
    _, story = why(only("HEAD:baseline", "mae_ohem")[1])
    assert "`git checkout HEAD`, then" in story


def test_what_both_runs_lack_is_named_and_no_difference_is_explained(lanes):
    shutil.rmtree(".dvc/cache")
    for phase in ("baseline", "mae_ohem"):
        Path(f"metrics/lanes/{phase}/images_test.txt").unlink()
    Path("reports/lanes/derived.json").unlink()
    comparison = rows.compare(select(["baseline", "mae_ohem"]))
    for phase in ("baseline", "mae_ohem"):
        assert f"`dvc repro evaluate@{phase}`" in " ".join(comparison.notes)
    assert "paired" not in render.caption(comparison.groups[0])
    shutil.copytree("metrics/lanes/colder", "metrics/lanes/baseline", dirs_exist_ok=True)
    comparison = rows.compare(select(["baseline", "mae_ohem"]))
    assert "dvc pull metrics/lanes/baseline" not in " ".join(comparison.notes)


def test_a_phase_that_does_not_exist_is_not_advised_to_be_run(lanes):
    with pytest.raises(UserError, match=r"metrics/lanes/nothing.json: no such file; .*baseline, colder, mae_ohem$"):
        select(["lanes:nothing"])
    Path("metrics/lanes/colder.json").unlink()
    with pytest.raises(UserError, match=r"run `dvc repro evaluate@colder`$"):
        select(["lanes:colder"])


def test_results_per_image_of_another_run_are_not_used(lanes):
    folder = Path("metrics/lanes/mae_ohem")
    np.save(folder / "confusion_test.npy", np.load("metrics/lanes/baseline/confusion_test.npy"))
    short, story = why(only("baseline", "mae_ohem")[1])
    assert short == "results per image of another run"
    assert "in its metrics file" in story


def test_an_unrecorded_evaluation_is_not_paired(lanes):
    path = Path("metrics/lanes/mae_ohem.json")
    path.write_text(path.read_text() + "\n")
    assert why(only("baseline", "mae_ohem")[1])[0] == "truth unknown"


def test_other_truth_is_not_paired_and_other_training_data_do_not_matter(lanes):
    manifest = Path("data/lanes/raw/manifest.jsonl")
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if '"train_000"' not in line))
    lock(lanes, LANES)
    assert only("HEAD:baseline", "mae_ohem")[1].difference.found.verdict == "better"

    rows_ = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows_:
        row["mask_sha256"] = "5" * 64 if row["id"] == "test_000" else None
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    lock(lanes, LANES)
    short, story = why(only("HEAD:baseline", "mae_ohem")[1])
    assert short == "other truth"
    assert "1 of 20 images" in story and "test_000" in story


def test_means_over_other_focus_classes_are_not_compared(lanes):
    params = Path("reports/lanes/parameters.json")
    settings = read_json(params)
    settings["report"]["focus_classes"] = settings["classes"][:1]
    params.write_text(json.dumps(settings))
    (first, second) = only("HEAD:baseline", "mae_ohem", metric="focus_mIoU")
    assert why(second)[0] == "other focus classes" and settings["classes"][0] in why(second)[1]
    (first, second) = only("HEAD:baseline", "mae_ohem")
    assert first.focus is not None and second.focus is None  # one column, one meaning
    assert second.difference.found.verdict == "better"


def test_parameters_are_those_of_the_run_not_what_params_yaml_was_edited_to_since(lanes):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("seed: 17", "seed: 18", 1))
    assert Path("params.yaml").read_text() != text
    assert select(["baseline"])[0].seed == 17


@pytest.mark.parametrize("file", ["dvc.lock", "reports/lanes/provenance.json"])
@pytest.mark.parametrize("text", ["[1]", '{"stages": [1]}', '{"stages": {"evaluate@baseline": 1}}'])
def test_a_damaged_record_is_one_message(lanes, file, text):
    Path(file).write_text(text)
    with pytest.raises(UserError, match=f"{file} of workspace: "):
        only("baseline", "mae_ohem")


def test_unknown_truth_is_not_paired(lanes):
    manifest = Path("data/lanes/raw/manifest.jsonl")
    manifest.write_text(manifest.read_text().replace('"split":', '"split" :', 1))
    lock(lanes, LANES)
    cache.blob(cache.locked(select(["HEAD:baseline"])[0])[str(manifest)]).unlink()
    short, story = why(only("HEAD:baseline", "mae_ohem")[1])
    assert short == "truth unknown" and "data/lanes/raw" in story


def test_studies_are_never_compared_with_each_other(lanes, finished):
    other = finished("detection")
    for name in ("metrics/plates", "reports/plates", "data/plates"):
        shutil.copytree(other / name, name)
    comparison = rows.compare(select([]))
    assert [group.study for group in comparison.groups] == ["lanes", "plates"]
    assert all(group.rows[0].difference is None for group in comparison.groups)
    assert "nothing is compared from one to another" in " ".join(comparison.notes)
    assert [run.name for run in select(["plates:resnet50", "lanes:baseline"])] == ["plates:resnet50", "lanes:baseline"]


def test_names_that_mean_nothing_are_refused_with_what_there_is(lanes):
    with pytest.raises(UserError, match=r"study offroad has no results; run: retrace use offroad --demo && dvc repro"):
        select(["offroad"])
    with pytest.raises(UserError, match=r"'nope'.*phases: baseline, colder, mae_ohem"):
        select(["nope"])
    with pytest.raises(UserError, match=r"'HEAD:nope'.*measured there: lanes:baseline"):
        select(["HEAD:nope"])
    with pytest.raises(UserError, match="commit:study:phase"):
        select(["a:b:c:d"])
    with pytest.raises(UserError, match=r"metrics/lanes/late.json: no such file; measured phases of lanes: baseline"):
        select(["lanes:late"])
    with pytest.raises(UserError, match=r"x.pdf: no such format; allowed endings: .md, .html, .csv"):
        command([], [Path("x.pdf")], None, None)


def test_a_phase_alone_is_that_of_the_active_study(lanes):
    shutil.copytree("metrics/lanes", "metrics/offroad")
    assert select(["baseline"])[0].study == "lanes"
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("study: lanes", "study: slopes", 1))
    with pytest.raises(UserError, match=r"several studies have a phase .* one of lanes:baseline, offroad:baseline"):
        select(["baseline"])


def test_workspace_and_commit_are_told_apart(lanes):
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("phase: mae_ohem", "phase: colder", 1))
    first, second = select(["HEAD", "workspace"])
    assert (first.phase, second.phase) == ("mae_ohem", "colder")
    note = " ".join(rows.compare([first, second]).notes)
    assert "lanes:colder differs from HEAD:mae_ohem in init pretrain → mae_ohem, loss.name ohem → cross_entropy" in note


def test_parameters_of_another_version_do_not_hinder_a_comparison(lanes):
    params = Path("reports/lanes/parameters.json")
    params.write_text(json.dumps(read_json(params) | {"unheard_of": 1}))
    comparison = rows.compare(select(["HEAD:baseline", "mae_ohem"]))
    assert comparison.groups[0].rows[1].difference.found.verdict == "better"
    assert "written by another version" in comparison.notes[0]


def test_files_say_what_the_comparison_says(lanes, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    files = [Path(f"out.{ending}") for ending in ("md", "html", "csv")]
    command(["lanes"], files, None, None)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    document = read_json(Path("metrics/lanes/mae_ohem.json"))["splits"]["test"]
    low, high = f"{document['mIoU']['low']:.3f}", f"{document['mIoU']['high']:.3f}"
    assert f"[{low}, {high}]" in printed and "better" in printed
    markdown, page = files[0].read_text(), files[1].read_text()
    cell = f"{document['mIoU']['value']:.3f} [{low}, {high}]"
    assert f"| mae_ohem | {cell}" in markdown and f">{cell}</td>" in page
    assert "**better (these weights)**" in markdown and 'class="good"' in page
    line = list(csv.DictReader(io.StringIO(files[2].read_text())))[1]
    assert float(line["value"]) == document["mIoU"]["value"] and line["images"] == "20"
    assert line["verdict"] == "better (these weights)" and line["compared_with"] == "lanes:baseline"
    assert line["focus_classes"] == "White Solid + White Dashed"


def test_narrow_and_wide_terminals_show_every_column(lanes, capsys, monkeypatch):
    for width in ("80", "140"):
        monkeypatch.setenv("COLUMNS", width)
        render.to_terminal(rows.compare(select(["lanes"])))
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= int(width)
        assert all(name in printed for name in ("mIoU", "Focus", "Images", "Params", "Difference", "reference"))
    assert "Verdict" in printed


@pytest.mark.slow
def test_experiments_and_commits_of_a_real_project(finished_study, tmp_path, monkeypatch):
    project = copy_of(finished_study("lanes"), tmp_path / "project")
    change = ("-S", "phases.mae_ohem.loss.ohem_threshold=0.5")
    run(project, "dvc", "exp", "run", "-n", "harder", *change, check=True)
    run(project, "git", "checkout", "-q", ".", check=True)
    more = ("-S", "data.synthetic.seed=8", "-S", "phases.baseline.epochs=1")
    run(project, "dvc", "exp", "run", "-n", "redrawn", *more, check=True)
    run(project, "git", "checkout", "-q", ".", check=True)
    run(project, "dvc", "checkout", check=True)
    monkeypatch.chdir(project)

    (group,) = rows.compare(select(["main", "harder", "redrawn", "HEAD:baseline", "workspace"])).groups
    main, harder, redrawn, baseline, workspace = group.rows
    assert main.run.phase == harder.run.phase == "mae_ohem"
    assert harder.difference.found.low is not None
    assert harder.difference.found.value == pytest.approx(harder.score.value - main.score.value)
    told = read_json(Path("reports/lanes/derived.json"))["comparisons"]["mae_ohem"]["test"]["mIoU"]
    assert baseline.difference.found.value == pytest.approx(-told["value"])
    assert workspace.difference.found.value == 0
    assert why(redrawn)[0] == "other truth"
    notes = " ".join(rows.compare(select(["main", "harder"])).notes)
    assert "harder:mae_ohem differs from main:mae_ohem in loss.ohem_threshold 0.7 → 0.5" in notes
    shown = run(project, "retrace", "compare", "main", "harder", "redrawn")
    assert shown.returncode == 0 and "images of redrawn:mae_ohem have other pixels" in " ".join(shown.stdout.split())


def test_a_fresh_clone_shows_the_committed_difference(lanes):
    whole = only("baseline", "mae_ohem")[1].difference.found
    shutil.rmtree(".dvc/cache")
    for phase in ("baseline", "mae_ohem"):
        shutil.rmtree(f"metrics/lanes/{phase}")
    clone = only("baseline", "mae_ohem")[1].difference.found
    assert (clone.value, clone.low, clone.high, clone.verdict) == (whole.value, whole.low, whole.high, whole.verdict)
    assert only("HEAD:baseline", "HEAD:mae_ohem")[1].difference.found == clone
    assert only("mae_ohem", "baseline")[1].difference.found is None  # the report has the other direction


def test_the_committed_difference_counts_only_for_the_metrics_files_that_it_was_made_from(lanes):
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("metrics/lanes/baseline")
    path = Path("metrics/lanes/baseline.json")
    path.write_text(path.read_text() + " ")
    assert only("baseline", "mae_ohem")[1].difference.found is None


def test_latex_has_every_row_and_escapes_what_latex_reads(lanes, tmp_path):
    comparison = rows.compare(select(["baseline", "mae_ohem"]))
    render.write(comparison, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    (body,) = re.findall(r"\\midrule\n(.*)\n\\bottomrule", text, re.S)
    cells = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
    assert [row[0] for row in cells] == ["baseline", r"mae\_ohem"]
    columns = re.search(r"\\toprule\n(.*) \\\\", text)[1].split(" & ")
    assert {len(row) for row in cells} == {len(columns)} == {len(re.search(r"tabular}{(\w+)}", text)[1])}
    printed = re.sub(r"^%.*$", "", text, flags=re.M).replace(" & ", "")
    assert not re.search(r"(?<!\\)[%_&#]", printed)
