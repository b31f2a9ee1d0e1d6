"""The whole pipeline through DVC, at tiny size: it runs, repeats to the bit, and a second run does nothing."""

import json

import pytest

from retrace.config import read_yaml
from tests.support.projects import copy_of, make_project, out_hashes, run, tiny_params
from tests.support.warm import FRESH

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lanes(tmp_path_factory, finished_study):
    project = copy_of(finished_study("lanes"), tmp_path_factory.mktemp("lanes") / "project")
    with open(project / "params.yaml", "a", encoding="utf-8") as stream:
        stream.write("# a comment that must survive -S\n")
    run(project, "git", "commit", "-qam", "a comment", check=True)
    return project


def test_every_stage_leaves_what_the_architecture_promises(lanes):
    for path in (
        "data/lanes/raw/manifest.jsonl",
        "data/lanes/raw/problems.csv",
        "data/lanes/splits/summary.json",
        "models/lanes/none/start.json",
        "models/lanes/pretrain/encoder.safetensors",
        "models/lanes/baseline/weights.safetensors",
        "models/lanes/mae_ohem/history.csv",
        "metrics/lanes/baseline.json",
        "metrics/lanes/mae_ohem/confusion_test.npy",
        "reports/lanes/report.md",
        "reports/lanes/report.html",
        "reports/lanes/provenance.json",
        "metrics.json",
        "plots/history.csv",
    ):
        assert (lanes / path).is_file(), path


def test_a_second_run_is_up_to_date(lanes):
    result = run(lanes, "dvc", "repro", check=True)
    assert "Data and pipelines are up to date." in result.stdout
    assert run(lanes, "dvc", "status", check=True).stdout.strip() == "Data and pipelines are up to date."


def test_a_second_clone_with_an_empty_cache_gives_the_same_bytes(lanes, tmp_path):
    other = make_project(tmp_path / "elsewhere", tiny_params("lanes"))
    run(other, "dvc", "repro", check=True, env=FRESH)
    assert out_hashes(other) == out_hashes(lanes)
    assert len(out_hashes(lanes)) == 10


def test_device_settings_are_not_hashed_and_change_nothing(lanes):
    before = (lanes / "params.yaml").read_text()
    try:
        (lanes / "params.yaml").write_text(before.replace("workers: 0", "workers: 2"))
        assert "up to date" in run(lanes, "dvc", "repro", check=True).stdout
    finally:
        (lanes / "params.yaml").write_text(before)


def test_the_active_phase_changes_only_the_report(lanes):
    result = run(lanes, "dvc", "exp", "run", "-n", "base", "-S", "phase=baseline", check=True)
    assert "Stage 'finetune@baseline' didn't change" in result.stdout
    assert "Running stage 'report'" in result.stdout
    assert "Running stage 'finetune" not in result.stdout
    text = (lanes / "params.yaml").read_text()
    assert "phase: baseline" in text and "# a comment that must survive -S" in text
    metrics = json.loads((lanes / "metrics.json").read_text())
    assert all(isinstance(value, (int, float, str)) for value in metrics.values())
    shown = run(lanes, "dvc", "exp", "show", "--only-changed", "--csv", check=True).stdout
    assert "base" in shown
    run(lanes, "dvc", "metrics", "show", check=True)
    run(lanes, "dvc", "plots", "show", check=True)


def test_a_tagged_model_is_fetched_from_the_remote(finished_study, tmp_path):
    project = copy_of(finished_study("lanes"), tmp_path / "project")
    run(project, "dvc", "remote", "add", "-d", "shelf", str(tmp_path / "remote"), check=True)
    run(project, "dvc", "push", "-q", check=True)
    run(project, "git", "commit", "-qam", "a remote", check=True)
    run(project, "git", "tag", "-a", "lanes@v1.0.0", "-m", "first", check=True)
    (tmp_path / "elsewhere").mkdir()
    run(tmp_path / "elsewhere", "dvc", "artifacts", "get", str(project), "lanes", "-o", "model", check=True)
    phase = read_yaml(project / "params.yaml")["phase"]
    got = (tmp_path / "elsewhere" / "model" / "weights.safetensors").read_bytes()
    assert got == (project / "models" / "lanes" / phase / "weights.safetensors").read_bytes()


def test_a_key_of_a_phase_is_set_as_typed(finished_study, tmp_path):
    project = copy_of(finished_study("lanes"), tmp_path / "project")
    change = ("-S", "phases.mae_ohem.optimizer.lr=0.001", "-S", "phases.mae_ohem.epochs=1")
    run(project, "dvc", "exp", "run", "-n", "slower", *change, check=True)
    phases = read_yaml(project / "params.yaml")["phases"]
    assert phases["mae_ohem"]["optimizer"]["lr"] == 0.001 and phases["baseline"]["optimizer"]["lr"] != 0.001
