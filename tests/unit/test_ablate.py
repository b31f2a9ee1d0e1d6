"""`retrace ablate`: designs, names, refusals, every study's block. Pages: test_ablate_pages.py."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from retrace.cli import ablate as command
from retrace.cli.use import render
from retrace.config import read_yaml
from retrace.config.ablation import changed
from retrace.config.load import load, parse
from retrace.errors import UserError
from retrace.sweeps.design import Experiment, experiments
from tests.support.fixtures_ablate import UPSTREAM, commit, edit, enter_copy, lock, make
from tests.support.projects import write_params


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return make(tmp_path_factory.mktemp("names") / "project")


@pytest.fixture
def project(kept, tmp_path, monkeypatch):
    return enter_copy(kept, tmp_path, monkeypatch)


def names(design="full"):
    return [experiment.name for experiment in experiments(design, load(), read_yaml(Path("params.yaml")))]


def test_a_full_design_is_every_combination_with_every_seed(project):
    planned = experiments("full", load(), read_yaml(Path("params.yaml")))
    assert len(planned) == len({e.name for e in planned}) == 32
    assert {(e.cell, e.seed) for e in planned} == {(c, s) for c in {e.cell for e in planned} for s in (17, 18)}
    assert planned[0].name.startswith("offroad-aggressive-none-s17-")
    assert planned[-1].name.startswith("offroad-aggressive-class_weights-dice-crop-augmentation-s18-")


def test_every_run_has_a_seed_of_its_own_that_other_factors_do_not_change(project):
    planned = experiments("full", load(), read_yaml(Path("params.yaml")))
    assert len({e.training_seed for e in planned}) == 32
    assert all(e.changes["phases.aggressive.seed"] == e.training_seed < 2**31 for e in planned)
    seeds = {(e.cell, e.seed): e.training_seed for e in planned}
    values = read_yaml(Path("params.yaml"))
    first, *rest = values["ablation"]["factors"].items()
    values["ablation"]["factors"] = dict([*rest, first])
    write_params(project, values)
    moved = experiments("full", load(), read_yaml(Path("params.yaml")))
    assert {((e.cell[-1], *e.cell[:-1]), e.seed): e.training_seed for e in moved} == seeds
    values["ablation"]["factors"] = dict(rest)
    write_params(project, values)
    fewer = experiments("full", load(), read_yaml(Path("params.yaml")))
    assert {((0, *e.cell), e.seed): e.training_seed for e in fewer}.items() <= seeds.items()


def test_small_designs_reuse_the_experiments_of_the_full_one(project):
    full = set(names())
    assert set(names("one-at-a-time")) < full
    assert set(names("leave-one-out")) < full
    assert len(names("one-at-a-time")) == len(names("leave-one-out")) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"phases__aggressive__optimizer__lr": 1e-3},
        {"phases__aggressive__epochs": 7},
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
    (project / "retrace" / "training" / "losses.py").write_text("# changed\n")
    commit(project)
    for path in (None, *UPSTREAM):
        lock(project, UPSTREAM | ({path: "d" * 32} if path else {}))
        now = set(names())
        assert not now & seen
        seen |= now


def test_a_factor_may_switch_the_loss(project):
    from dvc.utils.hydra import apply_overrides

    base = render("lanes", True)
    (project / "params.yaml").write_text(base)
    outs = {f"data/lanes/{name}": "a" * 32 for name in ("raw", "splits")}
    lock(project, outs | {f"models/lanes/{name}": "b" * 32 for name in ("none", "pretrain")})
    losses = []
    for experiment in experiments("full", load(), read_yaml(Path("params.yaml"))):
        (project / "params.yaml").write_text(base)
        apply_overrides("params.yaml", experiment.overrides())
        losses.append((experiment.cell[1], load().phases["mae_ohem"].loss))
    assert {(on, loss.name, hasattr(loss, "ohem_threshold")) for on, loss in losses} == {
        (0, "cross_entropy", False),
        (1, "ohem", True),
    }


def test_an_override_may_switch_the_optimizer(project):
    from dvc.utils.hydra import apply_overrides

    (project / "params.yaml").write_text(render("plates", False))
    apply_overrides("params.yaml", ["phases.mobilenet.optimizer.name=adamw"])
    with pytest.raises(UserError) as error:
        load()
    assert (error.value.key, error.value.value) == ("phases.mobilenet.optimizer.momentum", 0.9)
    apply_overrides("params.yaml", ["phases.mobilenet.optimizer.momentum=null"])
    assert load().phases["mobilenet"].optimizer.name == "adamw"
    apply_overrides("params.yaml", ["phases.mobilenet.optimizer.name=sgd", "phases.mobilenet.optimizer.momentum=0.5"])
    assert load().phases["mobilenet"].optimizer.momentum == 0.5


def test_the_values_reach_params_yaml_as_they_are(project):
    from dvc.utils.hydra import apply_overrides

    original = (project / "params.yaml").read_text()
    values = yaml.safe_load(original)
    values["ablation"]["factors"]["dice"] = {
        "off": {"monitor": "mIoU", "loss.dice": 0.0, "patience": None, "sync_batchnorm": False},
        "on": {"monitor": "IoU/Dry Grass", "loss.dice": 1e-05, "patience": 3, "sync_batchnorm": True},
    }
    write_params(project, values)
    base = (project / "params.yaml").read_text()
    for experiment in experiments("full", load(), read_yaml(Path("params.yaml")))[::7]:
        (project / "params.yaml").write_text(base)
        apply_overrides("params.yaml", experiment.overrides())
        now = read_yaml(Path("params.yaml"))
        assert now == changed(values, experiment.changes)
        assert parse(now).phases["aggressive"].seed == experiment.training_seed
    for text in ("it's, [off]: a=b", "null", "1e-05", " {x}: 'y' \\ #"):
        apply_overrides("params.yaml", Experiment("x", (0,), 1, 1, {"report.title": text}).overrides())
        assert read_yaml(Path("params.yaml"))["report"]["title"] == text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ablation__phase": "nope"}, "ablation.phase = 'nope'"),
        ({"ablation__seeds": [17]}, r"ablation.seeds = \[17\]: give two or more"),
        ({"ablation__seeds": [17, 17]}, r"ablation.seeds = \[17, 17\]: 17 is named twice"),
        ({"ablation__seeds": [-1, 2]}, r"^params.yaml: ablation.seeds.0 = -1: .* equal to 0$"),
        ({"ablation__factors": {}}, "ablation.factors: 0 factors; allowed: 1 to 8"),
        (
            {"ablation__factors__dice": {"off": {"seed": 1}, "on": {"seed": 2}}},
            r"dice: seed cannot be .* ablation.seeds",
        ),
        (
            {"ablation__factors__dice": {"off": {"note": "a"}, "on": {"note": "b"}}},
            "dice: note cannot be a factor's key",
        ),
        (
            {"ablation__factors__dice__on": {"loss.dice": -1.0}},
            "ablation.factors.dice.on.loss.dice = -1.0: .*equal to 0",
        ),
        (
            {"ablation__factors__crop": {"off": {"augment.krop": 0}, "on": {"augment.krop": 1}}},
            "crop.off.augment.krop: unknown key; allowed: color, crop, flip, scale",
        ),
        ({"ablation__factors__dice__on": {"loss.dize": 1.0}}, "off and on must set the same keys"),
        (
            {"ablation__factors__dice": {"off": {"los": 1}, "on": {"los": 2}}},
            "factors.dice.off.los: unknown key",
        ),
        ({"ablation__factors__crop__on": {"augment.crop": 4096}}, "larger than input_size"),
        ({"ablation__factors__dice": {"off": {"augment": {}}, "on": {"augment": {"flip": 1.0}}}}, "belongs to one"),
    ],
)
def test_a_wrong_block_is_refused_before_anything_runs(project, change, words):
    edit(project, **change)
    with pytest.raises(UserError, match=words):
        load()


@pytest.mark.parametrize("engine", ["dvc", "ray"])
def test_a_dry_run_lists_everything_and_runs_nothing(project, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "ray", None)  # not installed
    monkeypatch.setattr(subprocess, "Popen", None)
    said = []
    monkeypatch.setattr(command, "find", lambda names: {names[3]: "ref"})
    monkeypatch.setattr(command, "head", lambda: "0" * 40)
    monkeypatch.setattr("retrace.sweeps.inputs._tracked", lambda: dict.fromkeys(_code_deps(), "1"))
    command.main("full", None, engine, "auto", 0, True, said.append)
    assert "32 experiments, 1 of them exist for these inputs, 31 to run" in said[0]
    assert said[1].count("to run") == 31 and said[1].count("exists") == 1
    assert not Path(".retrace").exists()


FACTORS = {"lanes": 2, "offroad": 4, "bdd100k": 3, "slopes": 5, "plates": 3}


@pytest.mark.parametrize("demo", [True, False])
@pytest.mark.parametrize("study", FACTORS)
def test_every_study_has_an_ablation_that_a_dry_run_lists(project, study, demo):
    (project / "params.yaml").write_text(render(study, demo))
    params = load()
    factors, seeds = FACTORS[study], len(params.ablation.seeds)
    folders = [f"data/{study}/raw", f"data/{study}/splits"]
    folders += [f"models/{study}/{name}" for name in ("none", "pretrain", *params.phases)]
    lock(project, {path: f"{index:032x}" for index, path in enumerate(folders)})
    commit(project)
    said = []
    for design, combinations in (("full", 2**factors), ("leave-one-out", factors + 1)):
        said.clear()
        command.main(design, None, "dvc", "auto", 0, True, said.append)
        rows = said[1].splitlines()
        assert said[0].startswith(f"{combinations * seeds} experiments, 0 of them exist")
        assert len(rows) == combinations * seeds + 1 and rows[0].split()[:factors] == list(params.ablation.factors)
        assert all(f"{study}-{params.ablation.phase}-" in row for row in rows[1:])
    values = read_yaml(Path("params.yaml"))
    for factor in params.ablation.factors.values():  # the phase as it stands has one of the levels
        levels = []
        for level in (factor.off, factor.on):
            whole = {f"phases.{params.ablation.phase}.{key}": value for key, value in level.items()}
            levels.append(parse(changed(values, whole)))
        assert params in levels, factor


def test_a_factor_may_change_what_the_phase_starts_from(project):
    (project / "params.yaml").write_text(render("lanes", True))
    outs = {f"data/lanes/{name}": "a" * 32 for name in ("raw", "splits")}
    outs |= {"models/lanes/none": "b" * 32, "models/lanes/mae_ohem": "f" * 32}
    lock(project, outs | {"models/lanes/pretrain": "c" * 32})
    for experiment in experiments("full", load(), read_yaml(Path("params.yaml"))):
        start = "pretrain" if experiment.cell[0] else "none"
        assert [path for path in experiment.made_from if path.startswith("models/")] == [f"models/lanes/{start}"]
        assert f"++phases.mae_ohem.init='{start}'" in experiment.overrides()
    lock(project, outs)
    with pytest.raises(UserError, match="dvc.lock knows nothing of models/lanes/pretrain"):
        experiments("full", load(), read_yaml(Path("params.yaml")))
    edit(project, ablation__factors__mae={"off": {"init": "gone"}, "on": {"init": "pretrain"}})
    with pytest.raises(UserError, match="phases.mae_ohem.init = 'gone': no such phase; allowed: none, pretrain, base"):
        experiments("full", load(), read_yaml(Path("params.yaml")))


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


def test_a_level_that_dvc_would_merge_is_refused(project):
    values = read_yaml(Path("params.yaml"))
    values["ablation"]["factors"] = {"loss": {"off": {"loss": {"name": "ohem"}}, "on": {"loss": {"dice": 1.0}}}}
    with pytest.raises(UserError, match=r"factors.loss: loss holds several keys; .* loss.name: ..."):
        experiments("full", parse(values), values)


@pytest.mark.parametrize("value", ["it's", "a\\b", "a\\", "a\\'b", "null", "1", [1.5, 2], None, True, 1e-05])
def test_dvc_sets_the_very_value_of_a_level(tmp_path, value):
    from dvc.utils.hydra import apply_overrides

    experiment = Experiment("x", (1,), 0, 0, {"phases.x.key": value})
    (tmp_path / "params.yaml").write_text("phases: {x: {key: 7}}\n")
    apply_overrides(tmp_path / "params.yaml", experiment.overrides())
    assert read_yaml(tmp_path / "params.yaml")["phases"]["x"]["key"] == value
