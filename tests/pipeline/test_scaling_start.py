"""How a training on several devices or machines starts, and what is said when it cannot or is interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from retrace.errors import STARTED_HERE
from retrace.training import processes
from stages import finetune, pretrain
from tests.support.fixtures_training import make_boxes, write_params
from tests.support.projects import ROOT, environment
from tests.support.two_processes import MESSAGE, PHASE, TWO, both, one_thread  # noqa: F401


def other_lock(rank):
    if rank == 1:
        os.environ["RETRACE_LOCK_SHA256"] = "f" * 64
    finetune.main("base")


def other_devices(rank):
    if rank == 1:
        write_params(Path(), {"machine": {"devices": 3}})
    finetune.main("base")


def no_parameters(rank):
    os.chdir("." if rank == 0 else "/")
    finetune.main("base")


def no_parameters_to_pretrain(rank):
    os.chdir("." if rank == 0 else "/")
    pretrain.main()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (other_lock, "built from another requirements/runtime.txt"),
        (other_devices, "machine.devices = 3"),
        (no_parameters, "params.yaml"),
        (no_parameters_to_pretrain, "."),
    ],
)
def test_a_machine_that_fails_before_the_group_exists_leaves_nobody_waiting(tmp_path, monkeypatch, start, said):
    monkeypatch.setattr(processes, "ASSEMBLY", 60.0)
    project = make_boxes(tmp_path / "project")
    began = time.monotonic()
    ends = both(project, start)
    assert [end.code for end in ends] == [1, 1], [end.err for end in ends]
    text = ends[0].err + ends[1].err
    assert len(MESSAGE.findall(text)) == 1 and said in text and "Traceback" not in text
    assert time.monotonic() - began < 40


def absent(rank):
    if rank == 0:
        finetune.main("base")


def test_a_machine_that_never_comes_is_said_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ASSEMBLY", 1.0)
    ends = both(make_boxes(tmp_path / "project"), absent)
    assert [end.code for end in ends] == [1, 0], ends[0].err
    (message,) = MESSAGE.findall(ends[0].err)
    assert message.startswith("error: 1 of 2 processes came within 1 s") and "`machine` block" in message


def test_the_documented_pull_names_stages_that_exist():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    pulled = re.findall(r"dvc pull ((?:[a-z][\w/@-]* ?)+)", (ROOT / "docs/scaling.md").read_text())
    assert pulled and {name.partition("@")[0] for names in pulled for name in names.split()} <= set(stages)


def interrupted(_rank, run_id):
    os.environ["TORCHELASTIC_RUN_ID"] = run_id
    finetune.load_training = lambda: os.kill(os.getpid(), signal.SIGINT)
    finetune.main("base")


@pytest.mark.parametrize(("run_id", "lines"), [("mine", 1), (f"{STARTED_HERE}0", 0)])
def test_ctrl_c_is_said_once_by_the_first_of_torchruns_or_else_by_the_stage(tmp_path, run_id, lines):
    ends = both(tmp_path, interrupted, run_id)
    assert [end.code for end in ends] == [130, 130]
    assert (ends[0].err + ends[1].err).count("interrupted:") == lines


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_is_one_line(tmp_path):
    project = make_boxes(tmp_path / "project", {**PHASE, **TWO}, train=9)
    command = [sys.executable, "-m", "stages.finetune", "base"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, cwd=project, env=environment(), **pipes)
    end = time.monotonic() + 200
    while not list(project.glob(".retrace/scratch/boxes/base-*/epoch-000001.ckpt")) and time.monotonic() < end:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    lines = [line for line in err.splitlines() if not line.startswith("base")]  # the training's own lines come first
    assert len(lines) == 1 and lines[0].startswith("interrupted: ") and err.endswith(f"{lines[0]}\n"), err
