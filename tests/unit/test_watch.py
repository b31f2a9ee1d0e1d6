"""`retrace watch`: it waits, follows the pipeline from stage to stage, ends with it, and cuts no number."""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from retrace.cli import running, watch
from retrace.errors import UserError
from retrace.files import write_json
from retrace.provenance.run_log import journal

DEAD = 2**22 + 1  # above the largest process id


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc").write_text("import sys\nprint('ready', flush=True)\nsys.stdin.read()\n")
    return tmp_path


@pytest.fixture
def dvc():
    """Starts a process that looks like DVC at work and holds its locks; `stop` is its end."""
    started = []

    def start(*words):
        process = subprocess.Popen([sys.executable, "dvc", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()
        Path(".dvc/tmp/lock").write_text(f" {process.pid}\n")
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def at(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def training(phase, state="running", started=0, **values):
    status = {"study": "lanes", "phase": phase, "state": state, "error": None, "pid": os.getpid()}
    status |= {"host": os.uname().nodename, "started": at(started), "updated": at(0), "epoch": 3, "epochs": 14}
    write_json(Path("logs/lanes", phase, "status.json"), status | values)


def stage(name, status="RUNNING", phase=None, **values):
    entry = {"stage": name, "phase": phase, "status": status, "started": at(0), "seconds": 1.0}
    entry |= {"pid": os.getpid(), "host": os.uname().nodename}
    write_json(Path("logs/lanes", *([phase] if phase else []), f"{name}.json"), entry | values)


def follow(monkeypatch, *steps, width=80):
    """Watch, with one of `steps` between two looks; returns what each look showed. It must end after the last."""
    stream, shown, todo = io.StringIO(), [], list(steps)

    def sleep(_):
        shown.append(stream.getvalue())
        stream.truncate(stream.seek(0))
        assert todo, "watch goes on although nothing is to come"
        todo.pop(0)()

    console = Console(force_terminal=True, color_system=None, file=stream, width=width)
    monkeypatch.setattr(watch, "Console", lambda: console)
    monkeypatch.setattr(watch.time, "sleep", sleep)
    watch.watch("lanes")
    assert not todo, "watch has ended too early"
    return [*shown, stream.getvalue()]


def test_it_follows_the_pipeline_from_before_its_start_to_its_end(monkeypatch, dvc):
    processes = []

    def begin():
        processes.append(dvc("repro"))

    def pretrain():
        stage("collect", "SUCCESS")
        stage("pretrain")
        training("pretrain")

    def between():
        stage("pretrain", "SUCCESS")
        training("pretrain", "finished")
        Path(".dvc/tmp/lock").write_text(" 1\n")  # another command of DVC was quicker

    def evaluate():
        stage("evaluate", phase="base")

    def end():
        stage("evaluate", "SUCCESS", phase="base")
        processes[0].kill()
        os.waitid(os.P_PID, processes[0].pid, os.WEXITED | os.WNOWAIT)  # ended, and still a zombie

    nothing, waits, collects, trains, pauses, evaluates, ended = follow(
        monkeypatch, begin, lambda: stage("collect"), pretrain, between, evaluate, end
    )
    assert "nothing runs here yet" in nothing
    assert "waiting for the first training" in waits
    assert "running: collect" in collects and "waiting for the first training" in collects
    assert "pretrain" in trains and "3/14" in trains and "waiting" not in trains
    assert "waiting for the next stage" in pauses
    assert "running: evaluate base" in evaluates
    assert "does not run" in ended


def test_what_ended_long_ago_is_shown_once(monkeypatch):
    training("base", "finished", started=-3600)
    assert len(follow(monkeypatch)) == 1


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_pipeline_that_was_killed_or_failed_keeps_nobody_waiting(monkeypatch, status):
    Path(".dvc/tmp/lock").write_text(f" {DEAD}\n")
    named = {"pid": DEAD, "cmd": "dvc repro"}
    write_json(Path(".dvc/tmp/rwlock"), {"write": {"models/lanes/base": named}, "read": {"data": [named]}})
    training("base", pid=DEAD)
    stage("finetune", status, phase="base", pid=DEAD, error="phases[base]: a reason [in brackets]")
    shown = follow(monkeypatch)[0]
    assert "stopped" in shown and "finetune base" in shown
    assert ("phases[base]: a reason [in brackets]" in shown) == (status == "FAILED")


def test_the_process_of_dvc_is_told_from_others(dvc):
    Path(".dvc/tmp/lock").write_text(f" {os.getpid()}\n")
    assert running.pipelines() == set()
    assert dvc("status") and running.pipelines() == set()
    pipeline = dvc("repro").pid
    assert running.pipelines() == {pipeline}
    Path(".dvc/tmp/lock").write_text("")
    Path(".dvc/tmp/rwlock").write_text(json.dumps({"read": {"data": [{"pid": pipeline, "cmd": "dvc repro"}]}}))
    assert running.pipelines() == {pipeline}
    os.utime(".dvc/tmp/rwlock", (0, 0))  # older than the process: the id was another's
    assert running.pipelines() == set()


def test_another_machine_is_believed_for_as_long_as_it_gives_signs_of_life():
    training("base", host="elsewhere", pid=DEAD)
    training("late", host="elsewhere", pid=DEAD, updated=at(-3600))
    assert {one.phase: one.state for one in watch.statuses("lanes")} == {"base": "running", "late": "stopped"}


def test_a_stage_leaves_its_process_in_its_journal():
    with journal("lanes", "collect"):
        assert [one.name for one in running.running_stages("lanes")] == ["collect"]
    assert running.running_stages("lanes") == []


@pytest.mark.parametrize("width", [80, 60])
def test_no_number_is_cut(monkeypatch, width, capsys):
    rates = {"lr": 0.000312, "lr_encoder": 0.0000312}
    numbers = {"step": 4321, "steps": 4375, "loss": 0.4312, "rates": rates, "best_epoch": 118, "best_value": 0.6121}
    rows = [{"epoch": 118, "train_loss": 1.2345, "val_loss": 2.3456, "focus_mIoU": 0.6121, "lr": 0.1}]
    training("pretrain", "finished", started=-9, epoch=300, epochs=300, loss=0.0312)
    long = {"epoch": 120, "epochs": 300, "eta_seconds": 44733, "monitor": "focus_mIoU", "rows": rows}
    training("unet_efficientnet_with_a_long_name", **numbers, **long)
    monkeypatch.setattr(watch, "Console", lambda: Console(width=width, file=sys.stdout))
    watch.watch("lanes", once=True)
    shown = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for number in ("120/300", "300/300", "0.6121 (118)", "12:25:33", "1.2345", "2.3456"):
        assert number in shown
    assert ("4321/4375" in shown) == (width == 80)


def test_once_with_nothing_to_show_is_an_error():
    with pytest.raises(UserError, match="no training of study 'lanes'"):
        watch.watch("lanes", once=True)
    stage("collect")
    watch.watch("lanes", once=True)
