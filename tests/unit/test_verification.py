"""What `retrace verify` is made of: the pages' numbers, rows of the table, expected values over seeds."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from retrace.cli.verify import verdict
from retrace.config.load import load, parse
from retrace.config.schema import Expected
from retrace.errors import UserError
from retrace.files import write_text
from retrace.provenance.md5 import Cache, digest, listing
from retrace.provenance.verify import pages
from retrace.provenance.verify.again import code_of
from retrace.provenance.verify.clone import bring_inputs
from retrace.provenance.verify.expected import Processor, demands_bits, incomparable, judge, power
from retrace.provenance.verify.outs import Row, compare_metrics, compare_outs
from retrace.provenance.verify.records import Record, from_lock, from_provenance, stage_names
from retrace.report.bundle import GUIDE
from retrace.report.document import code_sum, read
from retrace.report.render import render
from stages import report as stage
from tests.support.fixtures_documents import provenance
from tests.support.fixtures_metrics import build
from tests.support.projects import ROOT, commit, run, tiny_params
from tests.support.verified import STATED, edit, flip, smallest

# pages: every printed number


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A project folder of either task with its report."""
    made = {}
    for task in ("segmentation", "detection"):
        folder = made[task] = tmp_path_factory.mktemp(task)
        build(folder, task)
        with contextlib.chdir(folder):
            stage.report(load())
    return made


@pytest.fixture(params=["segmentation", "detection"])
def project(request, reports, tmp_path):
    """(folder, study) of a copy to tamper with."""
    root = tmp_path / "project"
    shutil.copytree(reports[request.param], root)
    return root, next((root / "reports").iterdir()).name


def checked(root, study):
    return pages.check(root, study, root)


def wrong(root, study):
    return checked(root, study).wrong


def test_an_untouched_report_is_right(project):
    root, study = project
    found = checked(root, study)
    assert found.wrong == [] and found.unchecked == {}
    assert found.numbers == len(json.loads((root / "reports" / study / "report.json").read_text())["numbers"]) > 100


COMMITTED = sorted(path.parent.name for path in (ROOT / "reports").glob("*/report.json"))


@pytest.mark.parametrize("name", COMMITTED)
def test_the_numbers_of_the_committed_reports_are_right(name):
    # a process of its own, as `retrace verify` is: the ids in matplotlib's SVG files count what was drawn before
    code = (
        "from pathlib import Path; from retrace.provenance.verify import pages; root = Path.cwd(); "
        f"found = pages.check(root, {name!r}, root, results=False, documents=('report.json',)); "
        "print(found.numbers, *(line for line in found.wrong if 'report.json' in line), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    numbers, *wrong_lines = done.stdout.splitlines()
    assert wrong_lines == [] and int(numbers) > 100, done.stderr


@pytest.mark.parametrize("page", ["report.md", "report.html", "REPRODUCTION_GUIDE.md"])
def test_every_number_edited_on_a_page_is_found(project, page):
    root, study = project
    path = root / "reports" / study / page
    text = path.read_text()
    places = list(re.finditer(r"(?<=[>| ])\d\.\d{3}\b", text))
    assert len(places) > 10
    for place in places[:: len(places) // 3]:
        other = "9.999" if place[0] != "9.999" else "9.998"
        path.write_text(text[: place.start()] + other + text[place.end() :])
        line = text[: place.start()].count("\n") + 1
        (found,) = wrong(root, study)
        assert f"{page}: not what report.json gives: line {line}: " in found and other in found and place[0] in found


def test_a_word_edited_on_a_page_is_found(project):
    root, study = project
    edit(root / "reports" / study / "report.md", "Summary", "Success")
    (found,) = wrong(root, study)
    assert "report.md" in found and "Success" in found and "Summary" in found


def test_an_edited_cell_of_a_table_is_found(project):
    root, study = project
    path = sorted((root / "reports" / study / "tables").glob("phases_*.csv"))[0]
    number = re.search(r"\d\.\d{3}", path.read_text())[0]
    edit(path, number, "9.999")
    assert any(f"tables/{path.name}" in row and "9.999" in row for row in wrong(root, study))


@pytest.mark.parametrize("change", ["added", "removed", "drawing", "picture"])
def test_files_added_removed_and_replaced_are_found(project, change):
    root, study = project
    folder = root / "reports" / study
    drawing, picture = folder / "figures/training_curves.svg", next((folder / "figures").rglob("*.jpg"))
    if change == "added":
        named = folder / "figures/better.svg"
        shutil.copy(drawing, named)
    elif change == "removed":
        named = drawing
        drawing.unlink()
    else:
        named = {"drawing": drawing, "picture": picture}[change]
        flip(named)
    (found,) = wrong(root, study)
    assert named.relative_to(root).as_posix() in found or named.relative_to(folder).as_posix() in found


def write_anew(root, study, change):
    """Edit report.json, and lay out everything else anew, as one who edits with care would."""
    folder = root / "reports" / study
    content = json.loads((folder / "report.json").read_text())
    change(content)
    (folder / "report.json").write_text(json.dumps(content))
    render(read(folder).report, folder, folder)


def test_words_edited_in_report_json_are_found_by_computing_it_again(project):
    root, study = project

    def change(content):
        content["pages"][0]["sections"][0]["blocks"][0]["parts"][0] = "A great success."

    write_anew(root, study, change)
    (found,) = wrong(root, study)
    assert found.startswith(f"reports/{study}/report.json: pages.0.sections.0.blocks.0.parts.0: 'A great success.'")


def test_a_number_edited_in_report_json_is_found_with_its_file(project):
    root, study = project
    place, was = 0, ""

    def change(content):
        nonlocal place, was
        rows = content["numbers"]
        place = next(
            i for i, row in enumerate(rows) if row["file"].startswith("metrics/") and row["key"].endswith("value")
        )
        was = f"{rows[place]['file']}: {rows[place]['key']}"
        rows[place]["value"] = 0.9999

    write_anew(root, study, change)
    assert any(was in row and "0.9999" in row for row in wrong(root, study))


def test_a_number_that_names_no_source_is_found_by_computing_it_again(project):
    root, study = project

    def change(content):
        cells = [cell for page in content["pages"] for part in page["sections"] for block in part["blocks"]
                 if block["kind"] == "table" for row in block["rows"] for cell in row]  # fmt: skip
        next(cell for cell in cells if isinstance(cell["parts"][0], int))["parts"] = ["0.999"]

    write_anew(root, study, change)
    (found,) = wrong(root, study)
    assert "report.json" in found and "0.999" in found


def test_a_title_edited_in_parameters_and_report_is_found(project):
    root, study = project
    parameters = json.loads((root / "reports" / study / "parameters.json").read_text())
    parameters["report"]["title"] = "Better"
    (root / "reports" / study / "parameters.json").write_text(json.dumps(parameters))
    write_anew(root, study, lambda content: content["pages"][0].update(title="Better"))
    assert any("parameters.json: report.title: 'Better'" in row for row in wrong(root, study))


def test_numbers_that_no_longer_agree_with_their_file_are_found(project):
    root, study = project
    rows = json.loads((root / "reports" / study / "report.json").read_text())["numbers"]
    path = root / next(row["file"] for row in rows if row["key"] == "splits.test.images")
    document = json.loads(path.read_text())
    document["splits"]["test"]["images"] += 1
    path.write_text(json.dumps(document))
    assert any("report.json" in row and "splits.test.images" in row for row in wrong(root, study))


def test_numbers_from_files_that_are_not_here_are_counted(project):
    root, study = project
    (root / f"data/{study}/raw/dataset.json").unlink()
    found = pages.check(root, study, root, results=False)
    assert found.wrong == [] and found.unchecked[f"data/{study}/raw/dataset.json"] > 0
    assert any("not computed again" in note for note in found.notes)


def test_a_bundle_whose_recorded_md5_the_results_do_not_give_is_found(project):
    root, study = project
    md5 = digest(listing(root / "bundles" / study))
    assert pages.check(root, study, root, bundle=md5).wrong == []
    (found,) = pages.check(root, study, root, bundle="a" * 32 + ".dir").wrong
    assert f"bundles/{study}" in found and md5 in found


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", '{"numbers": [{"value": "a", "file": "a", "key": "a", '
                                  '"format": "count"}]}'])  # fmt: skip
def test_a_damaged_report_json_is_one_message(project, text):
    root, study = project
    (root / "reports" / study / "report.json").write_text(text)
    with pytest.raises(UserError, match=r"report.json: .*`dvc repro( report)?`"):
        checked(root, study)


def test_a_cell_that_names_no_number_is_one_message(project):
    root, study = project
    path = root / "reports" / study / "report.json"
    content = json.loads(path.read_text())
    content["numbers"] = content["numbers"][:3]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"report.json: damaged: .*position of a number"):
        checked(root, study)


def test_a_damaged_source_is_a_wrong_number(project):
    root, study = project
    rows = json.loads((root / "reports" / study / "report.json").read_text())["numbers"]
    file = next(row["file"] for row in rows if row["key"] == "splits.test.images")
    (root / file).write_text("nonsense")
    assert any(f"{file}: splits.test.images" in row and "the file says nothing" in row for row in wrong(root, study))


def test_a_missing_page_and_a_missing_document_are_named_with_the_command_that_writes_them(project):
    root, study = project
    for name in ("report.html", "derived.json"):
        (root / "reports" / study / name).unlink()
        lines = wrong(root, study)
        assert any(f"reports/{study}/{name}: no such file; run `dvc repro report`" in line for line in lines)
    (root / "reports" / study / "report.json").unlink()
    with pytest.raises(UserError, match=rf"^reports/{study}/report.json: no such file; run `retrace ablate`"):
        pages.check(root, study, root, again="`retrace ablate`")


# the code that wrote a report


@pytest.fixture
def coded(tmp_path):
    """A repository with report code that wrote a report, and newer code in a second commit."""
    root = tmp_path / "clone"
    for name in ("retrace", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(root / "retrace/report/tables.py", "a") as stream:
        stream.write("# older code\n")
    write_text(root / "reports/lanes/report.json", "{}")
    run(root, "git", "init", "-q", "-b", "main", check=True)
    commit(root, "a report")
    wrote = code_sum(root)
    edit(root / "retrace/report/tables.py", "# older code", "# newer code")
    commit(root, "newer code")
    return root, wrote


def test_the_code_that_wrote_a_report_is_found_in_the_history(coded):
    root, wrote = coded
    assert code_of(root, "reports/lanes", code_sum(ROOT)) == ROOT
    assert code_of(root, "reports/lanes", code_sum(root)) == root
    assert code_sum(code_of(root, "reports/lanes", wrote)) == wrote
    assert code_of(root, "reports/lanes", "0" * 64) is None


def test_pages_of_earlier_code_are_laid_out_with_that_code(coded, project):
    root, study = project
    clone, _ = coded
    shutil.copytree(root / "reports" / study, clone / "reports/lanes", dirs_exist_ok=True)
    edit(clone / "retrace/report/templates/report.md.j2", "shows the source", "tells the source")
    path = root / "reports" / study / "report.json"
    edit(path, code_sum(ROOT), code_sum(clone))
    edit(root / "reports" / study / "report.md", "shows the source", "tells the source")
    assert pages.check(root, study, clone, results=False).wrong == []
    edit(path, code_sum(clone), "0" * 64)
    (found,) = pages.check(root, study, clone, results=False).wrong
    assert "written by report code" in found


# the record


@pytest.mark.parametrize(
    "text",
    ["[1]", "stages: [1]", "stages: {collect: 3}", "stages: {collect: {outs: [{path: data/lanes/raw}]}}", "a: [",
     "stages: {collect: {outs: {a: b}}}"],
)  # fmt: skip
def test_a_damaged_lock_is_one_message(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"^dvc\.lock.*: .*`dvc repro`"):
        from_lock(tmp_path, parse(smallest()))


def test_what_another_study_left_in_the_lock_is_no_record_of_this_one(tmp_path):
    def entry(*paths):
        return {"outs": [{"path": path, "md5": "a" * 32} for path in paths]}

    params = parse(smallest())
    left = {"evaluate@baseline": entry("metrics/lanes/baseline"), "finetune@baseline": entry("models/lanes/baseline")}
    for collected, found in (("data/offroad/raw", False), ("data/lanes/raw", True)):
        lock = {"schema": "2.0", "stages": left | {"collect": entry(collected)}}
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
        assert (from_lock(tmp_path, params) is not None) == found


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", '{"stages": {"collect": {"outs": 3}}}'])
def test_a_damaged_provenance_is_one_message(tmp_path, text):
    path = tmp_path / "reports/lanes/provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=r"reports/lanes/provenance.json: .*`dvc repro( report)?`"):
        from_provenance(tmp_path, parse(smallest()))


# expected values


def wanted(value: float, tolerance: float, seeds: list[int]) -> Expected:
    return Expected(metric="mIoU", split="test", value=value, tolerance=tolerance, seeds=tuple(seeds))


def test_the_test_is_scipys_one_sided_t_test():
    random = np.random.default_rng(1)
    for _ in range(50):
        scores = random.normal(0.7, 0.02, size=random.integers(2, 8)).tolist()
        found = judge(wanted(0.72, 0.03, [1]), scores)
        p = stats.ttest_1samp(scores, 0.69, alternative="greater").pvalue
        assert found.p == pytest.approx(p) and found.passed == (p < 0.05)


def test_a_run_that_is_worse_by_the_tolerance_passes_in_one_of_twenty():
    draws = np.random.default_rng(2).normal(0.5, 0.03, size=(4000, 4))  # true mean exactly at value - tolerance
    passed = np.mean([judge(wanted(0.6, 0.1, [1]), row.tolist()).passed for row in draws])
    assert 0.035 < passed < 0.065


@pytest.mark.parametrize("seeds, distance", [(2, 3.0), (3, 2.0), (5, 1.0)])
def test_the_stated_power_is_that_of_simulated_reruns(seeds, distance):
    draws = np.random.default_rng(3).normal(0.5 + 0.03 * distance, 0.03, size=(4000, seeds))
    passed = np.mean([judge(wanted(0.6, 0.1, [1]), row.tolist()).passed for row in draws])
    assert passed == pytest.approx(power(seeds, distance), abs=0.03)


def test_one_seed_is_compared_and_says_that_it_is_no_test():
    assert judge(wanted(0.7, 0.1, [1]), [0.6001]).passed and not judge(wanted(0.7, 0.1, [1]), [0.5999]).passed
    assert "no test" in judge(wanted(0.7, 0.1, [1]), [0.65]).describe(wanted(0.7, 0.1, [1]))


def test_equal_scores_need_no_spread():
    assert judge(wanted(0.7, 0.1, [1]), [0.65, 0.65]).passed
    assert not judge(wanted(0.7, 0.1, [1]), [0.55, 0.55]).passed


NATIVE = {"devices": ["cpu"], "cpu": "A", "architecture": "x86_64", "numerics": "native"}
PORTABLE = {**NATIVE, "numerics": "portable"}


@pytest.mark.parametrize(
    "origin, here, bits",
    [
        (NATIVE, Processor("x86_64", "A", "cpu"), True),
        ({"devices": ["cpu"]}, Processor("x86_64", "A", "cpu"), True),
        (NATIVE, Processor("x86_64", "B", "cpu"), False),
        (PORTABLE, Processor("x86_64", "B", "cpu"), True),
        (PORTABLE, Processor("aarch64", "B", "cpu"), False),
        ({**PORTABLE, "architecture": "aarch64"}, Processor("aarch64", "B", "cpu"), False),
        ({**PORTABLE, "devices": ["cuda"]}, Processor("x86_64", "A", "cpu"), False),
        (PORTABLE, Processor("x86_64", "A", "cuda"), False),
    ],
)
def test_bytes_are_demanded_where_the_recorded_bits_must_come_out(origin, here, bits):
    assert demands_bits(parse(smallest([STATED])), provenance(**origin), here)[0] is bits
    assert demands_bits(parse(smallest()), provenance(**origin), here)[0]  # nothing else was stated


T4, L4 = (Processor("x86_64", "A", "cuda", card) for card in ("Tesla T4 (7.5)", "NVIDIA L4 (8.9)"))


def made_on_a_t4():
    card = {"name": "Tesla T4", "capability": "7.5", "driver": "580", "cuda": "13.0", "cudnn": "91300", "tf32": "none"}
    hardware = {"names": ["Tesla T4"], "cuda": ["13.0"], "available": ["cpu", "cuda"], "cards": [card]}
    return provenance(devices=["cuda"], hardware=hardware)


def test_a_gpus_bytes_are_demanded_on_the_same_card_and_tolerances_on_another():
    stated, bare, cpu = parse(smallest([STATED])), parse(smallest()), Processor("x86_64", "A", "cpu")
    assert demands_bits(stated, made_on_a_t4(), T4)[0]
    other, why = demands_bits(stated, made_on_a_t4(), L4)
    assert not other and "Tesla T4 (7.5)" in why and "NVIDIA L4 (8.9)" in why
    assert incomparable(stated, made_on_a_t4(), L4) is None
    assert incomparable(bare, made_on_a_t4(), T4) is None
    for here in (L4, cpu):
        said = incomparable(bare, made_on_a_t4(), here)
        assert said is not None and "not comparable on another card" in said and "Tesla T4 (7.5)" in said
    assert incomparable(bare, provenance(devices=["cpu"]), cpu) is None
    assert incomparable(bare, provenance(devices=["cpu"]), L4) is not None
    assert incomparable(bare, None, L4) is None


# rows of the table


@pytest.fixture
def twins(reports, tmp_path, monkeypatch):
    """`twins()`: (rerun, committed, params, record, cache) of a segmentation study that states a tolerance of 0.02."""
    for name in ("rerun", "committed"):
        shutil.copytree(reports["segmentation"], tmp_path / name)
    monkeypatch.chdir(tmp_path / "committed")
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["expected"] = [{"metric": "mIoU", "split": "test", "value": 0.3, "tolerance": 0.02}]
    outs = {
        "collect": {"data/lanes/raw": digest(listing(Path("data/lanes/raw")))},
        "finetune@mae_ohem": {"models/lanes/mae_ohem": digest(listing(Path("models/lanes/mae_ohem")))},
    }
    return tmp_path / "rerun", tmp_path / "committed", parse(values), Record("dvc.lock", outs), Cache(tmp_path / "none")


def results_of(rows, out):
    return {row.result for row in rows if row.out == out}


@pytest.mark.parametrize("change, result", [(0.0, "same"), (0.019, "within tolerance"), (-0.021, "DIFFERENT")])
def test_a_metric_may_move_by_its_tolerance_where_bytes_may_differ(twins, change, result):
    rerun, before, params, _, _ = twins
    path = rerun / f"metrics/lanes/{params.phase}.json"
    document = json.loads(path.read_text())
    document["splits"]["test"]["mIoU"]["value"] += change
    path.write_text(json.dumps(document))
    mine = f"evaluate@{params.phase}"
    rows = [row for row in compare_metrics(rerun, before, params, bits=False) if row.stage == mine]
    assert results_of(rows, "mIoU, test") == {result} and results_of(rows, "mIoU, val") == {"same"}
    strict = [row for row in compare_metrics(rerun, before, params, bits=True) if row.stage == mine]
    assert results_of(strict, "mIoU, test") == {"DIFFERENT" if change else "same"}
    (numbers,) = (row for row in strict if row.out == "all numbers")
    assert (numbers.result == "DIFFERENT" and "splits.test.mIoU.value" in numbers.details[0]) == bool(change)


def test_a_file_that_differs_is_named_and_data_must_always_be_the_same(twins):
    rerun, before, _, record, cache = twins
    rows = compare_outs(rerun, before, record, cache, False, [])
    assert [row.result for row in rows] == ["same", "same"]
    flip(rerun / "models/lanes/mae_ohem/weights.safetensors")
    flip(next(path for path in sorted((rerun / "data/lanes/raw").rglob("*")) if path.is_file()))
    data, model = compare_outs(rerun, before, record, cache, False, [])
    assert (data.result, model.result) == ("DIFFERENT", "other bytes")
    assert model.details == ("models/lanes/mae_ohem/weights.safetensors",)
    assert compare_outs(rerun, before, record, cache, True, [])[1].result == "DIFFERENT"
    shutil.rmtree(rerun / "models/lanes/mae_ohem")
    assert compare_outs(rerun, before, record, cache, False, [])[1].rerun == "missing"
    assert compare_outs(rerun, before, record, cache, True, ["collect"])[0].result == "not rerun"


def test_a_bundle_that_differs_in_its_guide_alone_is_recognised_without_a_cache(twins):
    """The guide quotes its run; Git keeps the committed one beside the report."""
    rerun, before, _, _, cache = twins
    kept = before / "reports" / "lanes" / GUIDE
    for root, words in ((before, kept.read_text()), (rerun, "another run")):
        (root / "bundles" / "lanes").mkdir(parents=True, exist_ok=True)
        (root / "bundles" / "lanes" / "weights.pt").write_bytes(b"weights")
        (root / "bundles" / "lanes" / GUIDE).write_text(words)
    record = Record("dvc.lock", {"report": {"bundles/lanes": digest(listing(before / "bundles" / "lanes"))}})
    shutil.rmtree(before / "bundles")
    assert compare_outs(rerun, before, record, cache, True, [])[0].result == "same"
    flip(rerun / "bundles/lanes/weights.pt")
    assert compare_outs(rerun, before, record, cache, True, [])[0].result == "DIFFERENT"


def test_what_is_no_md5_is_never_looked_up(tmp_path):
    with pytest.raises(UserError, match="not an md5"):
        Cache(tmp_path).path("../../etc/passwd")


def test_the_last_line_says_which_of_the_two_was_found():
    same, other = Row("collect", "data", "a", "a", "same"), Row("finetune@a", "models", "a", "b", "other bytes")
    near = Row("expected", "mIoU, test", "0.3-0.1", "0.3", "within tolerance")
    assert verdict([same, near], bits=True) == "verified: bit-identical; 1 expected values reached"
    assert verdict([same, other, near], bits=False).startswith("verified: within tolerance, not bit-identical")
    assert verdict([same, near], bits=False).startswith("verified: bit-identical")


# parts


def test_stages_come_after_what_they_start_from():
    values = tiny_params("lanes")
    values["phases"] = {"late": dict(values["phases"]["baseline"], init="early"), "early": values["phases"]["baseline"]}
    values["phase"], values["report"]["claims"], values["pretrain"]["method"] = "late", [], "none"
    values["ablation"] = None  # it names a phase that is gone
    names = stage_names(parse(values))
    assert names.index("finetune@early") < names.index("finetune@late")
    assert sorted(names) == sorted({*names}) and names[0] == "collect" and names[-1] == "report"


def test_a_cache_listing_that_leaves_its_folder_is_refused(tmp_path):
    files = {"../../outside": "0" * 32}
    md5 = digest(files)
    path = Cache(tmp_path).path(md5)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"md5": "0" * 32, "relpath": "../../outside"}]))
    with pytest.raises(UserError, match="outside its folder"):
        Cache(tmp_path).listing(md5)


def test_raw_data_that_is_nowhere_is_named(tmp_path):
    values = smallest()
    values["data"] |= {"root": "data/external/lanes", "synthetic": None}
    params = parse(values)
    with pytest.raises(UserError, match="data/external/lanes: not here"):
        bring_inputs(tmp_path / "mine", tmp_path / "clone", params, data_from_cache=False)
    bring_inputs(tmp_path / "mine", tmp_path / "clone", params, data_from_cache=True)
    image = tmp_path / "mine/data/external/lanes/a.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"picture")
    bring_inputs(tmp_path / "mine", tmp_path / "clone", params, data_from_cache=False)
    assert (tmp_path / "clone/data/external/lanes/a.png").read_bytes() == b"picture"
