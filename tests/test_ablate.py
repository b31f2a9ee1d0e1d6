"""`retrace ablate`: designs, names, refusals, pages from known results. Real experiments: test_ablate_runs.py."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.ablation import experiments as running
from stages.ablation.attribution import attribute, sentence
from stages.ablation.design import Experiment, experiments
from stages.ablation.estimate import announce, room, seconds_each
from stages.ablation.experiments import check_upstream, upstream
from stages.ablation.results import Results, made_by
from stages.commands import ablate as command
from stages.commands.use import render
from stages.errors import UserError
from stages.files import write_json
from stages.params import load, parse, read_yaml
from stages.params.ablation import changed
from stages.reporting.numbers import Ledger, plain, recheck
from tests.projects import ROOT, make_project, run, tiny_params, write_params

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


def test_what_an_experiment_made_is_read_from_its_own_lock(project):
    outs = {"finetune": ["models/offroad/aggressive"], "evaluate": ["metrics/offroad/aggressive", "m.json"]}
    stages = {f"{k}@aggressive": {"outs": [{"path": p, "md5": f"{p}!"} for p in v]} for k, v in outs.items()}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    commit(project)
    assert made_by("HEAD", "aggressive") == {p: f"{p}!" for paths in outs.values() for p in paths}


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
        "off": {"monitor": "it's, [off]: a=b", "loss.dice": 0.0, "patience": None, "sync_batchnorm": False},
        "on": {"monitor": "null", "loss.dice": 1e-05, "patience": 3, "sync_batchnorm": True},
    }
    write_params(project, values)
    base = (project / "params.yaml").read_text()
    for experiment in experiments("full", load(), read_yaml(Path("params.yaml")))[::7]:
        (project / "params.yaml").write_text(base)
        apply_overrides("params.yaml", experiment.overrides())
        now = read_yaml(Path("params.yaml"))
        assert now == changed(values, experiment.changes)
        assert parse(now).phases["aggressive"].seed == experiment.training_seed


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ablation__phase": "nope"}, "ablation.phase = 'nope'"),
        ({"ablation__seeds": [17]}, r"ablation.seeds = \[17\]: allowed: two or more"),
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
            "ablation.factors.dice.on: loss.dice = -1.0: .*equal to 0",
        ),
        (
            {"ablation__factors__crop": {"off": {"augment.krop": 0}, "on": {"augment.krop": 1}}},
            "crop.off: augment.krop: unknown key; allowed: color, crop, flip, scale",
        ),
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


@pytest.mark.parametrize("engine", ["dvc", "ray"])
def test_a_dry_run_lists_everything_and_runs_nothing(project, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "ray", None)  # not installed
    monkeypatch.setattr(subprocess, "Popen", None)
    said = []
    monkeypatch.setattr(command, "find", lambda names: {names[3]: "ref"})
    monkeypatch.setattr(command, "head", lambda: "0" * 40)
    monkeypatch.setattr("stages.ablation.inputs._tracked", lambda: dict.fromkeys(_code_deps(), "1"))
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
    phase = params.phases[params.ablation.phase].model_dump()
    for factor in params.ablation.factors.values():  # the phase as it stands has one of the levels
        levels = [{k: tuple(v) if isinstance(v, list) else v for k, v in at.items()} for at in (factor.off, factor.on)]
        assert phase in [changed(phase, level) for level in levels], factor


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


class Stale:
    """A workspace in which `dvc status` finds these stages changed; it answers for the targets it is asked about."""

    def __init__(self, *stages):
        self.stages = stages

    def dvc(self, *words):
        return json.dumps({s: [{"changed deps": {"stages": "modified"}}] for s in self.stages if s in words})


def test_only_what_the_phase_starts_from_must_be_up_to_date(project):
    assert upstream(load()) == [
        "collect",
        "rebalance",
        "pretrain",
        *(f"finetune@{name}" for name in ("backbone", "head_only", "baseline")),
    ]
    edit(project, phases__other={"init": "pretrain" if load().pretrain.method != "none" else "none"})
    check_upstream(Stale("finetune@other", "evaluate@other", "finetune@aggressive", "report"), load())
    for stage in ("collect", "finetune@baseline"):
        with pytest.raises(UserError, match=f"^{stage}: not up to date"):
            check_upstream(Stale("finetune@other", stage), load())
    edit(project, ablation__factors__dice={"off": {"init": "none"}, "on": {"init": "head_only"}})
    assert upstream(load()) == ["collect", "rebalance", "pretrain", "finetune@head_only", "finetune@baseline"]


def test_an_interrupt_stops_the_queue_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    called = []

    class Queue:
        folder = root = tmp_path

        def dvc(self, *words, check=True):
            called.append(words[:3])

    def follow(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_follow_queue", follow)
    monkeypatch.setattr(running, "collect_finished", lambda *_: called.append("collected"))
    with pytest.raises(SystemExit, match="130"):
        running.run_in_queue(Queue(), "p", [], 0, 2)
    assert called[-2:] == [("queue", "stop", "--kill"), "collected"]
    said = capsys.readouterr().err
    assert "run the same command again" in said and "start from their first epoch" in said


SLOW_PIPELINE = """
stages:
  finetune: {foreach: [p], do: {cmd: python -m stages.slow, params: [x]}}
  evaluate: {foreach: [p], do: {cmd: echo}}
  report: {cmd: echo}
"""
INTERRUPTED = """
import os, signal, threading, time
from stages.ablation.design import Experiment
from stages.ablation.experiments import _left_running, run_in_queue
from stages.ablation.workspace import Workspace
workspace = Workspace("s", "HEAD", __import__("pathlib").Path.cwd())
workspace.folder = workspace.root
def interrupt():
    while not list(workspace.root.rglob("training")): time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
run_in_queue(workspace, "p", [Experiment(f"e{i}", (i,), 1, 1, {"x": i}) for i in (1, 2, 3)], 3, 1)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_after_an_interrupt_nothing_of_the_queue_runs_on(tmp_path_factory):
    tmp_path, script = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("script") / "interrupted.py"
    script.write_text(INTERRUPTED)  # elsewhere: the project's own `stages` must not be the one that is imported
    files = {"dvc.yaml": SLOW_PIPELINE, "params.yaml": "x: 0\n", ".gitignore": "training\n", "stages/__init__.py": ""}
    files["stages/slow.py"] = "import pathlib, time\npathlib.Path('training').touch()\ntime.sleep(600)\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "a"]):
        run(tmp_path, *words, check=True)
    done = run(tmp_path, sys.executable, str(script), env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 130 and "the queue was stopped" in done.stderr, done.stderr
    for _ in range(100):
        if not (left := running._left_running(tmp_path)):
            break
        time.sleep(0.2)
    assert not left
    assert run(tmp_path, "git", "for-each-ref", "refs/exps").stdout.count("\n") <= 3  # queue entries alone


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
    assert "18 min with 4 at a time (the cores have room for 1)" in announce(8, 0, each, 4, room=1)
    assert "9 min with 2 at a time, done" in announce(8, 0, each, 2, room=2)
    assert "unknown" in announce(1, 0, None, 1)
    assert announce(0, 4, each, 1).endswith("0 to run")


def test_the_cores_bound_how_many_trainings_run_at_once_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert room("s", "p", 2, "cpu", tmp_path) == 4 and room("s", "p", 16, "cpu", tmp_path) == 1
    assert room("s", "p", 2, "cuda", tmp_path) is None and room("s", "p", 2, "auto", tmp_path) is None
    for device, expected in (("cpu", 4), ("cuda:0", None)):
        write_json(tmp_path / "logs" / "s" / "p" / "finetune.json", {"device": device})
        assert room("s", "p", 2, "auto", tmp_path) == expected


def told(label, row, most, interactions=None, images=40):
    factors = {"f": {"label": label}, "g": {"label": "zoom"}, "h": {"label": "flip"}}
    found = {"headline": "mIoU", "images": images, "factors": factors, "effects": {"f": {"mIoU": row}}}
    found |= {"most": {"f": most}, "interactions": {k: {"mIoU": v} for k, v in (interactions or {}).items()}}
    ledger = Ledger()
    ledger.add("x.json", found)
    return plain(sentence(ledger, "x.json", found, "f"))


def test_sentences_say_what_the_numbers_say():
    sure = {"value": -0.019, "low": -0.026, "high": -0.012}
    most = {"costs": {"name": "IoU/Sky", "value": -0.042, "low": -0.06, "high": -0.024}}
    assert told("random crop", sure, most) == (
        "random crop: -1.9 mIoU points [-2.6, -1.2], costs Sky most (-4.2 [-6.0, -2.4])"
    )
    unsure = {"value": 0.002, "low": -0.005, "high": 0.009}
    assert told("Dice", unsure, {}) == "Dice: +0.2 mIoU points [-0.5, +0.9], no measurable effect"
    one_image = {"value": 0.002, "low": None, "high": None}
    assert told("Dice", one_image, {}, images=1) == "Dice: +0.2 mIoU points, without an interval (too few images)"
    alike = {"value": 0.0, "low": None, "high": None}
    assert told("Dice", alike, {}) == "Dice: +0.0 mIoU points, without an interval (all runs score alike)"


def test_sentences_say_which_other_change_an_effect_depends_on():
    unsure, sure = {"value": 0.002, "low": -0.005, "high": 0.009}, {"value": -0.03, "low": -0.04, "high": -0.02}
    pairs = {"f x g": sure, "f x h": unsure, "g x h": sure}
    assert told("Dice", sure, {}, pairs) == (
        "Dice: -3.0 mIoU points [-4.0, -2.0], depends on zoom (interaction -3.0 [-4.0, -2.0])"
    )
    assert ", no measurable effect on average, depends on zoom (" in told("Dice", unsure, {}, pairs)
    both = told("Dice", sure, {}, {"f x g": sure, "h x f": sure})
    assert both.endswith("zoom (interaction -3.0 [-4.0, -2.0]) and flip (interaction -3.0 [-4.0, -2.0])")


def test_a_bound_beside_zero_is_not_printed_as_zero():
    assert told("Dice", {"value": 0.002, "low": 0.0002, "high": 0.004}, {}) == (
        "Dice: +0.20 mIoU points [+0.02, +0.40]"
    )
    assert "[-0.004, +0.400], no measurable" in told("Dice", {"value": 0.002, "low": -0.00004, "high": 0.004}, {})


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
    made = tuple({"models/offroad/aggressive": f"{index:032x}.dir"} for index in range(len(planned)))
    return planned, Results(tuple(planned), commits, made, "test", images, scores, draws)


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
    assert found["made_from"].items() >= UPSTREAM.items() and "stages/finetune.py" in found["made_from"]
    assert found["runs"][3]["made"] == {"models/offroad/aggressive": f"{3:032x}.dir"}
    page = (folder / "ablation.md").read_text()
    assert "Where the experiments are (dvc exp show" in page
    assert found["effects"]["crop"]["mIoU"]["value"] == pytest.approx(-0.05, abs=0.01)
    assert all(f"{e.seed} | {e.training_seed} |" in re.sub(" +", " ", page) for e in planned)
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
