"""`retrace ablate`: what must be up to date, what it costs, and an interrupt. Whole ablations: test_ablate_runs.py."""

import json
import sys
import time
from pathlib import Path

import pytest

from retrace.config import read_yaml
from retrace.config.load import load
from retrace.errors import UserError
from retrace.files import write_json
from retrace.sweeps import experiments as running
from retrace.sweeps.estimate import announce, room, seconds_each
from retrace.sweeps.experiments import check_upstream, upstream
from tests.support.fixtures_ablate import edit, enter_copy, make
from tests.support.projects import environment, run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return make(tmp_path_factory.mktemp("names") / "project")


@pytest.fixture
def project(kept, tmp_path, monkeypatch):
    return enter_copy(kept, tmp_path, monkeypatch)


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
    base = read_yaml(Path("params.yaml"))["phases"]["backbone"]
    edit(project, phases__other=base | {"init": "pretrain" if load().pretrain.method != "none" else "none"})
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

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "queue_states", interrupt)
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
from retrace.sweeps.design import Experiment
from retrace.sweeps.experiments import run_in_queue
from retrace.sweeps.workspace import Workspace
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
    files = {"dvc.yaml": SLOW_PIPELINE, "params.yaml": "x: 0\n", ".gitignore": "training\n", "retrace/__init__.py": ""}
    files["stages/slow.py"] = "import pathlib, time\npathlib.Path('training').touch()\ntime.sleep(600)\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "a"]):
        run(tmp_path, *words, check=True)
    done = run(tmp_path, sys.executable, str(script), env=environment())
    assert done.returncode == 130 and "the queue was stopped" in done.stderr, done.stderr
    for _ in range(100):
        if not (left := running.left_running(tmp_path)):
            break
        time.sleep(0.2)
    assert not left
    assert run(tmp_path, "git", "for-each-ref", "refs/exps").stdout.count("\n") <= 3  # queue entries alone


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
