"""The report stage: every number has a source that says the same, tables and verdicts are right, bad inputs named."""

import contextlib
import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrace.config import read_yaml
from retrace.config.load import load, parse
from retrace.errors import UserError
from retrace.provenance.md5 import listing
from retrace.report.checks import run_checks
from retrace.report.comparisons import judge
from retrace.report.inputs import read_inputs
from retrace.report.numbers import Ledger, Num, show
from retrace.report.provenance import provenance
from retrace.report.render import html
from stages import report as stage
from tests.support.fixtures_metrics import LANES, PLATES, build, write
from tests.support.projects import environment
from tests.support.verified import printed, recheck

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """`finished(task)`: a project folder with its report made, once for all tests; they work on copies."""
    folders = {}

    def make(task):
        if task not in folders:
            folders[task] = tmp_path_factory.mktemp(task)
            build(folders[task], task)
            with contextlib.chdir(folders[task]):
                stage.report(load())
        return folders[task]

    return make


@pytest.fixture(params=["segmentation", "detection"])
def project(request, finished, tmp_path, monkeypatch):
    """A project folder of either task with its report; returns the parameters."""
    return copied(finished(request.param), tmp_path, monkeypatch, LANES if request.param == "segmentation" else PLATES)


@pytest.fixture
def lanes(finished, tmp_path, monkeypatch):
    return copied(finished("segmentation"), tmp_path, monkeypatch, LANES)


def copied(folder, target, monkeypatch, params):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    monkeypatch.chdir(target)
    return params


def test_a_report_of_results_from_a_cpu_loads_no_torch(lanes):
    code = "import sys; from stages.report import main; main(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert run.stdout.splitlines()[-1] == "False"


def checked(inputs, what):
    """The row of the checklist that is called `what`."""
    (row,) = [row for row in run_checks(inputs, provenance(inputs)) if row.what == what]
    return row


@pytest.mark.parametrize(("there", "found"), [(False, "cpu"), (True, "cpu, cuda")])
def test_a_device_that_is_asked_for_is_looked_for(lanes, monkeypatch, there, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    params = load()
    inputs = read_inputs(params.model_copy(update={"machine": params.machine.model_copy(update={"device": "cuda"})}))
    for name in inputs.journals:  # that a GPU trained says nothing of whether there is one now
        inputs.journals[name] = inputs.journals[name].model_copy(update={"device": "cuda:0"})
    check = checked(inputs, "device available")
    assert (check.found, check.passed) == (found, there)


def made(folder, monkeypatch, task, params):
    monkeypatch.chdir(folder)
    build(folder, task, params)
    stage.report(load())


def with_claim(claim):
    """Inputs of the project in this folder, with one claim."""
    params = changed(LANES, report={"claims": [claim]})
    Path("params.yaml").write_text(json.dumps(params))
    return read_inputs(load())


def changed(params, **changes):
    """A deep copy with top-level blocks updated."""
    params = json.loads(json.dumps(params))
    for name, block in changes.items():
        params[name] = {**params[name], **block} if isinstance(block, dict) else block
    return params


def table(study, name):
    with open(Path("reports", study, "tables", f"{name}.csv"), newline="") as stream:
        return list(csv.DictReader(stream))


class Page(HTMLParser):
    """The spans with a source, the text outside of them, and everything the page would load."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.rest, self.loads, self.headings = [], [], [], []
        self._open, self._skip, self._tag = None, 0, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._tag = tag
        self.loads += [attributes[name] for name in ("src", "srcset", "data", "xlink:href") if name in attributes]
        if tag in ("link", "image", "use", "iframe", "object"):
            self.loads.append(attributes.get("href") or attributes.get("xlink:href") or tag)
        if attributes.get("class") == "n":
            self._open = attributes
        self._skip += tag in ("style", "svg", "script")

    def handle_endtag(self, tag):
        self._skip -= tag in ("style", "svg", "script")

    def handle_data(self, text):
        if self._open is not None:
            self.numbers.append((self._open["data-source"], self._open["data-key"], self._open["data-format"], text))
            self._open = None
        elif not self._skip:
            self.rest.append(text)
            if self._tag == "h2":
                self.headings.append(text)


def page(study):
    return Page(Path("reports", study, "report.html").read_text())


def test_every_number_on_the_page_is_what_its_file_says(project):
    found = page(project["study"]).numbers
    assert len(found) > 100
    for file, key, style, text in found:
        assert Path(file).is_file(), f"{file} does not exist"
        assert show(Ledger().value(file, key), style) == text, f"{file}: {key}"


def test_no_score_is_printed_without_a_source(project):
    outside = " ".join(page(project["study"]).rest)
    outside = outside.split("Commit and environment")[0]  # versions and hashes follow
    assert not re.findall(r"(?<![\w.])[+-]?\d\.\d{3,4}(?!\w)", outside)


def test_numbers_index_covers_the_page_and_is_checked_again(project):
    folder = Path("reports", project["study"])
    listed = {(row["file"], row["key"], row["format"], row["text"]) for row in printed(folder)}
    assert set(page(project["study"]).numbers) <= listed
    assert recheck(folder) == []
    path = Path("metrics", project["study"], f"{project['phase']}.json")
    metrics = json.loads(path.read_text())
    metrics["splits"]["test"][project["report"]["headline"]]["value"] -= 0.01
    write(path, metrics)
    assert recheck(folder)
    assert all(path.as_posix() in line for line in recheck(folder))


def test_pages_are_the_same_bytes_in_another_folder_time_zone_and_locale(project, tmp_path):
    folder = Path("reports", project["study"]).absolute()
    code = "import sys; from pathlib import Path; from retrace.report.document import read; "
    code += "from retrace.report.render import render; "
    code += "render(read(Path(sys.argv[1])).report, Path(sys.argv[1]), Path(sys.argv[2]))"
    env = environment() | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    target = tmp_path / "again"
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 20\n")
    command = [sys.executable, "-c", code, str(folder), str(target)]
    subprocess.run(command, cwd=tmp_path, env=env, check=True)
    documents = {"report.json", "parameters.json", "derived.json", "provenance.json", "files.json"}
    before, after = listing(folder), listing(target)
    assert {name for name in before if after.get(name) != before[name]} == documents
    assert set(after) == set(before) - documents


def test_each_number_is_listed_once_and_text_is_text(project):
    content = json.loads(Path("reports", project["study"], "report.json").read_text())
    rows = [(row["file"], row["key"], row["format"]) for row in content["numbers"]]
    assert len(rows) == len(set(rows))
    used = set()
    for page in content["pages"]:
        for block in (block for part in page["sections"] for block in part["blocks"]):
            rows_of = block["rows"] if block["kind"] == "table" else ()
            for cell in (cell for row in rows_of for cell in row):
                used |= {part for part in cell["parts"] if isinstance(part, int)}
                scores = [part for part in cell["parts"] if isinstance(part, str) and re.fullmatch(r"0\.\d{3}", part)]
                assert scores == []
    assert len(used) > 50 and max(used) < len(rows)


def test_markdown_prints_the_same_numbers(project):
    text = Path("reports", project["study"], "report.md").read_text()
    for _, _, _, number in page(project["study"]).numbers:
        assert number in text


def test_page_needs_no_network_and_no_other_file(project):
    text = Path("reports", project["study"], "report.html").read_text()
    loads = page(project["study"]).loads
    assert loads
    assert all(load.startswith(("data:image/", "#")) for load in loads)
    assert not re.findall(r"(?:url\(|@import|src=|href=)[\"' ]*(?:https?:|//)", text)


def test_markdown_links_only_files_that_are_there(project):
    folder = Path("reports", project["study"])
    links = re.findall(r"\]\(([^)]+)\)", (folder / "report.md").read_text())
    assert any(link.endswith(".jpg") for link in links)
    assert [link for link in links if not (folder / link).is_file()] == []


def test_cells_of_the_confusion_matrix_lead_to_their_pictures(project):
    text = Path("reports", project["study"], "report.html").read_text()
    cells = re.findall(r'<td data-count="[^>]*><a href="#(errors-[^"]+)"', text)
    assert len(cells) == 2
    for cell in cells:
        start = text.index(f'id="{cell}"')
        shown = text[start : text.index("</div>", start)]
        assert shown.count('src="data:image/jpeg') == 2 and 'class="n"' in shown
    assert {link for link in re.findall(r'href="#([^"]*)"', text) if f'id="{link}"' not in text} == set()
    names = (Path("reports", project["study"]) / "figures/errors").iterdir()
    assert len(list(names)) == 4


def test_a_full_budget_leaves_room_for_classes_and_cells(lanes):
    """In turn: neither kind of picture takes all the room."""
    folder, first = Path("metrics/lanes/mae_ohem"), "errors/test_0_0_1.jpg"
    rows = []
    for name in ("0_0", "1_1", "2_2", "0_1", "0_2", "1_2"):
        truth, given = (lanes["classes"][int(place)] for place in name.split("_"))
        file = f"errors/test_{name}_1.jpg"
        (folder / file).write_bytes((folder / first).read_bytes().ljust(100_000, b"\0"))
        rows.append({"file": file, "id": "test_000", "split": "test", "truth": truth, "predicted": given, "pixels": 5})
    (folder / "errors.json").write_text(json.dumps(rows))
    stage.report(load())
    text = Path("reports/lanes/report.html").read_text()
    assert set(re.findall(r'id="(errors-\d-\d)"', text)) == {"errors-0-0", "errors-0-1", "errors-1-1"}


def test_a_missing_picture_of_an_error_is_named(lanes, capsys):
    Path("metrics/lanes/mae_ohem/errors/test_0_1_2.jpg").unlink()
    with pytest.raises(SystemExit):
        stage.main()
    assert "errors/test_0_1_2.jpg: no such file" in capsys.readouterr().err


def test_report_stays_within_three_megabytes_with_large_pictures(lanes):
    random = np.random.default_rng(0)
    for path in Path("metrics/lanes/mae_ohem/samples").glob("*.jpg"):
        Image.fromarray(random.integers(0, 256, (600, 1800, 3), dtype=np.uint8)).save(path, quality=98)
    for path in Path("metrics/lanes/mae_ohem/errors").glob("test_0_0_*.jpg"):
        path.write_bytes(path.read_bytes().ljust(174_000, b"\0"))
    stage.report(load())
    assert sum(path.stat().st_size for path in Path("reports/lanes").rglob("*") if path.is_file()) < 3 * MEGABYTE


def test_report_is_the_same_twice_but_for_what_tells_of_the_run(lanes):
    def contents():
        told = ("provenance.json", "files.json")  # the second has the sha256 of the first
        files = (path for path in Path("reports/lanes").rglob("*") if path.is_file() and path.name not in told)
        return {path: path.read_bytes() for path in files}

    first = contents()
    stage.report(load())
    assert contents() == first


def test_dvc_metrics_are_a_few_flat_scalars_of_the_active_phase(project):
    scalars = json.loads(Path("metrics.json").read_text())
    metrics = json.loads(Path("metrics", project["study"], f"{project['phase']}.json").read_text())
    assert 0 < len(scalars) <= 3  # more do not fit beside DVC's own columns
    for name, value in scalars.items():
        split, metric = name.split("_", 1)
        assert metrics["splits"][split][metric]["value"] == value


def test_plots_hold_every_phase_and_shares_that_add_up(project):
    with open("plots/confusion.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["phase"] for row in rows} == set(project["phases"])
    sums = {}
    for row in rows:
        if row["share"]:
            key = row["phase"], row["split"], row["truth"]
            sums[key] = sums.get(key, 0) + float(row["share"])
    assert np.allclose(list(sums.values()), 1)
    with open("plots/history.csv", newline="") as stream:
        history = list(csv.DictReader(stream))
    assert len(history) == 6 * len(project["phases"])
    assert all(row["train_loss"] and row["val_metric"] for row in history)


def test_change_between_phases_is_paired_and_judged(lanes):
    """Against a plain loop over resampled image lists, from the confusion matrices alone."""
    derived = json.loads(Path("reports/lanes/derived.json").read_text())["comparisons"]
    before, after = (np.load(f"metrics/lanes/{phase}/confusion_test.npy") for phase in ("baseline", "mae_ohem"))
    found = derived["mae_ohem"]["test"]["mIoU"]

    def miou(confusion):
        total = confusion.sum(0)
        scores = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(3)]
        return float(np.mean(scores))

    random = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        rows = random.integers(0, len(before), len(before))
        if before[rows, 2].sum():
            draws.append(miou(after[rows]) - miou(before[rows]))
    assert found["value"] == pytest.approx(miou(after) - miou(before))
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.002)
    assert found["verdict"] == "better"
    assert derived["mae_ohem"]["from"] == "baseline"
    assert derived["colder"]["from"] == "mae_ohem"
    assert derived["colder"]["test"]["mIoU"]["verdict"] == "undecided"
    assert derived["baseline"] == {"from": None}


def test_phases_scored_on_other_images_are_not_compared(lanes):
    Path("metrics/lanes/mae_ohem/images_test.txt").write_text("other\n" * 20)
    stage.report(load())
    rows = {row["Phase"]: row for row in table("lanes", "phases_mIoU")}
    assert rows["mae_ohem (active)"]["Verdict"] == "not the same images"
    assert rows["mae_ohem (active)"]["Difference, test"] == "–"


def test_final_table(lanes):
    rows = {row["Metric"]: row for row in table("lanes", "final")}
    metrics = {phase: json.loads(Path(f"metrics/lanes/{phase}.json").read_text()) for phase in lanes["phases"]}
    values = {phase: metrics[phase]["splits"]["val"]["mIoU"] for phase in metrics}
    row = rows["mIoU, val"]
    assert row["Baseline"] == "{value:.3f} [{low:.3f}, {high:.3f}]".format(**values["baseline"])
    assert row["Final (mae_ohem)"] == "{value:.3f} [{low:.3f}, {high:.3f}]".format(**values["mae_ohem"])
    assert row["Target"] == "at least 0.999"
    assert row["Status"] == "not met"
    assert float(row["Change"].split()[0]) == pytest.approx(
        values["mae_ohem"]["value"] - values["baseline"]["value"], abs=6e-4
    )
    assert rows["mIoU, test"]["Status"] == "better (these weights)"
    assert list(row) == ["Metric", "Baseline", "Target", "Final (mae_ohem)", "Change", "Status"]


def test_rare_and_absent_classes_are_marked(project):
    rows = {row["Class"]: row for row in table(project["study"], f"per_class_{project['phase']}_test")}
    rare, absent = project["classes"][-2], project["classes"][-1]
    assert rows[rare]["Note"] == "n = 3: not reliable"
    assert rows[absent]["Note"] == "absent from test"
    assert {value for key, value in rows[absent].items() if key not in ("Class", "Note") and "floor" not in key} - {
        "0"
    } == {"–"}
    assert rows[project["classes"][0]]["Note"] == ""


def test_verdict_on_a_rare_class_is_marked(lanes):
    rows = {row["Class"]: row["Verdict"] for row in table("lanes", "class_changes_test")}
    assert rows["White Solid"] == "better (these weights)"
    assert rows["White Dashed"] == "no verdict: fewer than 5 independent units; n = 3: not reliable"


def test_what_changed_lists_exactly_the_parameters_that_differ(lanes):
    rows = [(row["Phase"], row["Parameter"], row["Before"], row["After"]) for row in table("lanes", "changes")]
    assert sorted(rows) == sorted(
        [
            ("mae_ohem", "init", "none", "pretrain"),
            ("mae_ohem", "loss.name", "cross_entropy", "ohem"),
            ("mae_ohem", "optimizer.encoder_lr", "–", "0.0003"),
            ("colder", "init", "pretrain", "mae_ohem"),
            ("colder", "loss.name", "ohem", "cross_entropy"),
            ("colder", "optimizer.lr", "0.001", "0.0005"),
            ("colder", "optimizer.encoder_lr", "0.0003", "–"),
        ]
    )


def test_a_parameter_that_another_choice_brings_along_is_a_change_where_it_was_given(tmp_path, monkeypatch):
    params = changed(LANES)
    params["phases"]["mae_ohem"]["loss"] |= {"ohem_threshold": 0.5, "ohem_min_kept": 0.1}  # 0.7 and 0.1 by default
    made(tmp_path, monkeypatch, "segmentation", params)
    rows = {(row["Phase"], row["Parameter"]): (row["Before"], row["After"]) for row in table("lanes", "changes")}
    assert rows["mae_ohem", "loss.ohem_threshold"] == ("–", "0.5")
    assert {name for phase, name in rows if phase == "mae_ohem"} == {
        *("init", "loss.name", "loss.ohem_threshold", "optimizer.encoder_lr"),
    }


def test_published_epochs_stand_beside_the_log(lanes):
    rows = [tuple(row.values()) for row in table("lanes", "published_epochs")]
    assert rows == [
        ("baseline", "1", "0.3912", "0.4000", ""),
        ("baseline", "3", "0.4448", "0.6250", ""),
        ("baseline", "5", "–", "0.6812", "best epoch of this run"),
        ("baseline", "6", "0.4962", "0.5000", ""),
    ]


def test_data_audit(lanes):
    assert [row["Images"] for row in table("lanes", "sources")] == ["42", "30", "64", "136"]
    counts = {row["Class"]: row for row in table("lanes", "class_counts")}
    assert counts["White Solid"]["val"] == "4 → 6"
    assert counts["Background"]["val"] == "12"
    assert table("lanes", "moves")[0]["Images"] == "2"
    assert table("lanes", "leaks")[0]["Splits as given"] == "train / test"
    assert table("lanes", "problems")[0] == {"Problem": "unreadable image", "File was": "left out", "Files": "2"}


def test_run_summary_and_pretraining(lanes):
    rows = {row["Step"]: row for row in table("lanes", "steps")}
    assert rows["rebalance"]["Status"] == "restored from cache"
    assert rows["finetune@colder"]["Duration"] == "2 min 10 s"
    assert rows["finetune@colder"]["Written to"] == "models/lanes/colder/weights.safetensors"
    text = Path("reports/lanes/report.md").read_text()
    assert "SUCCESS. Started 2031-05-06 07:00 UTC; the steps that ran here took 7 min 55 s together." in text
    assert "the loss decreased, from 1 to 0.5" in text


def test_a_gpus_memory_card_and_precision_are_in_the_report(lanes):
    assert "GPU memory, MiB" not in table("lanes", "steps")[0]
    path = Path("logs/lanes/colder/finetune.json")
    log = json.loads(path.read_text())
    log |= {"device": "cuda", "device_name": "Tesla T4", "capability": "7.5", "driver": "580.65.06", "cuda": "13.0"}
    log |= {"cudnn": "91300", "tf32": "none", "gpu_memory": {"allocated_mib": 5000, "reserved_mib": 6144}}
    path.write_text(json.dumps(log))
    path = Path("logs/lanes/colder/speed.json")
    measured = {"device": "cuda", "device_name": "Tesla T4", "precision": "16-mixed"}
    path.write_text(json.dumps(json.loads(path.read_text()) | measured))
    stage.report(load())
    rows = {row["Step"]: row for row in table("lanes", "steps")}
    assert rows["finetune@colder"]["GPU memory, MiB"] == "6,144" and rows["collect"]["GPU memory, MiB"] == "–"
    models = {row["Phase"]: row for row in table("lanes", "models")}
    assert models["colder"]["Computed on"] == "Tesla T4, 16-mixed"
    assert {row["Computed on"] for name, row in models.items() if name != "colder"} == {"cpu, 32-true"}
    (card,) = json.loads(Path("reports/lanes/provenance.json").read_text())["hardware"]["cards"]
    assert card["name"] == "Tesla T4" and card["driver"] == "580.65.06" and card["tf32"] == "none"


def test_a_failed_step_fails_the_run(lanes):
    row = {"stage": "finetune", "started": "2031-05-06T07:10:00+00:00", "seconds": 3.0, "status": "FAILED"}
    write(Path("logs/lanes/colder/finetune.json"), row)
    stage.report(load())
    assert json.loads(Path("reports/lanes/provenance.json").read_text())["run"]["status"] == "FAILED"


def test_provenance_names_commit_hashes_and_versions(lanes):
    found = json.loads(Path("reports/lanes/provenance.json").read_text())
    assert found["stages"]["finetune@baseline"]["outs"] == {"models/lanes/baseline": "b" * 32 + ".dir"}
    assert found["stages"]["finetune@baseline"]["deps"] == {"data/lanes/raw": "a" * 32 + ".dir"}
    assert re.fullmatch("[0-9a-f]{64}", found["lock"]["sha256"])
    assert {"torch", "numpy", "dvc"} <= set(found["packages"])
    assert (found["seed"], found["devices"]) == (17, ["cpu"])
    assert "b" * 32 in Path("reports/lanes/report.html").read_text()


def test_leftover_metrics_are_ignored_and_named(lanes, capsys):
    stage.main()
    assert "gone" in capsys.readouterr().out
    assert "no longer has (gone)" in Path("reports/lanes/report.md").read_text()
    assert all("gone" not in row["Phase"] for row in table("lanes", "phases_mIoU"))


def test_demo_data_is_said_aloud_and_never_compared(tmp_path, monkeypatch):
    made(tmp_path, monkeypatch, "segmentation", changed(LANES, report={"real_data": False}))
    for name in ("report.md", "report.html"):
        assert "Demo data: not comparable with the published figures." in Path("reports/lanes", name).read_text()
    assert {row["Status"] for row in table("lanes", "claims")} == {"not comparable (demo data)"}
    assert "not comparable" in {row["Status"] for row in table("lanes", "final")}


def test_real_data_has_no_banner(lanes):
    assert "Demo data" not in Path("reports/lanes/report.html").read_text()


def test_names_from_the_data_cannot_break_the_pages(tmp_path, monkeypatch):
    evil = "<script>alert('|')</script>"
    params = json.loads(json.dumps(LANES).replace("St. Andrew's cross", evil))
    params["report"]["title"] = evil
    made(tmp_path, monkeypatch, "segmentation", params)
    assert Path("reports/lanes/report.html").read_text().count("<script") == 1  # the page's own
    lines = Path("reports/lanes/report.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and "alert" in line]
    assert rows
    assert all("<script" not in line.replace("\\<", "") for line in rows)
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in rows if "absent" in line}
    assert cells == {9}


def test_code_in_the_words_of_the_parameters_is_code_on_both_pages(tmp_path, monkeypatch):
    step = "Run `retrace ablate <phase_a>` *soon*, not `a|b`."
    made(tmp_path, monkeypatch, "segmentation", changed(LANES, report={"next_steps": [step]}))
    text = Path("reports/lanes/report.md").read_text()
    assert "- Run `retrace ablate <phase_a>` \\*soon\\*, not \\`a\\|b\\`." in text
    assert "Run <code>retrace ablate &lt;phase_a&gt;</code> *soon*" in Path("reports/lanes/report.html").read_text()


def test_wide_tables_wrap_before_the_brackets_and_show_that_they_scroll(lanes):
    text = Path("reports/lanes/report.html").read_text()
    assert not re.search(r"td\.num[^}]*nowrap", text)
    assert re.search(r' <span class="whole">\[<span[^>]*>[^<]*</span>, <span[^>]*>[^<]*</span>\]</span>', text)
    assert text.count("<span") == text.count("</span>")
    assert "background:" in text.split(".wide {")[1].split("}")[0]
    assert text.count('<div class="wide" tabindex="0"') == text.count("<table")


def test_brackets_that_are_no_interval_open_nothing():
    number = Num(0.5, "a.json", "x", "fraction")
    for inline in (("a", " [", number, "]"), ("]", " ["), (" [", number, ", ", number, "] and")):
        assert "whole" not in html(inline)
    assert html((number, " [", number, ", ", number, "]")).endswith("</span>]</span>")


def other_study():
    path = Path("metrics/lanes/colder.json")
    path.write_text(path.read_text().replace('"study": "lanes"', '"study": "x"'))


def no_metrics():
    for path in Path("metrics/lanes").glob("*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_metrics, ["metrics/lanes", "dvc repro"]),
        (lambda: Path("metrics/lanes/colder.json").unlink(), ["colder", "baseline, mae_ohem, colder"]),
        (lambda: Path("metrics/lanes/colder.json").write_text("{"), ["metrics/lanes/colder.json", "JSON"]),
        (other_study, ["colder.json", "'x'", "'lanes'"]),
        (lambda: Path("metrics/lanes/colder/confusion_val.npy").write_bytes(b"x"), ["colder", "val", "dvc repro"]),
        (lambda: Path("metrics/lanes/colder/images_val.txt").unlink(), ["images_val.txt"]),
        (lambda: Path("models/lanes/colder/history.csv").unlink(), ["models/lanes/colder/history.csv"]),
        (lambda: Path("metrics/lanes/mae_ohem/samples/test_best_0.jpg").write_bytes(b"x"), ["test_best_0.jpg"]),
        (lambda: Path("data/lanes/splits/summary.json").unlink(), ["summary.json"]),
    ],
)
def test_bad_inputs_end_in_one_line_and_leave_the_old_report(lanes, spoil, words, capsys):
    before = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    spoil()
    with pytest.raises(SystemExit) as stopped:
        stage.main()
    message = capsys.readouterr().err
    assert stopped.value.code == 1
    assert message.count("\n") == 1
    assert [word for word in words if word not in message] == []
    assert {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"metric": "mIOU", "label": "x", "value": 1.0}, ["mIOU", "mIoU", "IoU/<class>"]),
        ({"metric": "IoU/Grass", "label": "x", "value": 1.0}, ["IoU/Grass"]),
        ({"metric": "per_class", "label": "x", "value": 1.0}, ["per_class"]),
        ({"metric": "group/nothing", "label": "x", "value": 1.0}, ["group/nothing", "group/<class group>"]),
        ({"metric": "val_loss", "split": "test", "label": "x", "value": 1.0}, ["split", "val_loss"]),
    ],
)
def test_claims_on_what_is_not_measured_are_refused(lanes, claim, words):
    with pytest.raises(UserError) as error:
        judge(with_claim(claim), 0)
    assert [word for word in ["report.claims.0", *words] if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        ({"kind": "target", "low": 0.30}, "met"),
        ({"kind": "target", "low": 0.30, "high": 0.32}, "met"),  # above the range is met too
        ({"kind": "target", "low": 0.36}, "not met"),  # the interval reaches it, the value does not
        ({"kind": "target", "high": 0.30}, "not met"),
        ({"kind": "published", "value": 0.36}, "met"),  # within the interval
        ({"kind": "published", "value": 0.45}, "not met"),
        ({"metric": "latency_ms", "kind": "baseline", "value": 60.0}, "met"),  # smaller is better
        ({"metric": "latency_ms", "kind": "baseline", "value": 30.0}, "not met"),
        ({"metric": "parameters", "kind": "baseline", "value": 5e6}, "not met below the claim"),  # nothing to beat
        ({"metric": "parameters", "kind": "baseline", "value": 4e6}, "met"),  # one digit: 3.5 to 4.5 million
        ({"metric": "parameters", "kind": "published", "value": 3.6e6}, "not met above the claim"),
        ({"metric": "parameters", "kind": "target", "high": 5e6}, "met"),
        ({"metric": "parameters", "kind": "target", "value": 5e6}, "met"),
        ({"metric": "parameters", "kind": "published", "low": 3.05e7, "high": 3.15e7}, "not met below the claim"),
        ({"kind": "published", "low": 0.14, "high": 0.27}, "not met above the claim"),
        ({"kind": "published", "low": 0.39, "high": 0.45}, "met"),  # the interval meets the range
        ({"kind": "published", "low": 0.40, "high": 0.45}, "not met below the claim"),
        ({"metric": "parameters", "kind": "published", "low": 3.6e6, "high": 3.8e6}, "met"),
        ({"metric": "parameters", "kind": "published", "low": 3.5e6, "high": 3.6e6}, "not met above the claim"),
        ({"metric": "val_loss", "split": "val", "kind": "published", "value": 1.43}, "met"),  # lowest 1.3, epoch 4
        ({"metric": "val_loss", "split": "val", "kind": "published", "value": 1.2}, "not met"),
        ({"metric": "IoU/St. Andrew's cross", "kind": "target", "value": 0.1}, "not comparable not measured"),
    ],
)
def test_claims_are_judged(lanes, claim, status):
    """Measured: mIoU 0.353 [0.313, 0.393] on test, latency 41.5 ms, 3.7 million parameters."""
    found = judge(with_claim({"metric": "mIoU", "label": "x", "split": "test", **claim}), 0)
    assert f"{found.status} {found.why}".strip() == status


def test_the_best_validation_loss_is_quoted_from_the_training_history(tmp_path, monkeypatch):
    claim = {"metric": "val_loss", "label": "best loss", "split": "val", "phase": "baseline", "value": 1.43}
    made(tmp_path, monkeypatch, "segmentation", changed(LANES, report={"claims": [claim]}))
    (row,) = table("lanes", "claims")
    assert (row["Claimed"], row["Measured"]) == ("1.43", "1.3")
    key = ("models/lanes/baseline/history.csv", "val_loss[epoch=4]", "loss", "1.3")
    assert key in page("lanes").numbers
    assert recheck(Path("reports/lanes")) == []


def test_given_images_without_masks_are_counted_where_they_went(lanes):
    """BDD100K's test images have no masks and join the unlabelled pool: as given all the same."""
    params = changed(LANES, data={"source": {"kind": "bdd100k"}}, report={"published_images": {"val": 10, "test": 64}})
    dataset, splits = Path("data/lanes/raw/dataset.json"), Path("data/lanes/splits/summary.json")
    Path("params.yaml").write_text(json.dumps(params))
    document, counts = json.loads(dataset.read_text()), json.loads(splits.read_text())
    document["sources"][-1]["name"] = "bdd100k/images/10k/test"  # 64 unlabelled images
    del counts["counts"]["before"]["test"]
    write(dataset, document)
    write(splits, counts)
    box = checked(read_inputs(load()), "images as given: val / test (without masks: unlabeled)")
    assert (box.wanted, box.found, box.passed) == ("10 / 64", "10 / 64", True)
    document["sources"][-1]["images"] = 63
    write(dataset, document)
    box = checked(read_inputs(load()), "images as given: val / test (without masks: unlabeled)")
    assert (box.found, box.passed) == ("10 / 63", False)


def test_published_values_are_printed_as_they_were_given(tmp_path, monkeypatch):
    given = {"images_per_second": (0.14, "0.14"), "parameters": (4.1e7, "41,000,000"), "mIoU": (0.8, "0.8")}
    given |= {"focus_mIoU": (0.3846, "0.3846"), "latency_ms": (60, "60")}
    claims = [{"metric": name, "label": name, "value": value} for name, (value, _) in given.items()]
    made(tmp_path, monkeypatch, "segmentation", changed(LANES, report={"claims": claims}))
    assert {row["Figure"]: row["Claimed"] for row in table("lanes", "claims")} == {n: t for n, (_, t) in given.items()}
    assert recheck(Path("reports/lanes")) == []


def test_video_inference_is_not_compared_with_the_speed_of_the_model_alone(tmp_path, monkeypatch):
    """`images_per_second` leaves out reading, drawing and writing, in batches: another quantity."""
    claim = {"metric": "video_frames_per_second", "label": "frames/s of a video", "value": 0.14}
    made(tmp_path, monkeypatch, "segmentation", changed(LANES, report={"claims": [claim]}))
    (row,) = table("lanes", "claims")
    assert (row["Claimed"], row["Measured"]) == ("0.14", "–")
    assert row["Status"].startswith("not comparable (retrace predict")


def test_no_study_compares_a_video_with_images_in_memory():
    claims = parse(read_yaml(Path("studies/bdd100k.yaml"))).report.claims
    assert {claim.metric for claim in claims if "video" in claim.label} == {"video_frames_per_second"}


def test_the_camvid_example_does_not_say_more_of_published_figures_than_is_known():
    claims = parse(read_yaml(Path("docs/examples/camvid_unets.yaml"))).report.claims
    assert all("not known here" in claim.label and "complete set" not in claim.label for claim in claims)


def test_models_are_compared_by_what_their_masks_weigh_and_use(lanes):
    row = table("lanes", "models")[0]
    assert row["Mask file, mean"] == "1.2 kB [1.1 kB, 1.3 kB]"
    assert row["Classes predicted"] == str(len(lanes["classes"]) - 1)


def test_detection_differences_have_intervals(tmp_path, monkeypatch):
    made(tmp_path, monkeypatch, "detection", changed(PLATES, report={"real_data": True}))
    found = json.loads(Path("reports/plates/derived.json").read_text())["comparisons"]["resnet50"]["test"]["AP50"]
    metrics = {phase: json.loads(Path(f"metrics/plates/{phase}.json").read_text()) for phase in PLATES["phases"]}
    values = [metrics[phase]["splits"]["test"]["AP50"]["value"] for phase in ("resnet50", "mobilenet")]
    assert found["value"] == pytest.approx(values[0] - values[1])
    assert found["low"] < found["value"] < found["high"]
    assert found["verdict"] == ("better" if found["low"] > 0 else "undecided")
    for figure in ("curves_test", "box_sizes", "confusion_test", "training_curves"):
        assert Path(f"reports/plates/figures/{figure}.svg").is_file()
