"""`retrace use` and `retrace studies`, as typed."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from retrace.cli.study_files import written_out
from retrace.config import merge, read_yaml
from retrace.config.load import load, parse
from retrace.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def retrace(*arguments):
    return subprocess.run([sys.executable, "-m", "retrace", *arguments], capture_output=True, text=True)


def test_use_writes_the_study_with_its_comments(project):
    result = retrace("use", "lanes")
    assert result.returncode == 0, result.stderr
    text = (project / "params.yaml").read_text()
    assert "# hashed: the number of CPU threads" in text
    assert load().report.real_data is True
    assert "still missing in data/external/lanes: " in result.stdout


def test_demo_lays_only_its_differences_over_the_study(project):
    assert retrace("use", "lanes", "--demo").returncode == 0
    params, full, overlay = load(), read_yaml(Path("studies/lanes.yaml")), read_yaml(Path("studies/lanes.demo.yaml"))
    assert params.report.real_data is False
    assert params.data.synthetic.scene == "lanes"
    assert params.seed == full["seed"]
    assert "seed" not in overlay
    assert "# hashed: the number of CPU threads" in (project / "params.yaml").read_text()


def test_hand_edits_are_not_overwritten_without_force(project):
    retrace("use", "lanes", "--demo")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("seed: 17", "seed: 99"))
    refused = retrace("use", "lanes")
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert load().seed == 99
    assert retrace("use", "lanes", "--force").returncode == 0
    assert load().seed == 17


def test_comments_and_spacing_are_not_hand_edits(project):
    retrace("use", "lanes", "--demo")
    path = project / "params.yaml"
    path.write_text(path.read_text() + "# a note to myself\n\n")
    assert retrace("use", "lanes").returncode == 0


def test_committed_edits_and_those_of_a_study_file_are_not_in_the_way(project):
    path = project / "params.yaml"
    retrace("use", "lanes", "--demo")
    path.write_text(path.read_text().replace("seed: 17", "seed: 99"))
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "params.yaml"], [*identity, "commit", "-qm", "seed 99"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    assert retrace("use", "offroad", "--demo").returncode == 0
    path.write_text(path.read_text().replace("seed: 17", "seed: 98"))
    assert retrace("use", "lanes").returncode == 1
    study = project / "studies" / "offroad.yaml"
    study.write_text(study.read_text().replace("seed: 17", "seed: 98"))
    assert retrace("use", "lanes").returncode == 0


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize("study", ["bdd100k", "lanes", "offroad", "plates", "slopes"])
def test_params_yaml_has_every_phase_whole_with_the_values_of_the_study_file(project, study, demo):
    assert retrace("use", study, *["--demo"] * demo).returncode == 0
    written, values = read_yaml(Path("params.yaml")), read_yaml(Path(f"studies/{study}.yaml"))
    if demo:
        values = merge(values, read_yaml(Path(f"studies/{study}.demo.yaml")))
    assert load() == parse(values)
    assert "phase_defaults" not in written
    for phase in written["phases"].values():
        own = {"hyperparameters"} if phase.get("engine") == "ultralytics" else {"epochs", "optimizer"}
        assert own | {"model"} <= set(phase) and next(iter(phase)) == "note"


def test_what_a_study_file_leaves_out_is_written_out(project):
    study = read_yaml(Path("studies/lanes.yaml"))
    for key in ("evaluate", "rebalance", "expected", "runtime", "machine", "ablation"):
        del study[key]
    del study["report"]["focus_classes"], study["phase_defaults"]["fabric"]["augment"]
    Path("studies/short.yaml").write_text(json.dumps(study | {"study": "short"}))
    assert retrace("use", "short").returncode == 0
    written, params = read_yaml(Path("params.yaml")), load()
    assert written["evaluate"] == params.evaluate.model_dump(mode="json")
    assert {"rebalance", "expected", "runtime", "machine"} <= set(written) and "ablation" not in written
    assert written["report"]["focus_classes"] == []
    assert all(phase["augment"]["flip"] == 0.0 for phase in written["phases"].values())


def test_a_study_file_is_written_without_a_change_of_how_others_write_yaml(project):
    written_out(Path("studies/lanes.yaml"))
    stream = io.StringIO()
    YAML().dump({"seed": None, "epochs": 2}, stream)
    assert stream.getvalue() == "seed:\nepochs: 2\n"


def test_a_params_yaml_that_shares_defaults_is_refused_with_the_way_out(project):
    values = read_yaml(Path("studies/lanes.yaml"))
    Path("params.yaml").write_text(json.dumps(values))
    with pytest.raises(UserError, match="phase_defaults: only study files share defaults"):
        load()


def test_a_params_yaml_or_study_file_saved_as_utf_16_is_named_as_such(project):
    for path, words in ((Path("params.yaml"), ("lanes",)), (Path("studies/mine.yaml"), ("mine", "--force"))):
        path.write_text(Path("studies/lanes.yaml").read_text(encoding="utf-8"), encoding="utf-16")
        result = retrace("use", *words)
        assert result.returncode == 1 and f"error: {path}: the text is in UTF-16, not in UTF-8" in result.stderr
        path.unlink()


def test_a_study_file_with_a_byte_order_mark_is_read(project):
    text = Path("studies/lanes.yaml").read_text(encoding="utf-8").replace("study: lanes", "study: marked")
    Path("studies/marked.yaml").write_text(text, encoding="utf-8-sig")
    assert retrace("use", "marked").returncode == 0
    assert load().study == "marked"


def test_a_params_file_from_elsewhere_counts_as_hand_made(project):
    (project / "params.yaml").write_text("seed: 1\n")
    assert retrace("use", "lanes").returncode == 1


def test_unknown_study_names_the_allowed_ones(project):
    result = retrace("use", "lane")
    assert result.returncode == 1
    assert "'lane': no such study; allowed: " in result.stderr
    assert "lanes" in result.stderr


def test_studies_lists_each_with_task_phases_and_data(project):
    result = retrace("studies")
    assert result.returncode == 0
    for part in ("lanes", "segmentation", "mae_ohem", "data/external/lanes"):
        assert part in result.stdout


def test_outside_a_project_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = retrace("studies")
    assert result.returncode == 1
    assert "run this in the project's folder" in result.stderr


def test_help_imports_nothing_heavy(project):
    heavy = ("torch", "ultralytics", "cv2", "scipy", "pydantic")
    code = f"import sys, retrace.cli.app; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
