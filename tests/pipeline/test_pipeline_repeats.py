"""Repeats through DVC, at tiny size: a seed added trains only that, and a phase's change trains its repeats again."""

import json

import pytest

from retrace.config import read_yaml
from tests.support.projects import commit, copy_of, out_hashes, run, write_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory, finished_study):
    """A finished study, with a repeat of its first phase added after the fact."""
    project = copy_of(finished_study("lanes"), tmp_path_factory.mktemp("repeats") / "project")
    before = out_hashes(project)
    ran = repeated(project, [18])
    assert ran == ["finetune_repeat@baseline-18", "evaluate_repeat@baseline-18", "report"]
    after = out_hashes(project)
    assert {path: after[path] for path in before} == before
    commit(project, "a repeat")
    return project


def repeated(project, seeds):
    """The stages that run with these repeats."""
    values = {**read_yaml(project / "params.yaml"), "repeats": {"phases": ["baseline"], "seeds": seeds}}
    write_params(project, values)
    result = run(project, "dvc", "repro", check=True)
    return [line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage '")]


def test_a_seed_added_trains_only_that(project):
    assert repeated(project, [18, 19]) == ["finetune_repeat@baseline-19", "evaluate_repeat@baseline-19", "report"]
    assert "up to date" in run(project, "dvc", "status", check=True).stdout
    outs = out_hashes(project)
    trained = [outs[f"models/lanes/baseline{end}"] for end in ("", "-18", "-19")]
    assert len(set(trained)) == 3  # every seed gives weights of its own
    found = json.loads((project / "reports/lanes/derived.json").read_text())["seeds"]["phases"]["baseline"]
    assert found["seeds"] == [17, 18, 19] and len(found["scores"]["test"]["mIoU"]["values"]) == 3


def test_an_experiment_is_one_row_with_the_same_columns(project):
    found = json.loads(run(project, "dvc", "exp", "show", "--json", check=True).stdout)
    metrics = found[0]["data"]["metrics"]
    assert list(metrics) == ["metrics.json"]
    assert set(metrics["metrics.json"]["data"]) == set(json.loads((project / "metrics.json").read_text()))


def test_a_change_of_a_phase_makes_its_repeats_stale(project):
    values = read_yaml(project / "params.yaml")
    try:
        phases = {**values["phases"], "baseline": {**values["phases"]["baseline"], "patience": 7}}
        write_params(project, {**values, "phases": phases})
        stale = json.loads(run(project, "dvc", "status", "--json", check=True).stdout)
        assert {"finetune@baseline", "finetune_repeat@baseline-18"} <= set(stale)
        assert "finetune@mae_ohem" not in stale
    finally:
        write_params(project, values)


def test_a_seed_that_a_phase_has_already_is_refused_before_anything_runs(project):
    result = run(project, "dvc", "exp", "run", "-S", "seed=18")
    assert result.returncode != 0
    assert "phase baseline is trained with seed 18 anyway" in result.stdout + result.stderr
    assert not [line for line in result.stdout.splitlines() if line.startswith("Updating lock file")]
