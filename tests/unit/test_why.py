"""`retrace why`: a figure, a key or a metrics.json entry leads back to the files it was made from."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retrace.cli.app import app
from retrace.cli.why import why
from retrace.config.load import load
from retrace.errors import UserError
from retrace.files import sha256_of
from retrace.provenance.md5 import md5_of
from retrace.provenance.verify.trace import find
from retrace.report.numbers import show
from stages import report as stage
from tests.support.fixtures_documents import ablation
from tests.support.fixtures_metrics import build
from tests.support.projects import environment, run
from tests.support.verified import printed, write_numbers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    build(folder, "segmentation")
    with contextlib.chdir(folder):
        stage.report(load())
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of a project with a finished report, as the working folder."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return load()


def lines(query: str, study: str | None = None) -> str:
    return "\n".join(why(query, study, hashes=True))


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_every_printed_number_is_found_by_its_text_and_by_its_key(project):
    rows = printed(Path("reports/lanes"))
    for row in rows[:: len(rows) // 40]:
        by_key = find(f"{row['file']}:{row['key']}", None)
        assert (row["file"], row["key"]) in {(match.file, match.key) for match in by_key}
        if re.search(r"\d", row["text"]):
            assert (row["file"], row["key"]) in {(match.file, match.key) for match in find(row["text"], None)}


def test_a_figure_leads_to_metrics_weights_parameters_data_environment_and_commit(project):
    phase = project.phase
    file = Path(f"metrics/lanes/{phase}.json")
    document = json.loads(file.read_text())
    value = document["splits"]["test"]["mIoU"]["value"]
    weights = Path(f"models/lanes/{phase}") / document["weights"]["file"]
    text = flat(lines(f"{file}:splits.test.mIoU"))
    assert f"{show(value, 'fraction')} {file}: splits.test.mIoU.value value {value!r}" in text
    assert f"file: {file}, sha256 {sha256_of(file)}" in text
    assert f"weights: {weights}, sha256 {sha256_of(weights)} (here, the same bytes)" in text
    assert (
        f"parameters: reports/lanes/parameters.json, sha256 {sha256_of(Path('reports/lanes/parameters.json'))}" in text
    )
    manifest = Path("data/lanes/raw/manifest.jsonl")
    assert f"data manifest: {manifest}, sha256 {sha256_of(manifest)} (here, the same bytes); images: train" in text
    facts = json.loads(Path("reports/lanes/provenance.json").read_text())
    assert f"sha256 {facts['lock']['sha256']}" in text and f"torch {facts['packages']['torch']}" in text
    assert "commit: no Git repository" in text


def test_the_commit_and_code_that_made_it_are_named(project):
    path = Path("reports/lanes/provenance.json")
    facts = json.loads(path.read_text())
    facts["git"] = {"commit": "c0ffee" * 6 + "abcd", "dirty": True, "changed": ["retrace/files.py"]}
    facts["stages"][f"evaluate@{project.phase}"] = {"deps": {"retrace/evaluation": "12345678abcdef.dir"}, "outs": {}}
    path.write_text(json.dumps(facts))
    text = flat(lines(f"metrics/lanes/{project.phase}.json:splits.test.mIoU"))
    assert "commit: " + "c0ffee" * 6 + "abcd, uncommitted changes in retrace/files.py" in text
    assert "code: md5 retrace/evaluation:12345678" in text


@pytest.fixture
def reported(project):
    """The project with a dvc.lock whose report stage wrote metrics.json."""
    lock_report(project.study, project.phase)
    return project


def lock_report(study, phase):
    outs = [{"path": "metrics.json", "md5": md5_of(Path("metrics.json"))}]
    entry = {"params": {"params.yaml": {"study": study, "phase": phase}}, "outs": outs}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"report": entry}}))


def test_metrics_json_is_of_what_the_report_was_made_of_not_of_params_yaml(reported):
    params = Path("params.yaml")
    params.write_text(
        params.read_text().replace("study: lanes", "study: offroad", 1).replace("phase: mae_ohem", "phase: x", 1)
    )
    matches = find("metrics.json:test_mIoU", None)
    assert [(m.study, m.file) for m in matches] == [("lanes", f"metrics/lanes/{reported.phase}.json")]
    Path("metrics.json").write_text(Path("metrics.json").read_text() + " ")
    with pytest.raises(UserError, match=r"metrics.json: not the file that the report stage in dvc.lock wrote"):
        find("metrics.json:test_mIoU", None)
    Path("dvc.lock").unlink()
    with pytest.raises(UserError, match=r"metrics.json: dvc.lock does not say which study and phase"):
        find("metrics.json:test_mIoU", None)


def test_a_key_of_metrics_json_and_its_value_as_dvc_prints_it_are_found(reported):
    place = [(f"metrics/lanes/{reported.phase}.json", "splits.test.mIoU.value")]
    value = json.loads(Path("metrics.json").read_text())["test_mIoU"]
    for query in ("test_mIoU", f"{value:.5f}", f"{value:.6f}"):
        assert [(m.file, m.key) for m in find(query, None)][-1:] == place, query
    Path("dvc.lock").unlink()  # then only the reports can answer
    assert place[0] in {(m.file, m.key) for m in find(f"{value:.5f}", None)}
    for query in (f"{value + 1e-5:.5f}", "metrics.jsonx:test_mIoU"):
        with pytest.raises(UserError, match="no report prints this number"):
            find(query, None)


def test_signs_and_thousands_separators_need_not_be_typed(project):
    rows = printed(Path("reports/lanes"))
    signed = next(row for row in rows if row["text"].startswith("+"))
    large = next(row for row in rows if row["format"] == "count" and "," in row["text"])
    negative = next(row for row in rows if re.fullmatch(r"-0\.\d+", row["text"]))
    for row, query in (
        (signed, signed["text"][1:]),
        (large, large["text"].replace(",", "")),
        (negative, negative["text"]),
    ):
        assert (row["file"], row["key"]) in {(m.file, m.key) for m in find(query, None)}
    with pytest.raises(UserError, match=r"--studdy: no such option"):
        find("--studdy", None)


def test_a_negative_figure_is_no_option(project):
    row = next(r for r in printed(Path("reports/lanes")) if re.fullmatch(r"-0\.\d+", r["text"]))
    found = CliRunner().invoke(app, ["why", row["text"], "--study", "lanes"])
    assert found.exit_code == 0 and row["key"] in found.output


def test_metrics_json_leads_to_the_active_phase(reported):
    project = reported
    matches = find("metrics.json:test_mIoU", None)
    assert [(m.file, m.key) for m in matches] == [(f"metrics/lanes/{project.phase}.json", "splits.test.mIoU.value")]
    assert {m.key for m in find("metrics.json:mIoU", None)} == {"splits.test.mIoU.value", "splits.val.mIoU.value"}


def test_several_matches_are_all_listed(project):
    text = lines("mIoU")
    for phase in project.phases:
        assert f"metrics/lanes/{phase}.json: splits.test.mIoU.value" in text
    assert "focus_mIoU" not in text
    assert re.search(r"\d+ numbers match; give the file too", text)


def test_a_metrics_key_that_no_report_prints_is_traced_too(project):
    other = next(name for name in project.phases if name != project.phase)
    listed = {(r["file"], r["key"]) for r in printed(Path("reports/lanes"))}
    key = f"splits.val.per_class.{project.classes[0]}.precision"
    assert (f"metrics/lanes/{other}.json", f"{key}.value") not in listed
    (match,) = find(f"metrics/lanes/{other}.json:{key}", None)
    assert match.key == f"{key}.value" and match.phases == (other,)


def test_a_difference_depends_on_both_phases(project):
    other = next(name for name in project.phases if name != project.phase)
    (match,) = find(f"derived.json:comparisons.{project.phase}.test.mIoU", None)
    assert set(match.phases) == {project.phase, other}


def test_weights_with_other_bytes_or_none_are_said_to_be(project):
    phase = project.phase
    document = json.loads(Path(f"metrics/lanes/{phase}.json").read_text())
    weights = Path(f"models/lanes/{phase}") / document["weights"]["file"]
    weights.write_bytes(weights.read_bytes() + b"!")
    assert "here, but with OTHER bytes" in flat(lines(f"{phase}.json:splits.test.mIoU"))
    weights.unlink()
    text = flat(lines(f"{phase}.json:splits.test.mIoU"))
    assert f"not here; to get it: `dvc repro finetune@{phase}`" in text and "pull" not in text
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = /tmp/store\n")
    assert f"`dvc pull {weights}`, or `dvc repro finetune@{phase}`" in flat(lines(f"{phase}.json:splits.test.mIoU"))


def test_a_file_that_now_says_something_else_is_marked(project):
    path = Path(f"metrics/lanes/{project.phase}.json")
    document = json.loads(path.read_text())
    document["splits"]["test"]["mIoU"]["value"] = 0.123
    path.write_text(json.dumps(document))
    assert "DIFFERENT now: 0.123" in lines(f"{project.phase}.json:splits.test.mIoU")


def test_lines_fit_a_terminal(project):
    assert all(len(line) <= 80 for line in lines(f"metrics/lanes/{project.phase}.json:splits.test.mIoU").splitlines())


@pytest.mark.parametrize("query", ["7.777", "nonsense", "metrics.json:nonsense", "baseline.json:nonsense", ""])
def test_no_match_is_one_clear_message(project, query):
    lock_report(project.study, project.phase)
    with pytest.raises(UserError, match="no report prints this number"):
        find(query, None)


def test_an_unknown_study_is_named(project):
    with pytest.raises(UserError, match="allowed: lanes"):
        find("mIoU", "nothing")


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", '{"stages": {"collect": 3}}'])
@pytest.mark.parametrize("name", ["provenance.json", "report.json", "derived.json", "parameters.json"])
def test_a_damaged_report_is_one_message_with_the_file_and_the_remedy(project, name, text):
    path = Path("reports/lanes", name)
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path}: .*`dvc repro( report)?`"):
        lines(f"metrics/lanes/{project.phase}.json:splits.test.mIoU")


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense"])
def test_a_damaged_metrics_file_is_one_message_too(project, text):
    path = Path(f"metrics/lanes/{project.phase}.json")
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: "):
        lines(f"{path}:splits.test.mIoU")
    Path("metrics.json").write_text("[1]")
    with pytest.raises(UserError, match=r"metrics\.json: damaged"):
        lines("metrics.json:test_mIoU")


def test_the_command_exits_1_without_a_traceback(tmp_path):
    (tmp_path / "dvc.yaml").write_text("")  # a project, without a report
    done = run(tmp_path, "python", "-m", "retrace", "why", "0.5", env=environment())
    assert done.returncode == 1 and "no report here" in done.stderr and "Traceback" not in done.stderr


def test_a_number_of_an_ablation_that_is_not_printed_is_traced_too(project):
    path = Path("reports/lanes-ablation/ablation.json")
    path.parent.mkdir()
    path.write_text(json.dumps({"effects": {"crop": {"IoU/Sky": {"value": -0.01, "low": -0.0123, "high": 0.0}}}}))
    (match,) = find(f"{path}:effects.crop.IoU/Sky.low", None)
    assert (match.study, match.text) == ("lanes", "-0.0123")


def test_a_number_of_an_ablation_leads_to_its_experiments(project):
    for words in (("init", "-q"), ("add", "reports"), ("commit", "-qm", "an experiment")):
        run(Path(), "git", *words, check=True)
    commit = run(Path(), "git", "rev-parse", "HEAD", check=True).stdout.strip()
    path = Path("reports/lanes-ablation/ablation.json")
    path.parent.mkdir()
    names, scores = ["lanes-a-s17-1", "lanes-a-s18-2"], [0.4321, 0.5432]
    known = {"commit": commit, "levels": {}, "seed": 1, "training_seed": 1}
    runs = [{**known, "name": n, "scores": {"mIoU": s}} for n, s in zip(names, scores, strict=True)]
    ablation(phase=project.phase, runs=runs).write(path)
    keys = [f"runs.{index}.scores.mIoU" for index in (0, 1)]
    write_numbers(path.parent, str(path), dict(zip(keys, scores, strict=True)))
    facts = json.loads(Path("reports/lanes/provenance.json").read_text())
    text = flat(lines(f"{path}:{keys[1]}"))
    assert f"experiment: {names[1]}, commit {commit[:12]}, models/lanes/{project.phase} md5" in text
    damaged = path.read_text()
    for content in ("{}", "[1]"):
        path.write_text(content)
        with pytest.raises(UserError, match=f"{path}: damaged.*`retrace ablate`"):
            lines(f"{path}:{keys[1]}")
    path.write_text(damaged)
    assert names[0] not in text and f"sha256 {facts['lock']['sha256']}" in text and "data manifest:" in text


def test_a_number_of_an_ablation_is_traced_where_its_experiments_are_not(project):
    path = Path("reports/lanes-ablation/ablation.json")
    path.parent.mkdir()
    made = {f"models/lanes/{project.phase}": "a1" * 16, f"metrics/lanes/{project.phase}.json": "b2" * 16}
    row = {"name": "lanes-a-s17-1", "commit": "c0ffee" * 6 + "abcd", "scores": {"mIoU": 0.4321}, "made": made}
    row |= {"levels": {}, "seed": 1, "training_seed": 1}
    made_from = {"stages/finetune.py": "d3" * 20, "data/lanes/raw": "e4" * 16, "requirements/runtime.txt": "f5" * 20}
    ablation(phase=project.phase, made_from=made_from, runs=[row]).write(path)
    write_numbers(path.parent, str(path), {"runs.0.scores.mIoU": 0.4321})
    text = flat(lines(f"{path}:runs.0.scores.mIoU"))
    assert "experiment: lanes-a-s17-1, commit c0ffeec0ffee (not in this repository: dvc exp pull" in text
    for name, md5 in made.items():
        assert f"{name} md5 {md5}" in text
    assert f"code: stages/finetune.py:{'d3' * 20}" in text and f"data: data/lanes/raw:{'e4' * 16}" in text
    assert f"environment: requirements/runtime.txt:{'f5' * 20}" in text


@pytest.mark.parametrize("query", ["mIoU", "metrics/lanes/mae_ohem.json:splits.test.mIoU"])
def test_the_answer_is_a_screen_without_hashes(project, query):
    rows = list(why(query, None))
    assert len(rows) <= 24 and not re.search(r"[0-9a-f]{32}", "".join(rows))
    assert {"study", "environment", "commit"} <= {row.strip().partition(":")[0] for row in rows}


def test_the_study_in_params_yaml_is_first(project):
    """Of two studies with the same numbers."""
    for folder in ("reports", "metrics"):
        shutil.copytree(f"{folder}/lanes", f"{folder}/anew")
    for path in (*Path("reports/anew").glob("*.json"), *Path("metrics/anew").glob("*.json")):
        path.write_text(path.read_text().replace("/lanes/", "/anew/").replace('"lanes"', '"anew"'))
    params = Path("params.yaml")
    query = "splits.test.mIoU.value"
    for study, other in (("anew", "lanes"), ("lanes", "anew")):
        params.write_text(re.sub("study: .*", f"study: {study}", params.read_text(), count=1))
        first = next(iter(why(query, None)))
        assert f"/{study}/" in first and f"/{other}/" not in first
