"""`retrace ablate`: designs, names, refusals, pages from known results. Real experiments: test_ablate_runs.py."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.ablation.attribution import attribute, sentence
from stages.ablation.design import Experiment, experiments
from stages.ablation.estimate import announce, seconds_each
from stages.ablation.results import Results
from stages.commands import ablate as command
from stages.commands.use import render
from stages.errors import UserError
from stages.files import write_json
from stages.params import load, parse, read_yaml
from stages.params.ablation import changed
from stages.reporting.numbers import Ledger, plain, recheck
from tests.projects import make_project, run, tiny_params, write_params

UPSTREAM = {"data/offroad/raw": "a" * 32, "data/offroad/splits": "b" * 32, "models/offroad/backbone": "c" * 32}


def lock(project: Path, outs: dict[str, str]) -> None:
    """A dvc.lock as an earlier run would have left it."""
    stages = {f"stage{index}": {"outs": [{"path": p, "md5": m}]} for index, (p, m) in enumerate(outs.items())}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("names") / "project", tiny_params("offroad"))
    lock(project, UPSTREAM)
    run(project, "git", "add", "dvc.lock", check=True)
    run(project, "git", "commit", "-qm", "a run", check=True)
    return project


@pytest.fixture
def project(kept, tmp_path, monkeypatch):
    shutil.copytree(kept, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for key in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(key, "test")
    for key in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(key, "test@example.org")
    return tmp_path / "project"


def names(design="full"):
    return [experiment.name for experiment in experiments(design, load(), read_yaml(Path("params.yaml")))]


def edit(project: Path, **changes) -> None:
    write_params(
        project, changed(read_yaml(project / "params.yaml"), {k.replace("__", "."): v for k, v in changes.items()})
    )


def commit(project: Path) -> None:
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", "an edit", check=True)


def test_a_full_design_is_every_combination_with_every_seed(project):
    planned = experiments("full", load(), read_yaml(Path("params.yaml")))
    assert len(planned) == len({e.name for e in planned}) == 32
    assert {(e.cell, e.seed) for e in planned} == {(c, s) for c in {e.cell for e in planned} for s in (17, 18)}
    assert planned[0].name.startswith("offroad-aggressive-none-s17-")
    assert planned[-1].name.startswith("offroad-aggressive-class_weights-dice-crop-augmentation-s18-")


def test_small_designs_reuse_the_experiments_of_the_full_one(project):
    full = set(names())
    assert set(names("one-at-a-time")) < full
    assert set(names("leave-one-out")) < full
    assert len(names("one-at-a-time")) == len(names("leave-one-out")) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"phases__aggressive__optimizer__lr": 1e-3},
        {"phase_defaults__fabric__epochs": 7},
        {"evaluate__bootstrap": 200},
        {"runtime__threads": 2},
    ],
)
def test_changed_parameters_give_new_names(project, change):
    before = set(names())
    edit(project, **change)
    assert not before & set(names())


@pytest.mark.parametrize(
    "change", [{"machine__workers": 3}, {"report__title": "Other"}, {"ablation__factors__dice__label": "DICE"}]
)
def test_what_does_not_matter_to_a_result_keeps_the_names(project, change):
    before = names()
    edit(project, **change)
    (project / "README.md").write_text("other words")
    commit(project)
    assert names() == before


def test_changed_code_data_and_starting_weights_give_new_names(project):
    seen = set(names())
    (project / "stages" / "training" / "losses.py").write_text("# changed\n")
    commit(project)
    for outs in ({}, {"data/offroad/splits": "d" * 32}, {"models/offroad/backbone": "e" * 32}):
        lock(project, UPSTREAM | outs)
        now = set(names())
        assert not now & seen
        seen |= now


def test_the_values_reach_params_yaml_as_they_are(project):
    from dvc.utils.hydra import apply_overrides

    original = (project / "params.yaml").read_text()
    values = yaml.safe_load(original)
    values["ablation"]["factors"]["dice"] = {
        "off": {"note": "it's, [off]: a=b", "loss.dice": 0.0, "patience": None, "sync_batchnorm": False},
        "on": {"note": "null", "loss.dice": 1e-05, "patience": 3, "sync_batchnorm": True},
    }
    write_params(project, values)
    base = (project / "params.yaml").read_text()
    for experiment in experiments("full", load(), read_yaml(Path("params.yaml")))[::7]:
        (project / "params.yaml").write_text(base)
        apply_overrides("params.yaml", experiment.overrides())
        now = read_yaml(Path("params.yaml"))
        assert now == changed(values, experiment.changes)
        assert parse(now).phases["aggressive"].seed == experiment.seed


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ablation__phase": "nope"}, "ablation.phase = 'nope'"),
        ({"ablation__seeds": [17]}, "ablation.seeds"),
        ({"ablation__seeds": [17, 17]}, "named twice"),
        ({"ablation__factors__dice__on": {"loss.dice": -1.0}}, "ablation.factors.dice.on: loss.dice"),
        ({"ablation__factors__dice__on": {"loss.dize": 1.0}}, "off and on must set the same keys"),
        ({"ablation__factors__dice": {"off": {"los": 1}, "on": {"los": 2}}}, "ablation.factors.dice.off: los"),
        ({"ablation__factors__crop__on": {"augment.crop": 4096}}, "larger than input_size"),
        ({"ablation__factors__dice": {"off": {"augment": {}}, "on": {"augment": {"flip": 1.0}}}}, "belongs to one"),
    ],
)
def test_a_wrong_block_is_refused_before_anything_runs(project, change, words):
    edit(project, **change)
    with pytest.raises(UserError, match=words):
        load()


def test_a_dry_run_lists_everything_and_runs_nothing(project, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    said = []
    monkeypatch.setattr(command, "find", lambda names: {names[3]: "ref"})
    monkeypatch.setattr(command, "head", lambda: "0" * 40)
    monkeypatch.setattr("stages.ablation.inputs._tracked", lambda: dict.fromkeys(_code_deps(), "1"))
    command.main("full", None, "dvc", "auto", 0, True, said.append)
    assert "32 experiments, 1 of them exist for these inputs, 31 to run" in said[0]
    assert said[1].count("to run") == 31 and said[1].count("exists") == 1
    assert not Path(".retrace").exists()


def _code_deps():
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    return {dep for stage in ("finetune", "evaluate") for dep in stages[stage]["do"]["deps"] if "$" not in dep}


def test_what_differs_from_the_commit_is_named(project):
    edit(project, seed=3)
    with pytest.raises(UserError, match=r"params.yaml: differs from the last commit"):
        command.main("full", None, "dvc", "auto", 0, True, print)


def test_wrong_words_are_refused(project):
    with pytest.raises(UserError, match="--design half: .*full, one-at-a-time, leave-one-out"):
        command.main("half", None, "dvc", "auto", 0, True, print)
    with pytest.raises(UserError, match="--engine slurm"):
        command.main("full", None, "slurm", "auto", 0, True, print)
    values = read_yaml(Path("params.yaml"))
    del values["ablation"]
    write_params(project, values)
    with pytest.raises(UserError, match="no block `ablation`"):
        command.main("full", None, "dvc", "auto", 0, True, print)


def test_cost_comes_from_the_last_run(tmp_path):
    assert seconds_each("offroad", "aggressive", tmp_path) is None
    for path, seconds in (("aggressive/finetune", 100.0), ("aggressive/evaluate", 20.0), ("report", 5.0)):
        write_json(tmp_path / "logs" / "offroad" / f"{path}.json", {"seconds": seconds, "status": "SUCCESS"})
    each = seconds_each("offroad", "aggressive", tmp_path)
    assert each == pytest.approx(135.0)
    assert "8 to run\nabout 2 min each" in announce(8, 0, each, 2)
    assert "18 min of computing, 9 min with 2 at a time" in announce(8, 0, each, 2)
    assert "unknown" in announce(1, 0, None, 1)
    assert announce(0, 4, each, 1).endswith("0 to run")


def told(label, row, most):
    found = {"headline": "mIoU", "factors": {"f": {"label": label}}, "effects": {"f": {"mIoU": row}}}
    ledger = Ledger()
    ledger.add("x.json", found | {"most": {"f": most}})
    return plain(sentence(ledger, "x.json", found | {"most": {"f": most}}, "f"))


def test_sentences_say_what_the_numbers_say():
    sure = {"value": -0.019, "low": -0.026, "high": -0.012}
    most = {"costs": {"name": "IoU/Sky", "value": -0.042, "low": -0.06, "high": -0.024}}
    assert told("random crop", sure, most) == (
        "random crop: -1.9 mIoU points [-2.6, -1.2], costs Sky most (-4.2 [-6.0, -2.4])"
    )
    unsure = {"value": 0.002, "low": -0.005, "high": 0.009}
    assert told("Dice", unsure, {}) == "Dice: +0.2 mIoU points [-0.5, +0.9], no measurable effect"
    one_image = {"value": 0.002, "low": None, "high": None}
    assert told("Dice", one_image, {}) == "Dice: +0.2 mIoU points, without an interval (too few images)"


def test_a_level_that_dvc_would_merge_is_refused(project):
    values = read_yaml(Path("params.yaml"))
    values["ablation"]["factors"] = {"loss": {"off": {"loss": {"name": "ohem"}}, "on": {"loss": {"dice": 1.0}}}}
    with pytest.raises(UserError, match=r"factors.loss: loss holds several keys; .* loss.name: ..."):
        experiments("full", parse(values), values)


@pytest.mark.parametrize("value", ["it's", "a\\b", "a\\", "a\\'b", "null", "1", [1.5, 2], None, True, 1e-05])
def test_dvc_sets_the_very_value_of_a_level(tmp_path, value):
    from dvc.utils.hydra import apply_overrides

    experiment = Experiment("x", (1,), 0, {"phases.x.key": value})
    (tmp_path / "params.yaml").write_text("phases: {x: {key: 7}}\n")
    apply_overrides(tmp_path / "params.yaml", experiment.overrides())
    assert read_yaml(tmp_path / "params.yaml")["phases"]["x"]["key"] == value


def simulated(params, design="full", images=30):
    """Results in which the random crop costs 5 points everywhere, and 20 on Sky; nothing else has an effect."""
    planned = experiments(design, params, read_yaml(Path("params.yaml")))
    random = np.random.default_rng(1)
    crop = np.array([list(params.ablation.factors).index("crop")])
    on = np.array([e.cell for e in planned])[:, crop[0]]
    weights = random.multinomial(images, np.full(images, 1 / images), 200) / images
    scores, draws = {}, {}
    for name in ["mIoU", "focus_mIoU", *(f"IoU/{c}" for c in params.classes)]:
        per_image = 0.6 + random.normal(0, 0.1, (images, 1)) + random.normal(0, 0.01, (images, len(planned)))
        per_image = per_image - on * (0.2 if name.endswith("Sky") else 0.05)
        scores[name], draws[name] = per_image.mean(0), weights @ per_image
    commits = tuple(f"{index:040d}" for index in range(len(planned)))
    return planned, Results(tuple(planned), commits, "test", images, scores, draws)


@pytest.mark.parametrize("design", ["full", "one-at-a-time", "leave-one-out"])
def test_the_pages_say_what_was_measured_and_every_number_can_be_derived_again(project, monkeypatch, design):
    from stages.ablation import report

    params = load()
    planned, results = simulated(params, design)
    monkeypatch.setattr(report, "read_results", lambda *_: results)
    lines = report.write_report(params, design, planned)
    folder = Path("reports/offroad-ablation")
    found = json.loads((folder / "ablation.json").read_text())
    assert found == json.loads(json.dumps(attribute(params, design, results)))
    assert found["effects"]["crop"]["mIoU"]["high"] < -0.03
    assert found["most"]["crop"]["costs"]["name"] == "IoU/Sky"
    assert len(found["interactions"]) == (6 if design == "full" else 0)
    page = (folder / "ablation.md").read_text()
    assert found["effects"]["crop"]["mIoU"]["value"] == pytest.approx(-0.05, abs=0.01)
    assert "costs Sky most" in page and found["sentences"]["crop"] in lines
    assert lines[-1] == "reports/offroad-ablation/ablation.html"
    html = (folder / "ablation.html").read_text()
    assert "<svg" in html and "Demo data" in html and "http" not in html.split("<svg")[0]
    assert (folder / "figures" / "effects.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "tables" / "runs.csv").read_text().splitlines()) == len(planned) + 1
    assert recheck(folder / "numbers.json") == []
    found["effects"]["crop"]["mIoU"]["value"] += 0.01
    write_json(folder / "ablation.json", found)
    assert any("effects.crop.mIoU.value" in line for line in recheck(folder / "numbers.json"))
