"""What a stage prints while it works: lines in a pipe, and on a terminal one line that stays."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from retrace import progress
from retrace.training import lines
from retrace.training.monitor import Monitor
from tests.support.fixtures_training import make_boxes
from tests.support.projects import ROOT

ROWS = [(0.5, 0.25), (0.25, 0.75), (0.125, 0.5)]


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        for module in (progress, lines):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Clock(monkeypatch)


def train(clock, epochs=14, steps=2, name="base", metric: str | None = "mIoU", done=0, active=True, seconds=30.0):
    """A training without the work: `ROWS` are its epochs."""
    history = [{"epoch": epoch + 1, "train_loss": 1.0, "mIoU": 0.1} for epoch in range(done)]
    with Monitor("study", name, active=active) as monitor:
        monitor.begin(epochs, steps, history, metric)
        for epoch, (loss, score) in enumerate(ROWS[: epochs - done], start=done + 1):
            clock.now += seconds
            best = max(range(epoch - done), key=lambda index: ROWS[index][1])
            row = {"epoch": epoch, "train_loss": loss, **({metric: score} if metric else {})}
            monitor.epoch(row, best + 1 + done, ROWS[best][1] if metric else None)


def test_in_a_pipe_every_epoch_is_a_line(clock, capsys):
    train(clock, epochs=3)
    first, *epochs, last = capsys.readouterr().err.splitlines()
    assert first == "base: 3 epochs of 2 batches, the best by mIoU"
    assert epochs[1] == "base  epoch 2/3  loss 0.2500  mIoU 0.7500  best 0.7500 (2)  30.0 s  left 0:30"
    assert "mIoU 0.5000  best 0.7500 (2)" in epochs[2] and len(epochs) == 3
    assert last == "base: 3 epochs in 1:30, best mIoU 0.7500 at epoch 2"


def test_pretraining_has_no_metric(clock, capsys):
    train(clock, epochs=3, metric=None)
    shown = capsys.readouterr().err.splitlines()
    assert shown[1] == "base  epoch 1/3  loss 0.5000  30.0 s  left 1:00"
    assert shown[-1] == "base: 3 epochs in 1:30, loss 0.1250"


@pytest.mark.parametrize(
    "name, metric, epochs", [("mae_ohem", "mIoU", 14), ("unet_efficientnet", "focus_mIoU", 300), ("yolo", "AP50", 9)]
)
def test_lines_fit_eighty_columns(clock, capsys, name, metric, epochs):
    train(clock, epochs, name=name, metric=metric, seconds=59.9)
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 6
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown.isascii() and "\r" not in shown and "\x1b" not in shown


def test_an_interrupted_training_says_that_it_goes_on(clock, capsys):
    train(clock, epochs=8, done=5)
    first, epoch, *_, last = capsys.readouterr().err.splitlines()
    assert first == "base: goes on after epoch 5 of 8, where it was interrupted"
    assert epoch.endswith("left 1:00"), "the time left follows from the epochs of this run"
    assert last == "base: epochs 6 to 8 in 1:30, best mIoU 0.7500 at epoch 7"


def test_nothing_left_to_train_is_said(clock, capsys):
    train(clock, epochs=3, done=3)
    assert capsys.readouterr().err.splitlines()[-1] == "base: no epoch was left to run"


def test_early_stopping_is_said(clock, capsys):
    train(clock, epochs=9)
    assert "stopped early after 3 of 9 epochs" in capsys.readouterr().err.splitlines()[-2]


def test_a_failed_training_leaves_its_error_alone(clock, capsys):
    def fail():
        with Monitor("study", "base") as monitor:
            monitor.begin(3, 2, [], "mIoU")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_only_the_first_of_several_processes_prints(clock, capsys):
    train(clock, active=False)
    assert capsys.readouterr() == ("", "")


def test_a_long_epoch_gives_a_sign_of_life(clock, capsys):
    with Monitor("study", "base") as monitor:
        monitor.begin(2, 100, [], "mIoU")
        for step in range(1, 101):
            clock.now += 7
            monitor.step(step, {"loss": 0.5}, {})
    shown = [line for line in capsys.readouterr().err.splitlines() if "batch " in line]
    assert shown == [
        "base  epoch 1/2  batch 43/100  loss 0.5000  left 18:19",
        "base  epoch 1/2  batch 86/100  loss 0.5000  left 13:18",
    ]


def test_long_loops_print_about_ten_lines_and_short_ones_none(clock, capsys):
    def loop(count, seconds):
        for _ in progress.track(range(count), "evaluate val"):
            clock.now += seconds
        return capsys.readouterr().err.splitlines()

    assert loop(400, 0.01) == []
    shown = loop(400, 1.0)
    assert 10 <= len(shown) <= 11
    assert shown[0] == "evaluate val: 2 % (10/400), 0:10, left 6:30"
    assert shown[-1] == "evaluate val: 100 % (400/400), 6:40"


def test_without_a_total_lines_become_seldom(clock, capsys):
    with progress.bars() as display:
        task = display.add_task("download", total=None, info="bytes")
        for _ in range(1000):
            clock.now += 1
            display.advance(task, 1024)
    shown = capsys.readouterr().err.splitlines()
    assert 5 <= len(shown) <= 10 and shown[0] == "download: 10240 bytes, 0:10"


def test_a_reader_that_has_gone_away_does_not_end_the_work(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    progress.say("nobody reads this")


def finetune(project, terminal):
    """The stage's stderr, in a pipe or on a terminal of 80 columns."""
    command = [sys.executable, "-m", "stages.finetune", "base"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "LANG": "C", "COLUMNS": "80", "TERM": "xterm"}
    env.pop("PYTHONIOENCODING", None)
    if not terminal:
        return subprocess.run(command, cwd=project, env=env, capture_output=True, check=True).stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    found = b""
    try:
        while part := os.read(ours, 4096):
            found += part
    except OSError:  # Linux's way of saying that the other end was closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True])
def test_a_training_in_a_pipe_and_on_a_terminal(tmp_path, terminal):
    project = make_boxes(tmp_path / "project")
    shown = finetune(project, terminal).decode("ascii" if not terminal else "utf-8")
    status = json.loads(Path(project, "logs/boxes/base/status.json").read_text())
    outcome = f"best mIoU {status['best_value']:.4f} at epoch {status['best_epoch']}"
    last = shown.rstrip().splitlines()[-1]
    assert "base: 3 epochs in " in last and last.endswith(outcome)
    assert ("\x1b" in shown) == terminal
    assert shown.count("base  epoch ") == (0 if terminal else 3)
