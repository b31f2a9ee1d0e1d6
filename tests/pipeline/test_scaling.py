"""Training by several processes: real pairs of processes (gloo), compared with one process and with each other."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from retrace.config.load import load
from retrace.config.machine import Machine
from retrace.data.detection_loading import DetectionValidation
from retrace.data.detection_loading import collate as collate_detection
from retrace.data.loading import Room, SegmentationEvaluation, collate_evaluation, evaluation_loader
from retrace.data.manifest import read_manifest
from retrace.data.splits import read_list
from retrace.errors import UserError
from retrace.evaluation.scores.matching import truth_of
from retrace.models.weights import load_model
from retrace.training import checkpoints, detection, segmentation
from retrace.training.launch import spread
from stages import finetune
from tests.support.fixtures_detection import make_shapes
from tests.support.fixtures_training import make_boxes, only_progress, without_progress, write_params
from tests.support.projects import environment
from tests.support.two_processes import MESSAGE, PHASE, TWO, both, history, md5s, one_thread  # noqa: F401


def stage(_rank, name="base"):
    finetune.main(name)


def journal(project):
    return json.loads((project / "logs/boxes/base/finetune.json").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An uninterrupted training of `PHASE` by two processes."""
    project = make_boxes(tmp_path_factory.mktemp("pair") / "project", PHASE, train=9)
    ends = both(project, stage)
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert only_progress(ends[0].err, "base", epochs=4)
    assert ends[0].out + ends[1].out + ends[1].err == ""
    return project


# --- validation -------------------------------------------------------------------------------------------------------


def best(project, phase):
    return next(
        row
        for row in history(project, phase)
        if int(row["epoch"]) == json.loads((project / phase / "train.json").read_text())["best_epoch"]
    )


def test_validation_by_two_is_that_of_one_on_the_same_weights(pair, monkeypatch):
    monkeypatch.chdir(pair)
    params = load()
    model, _ = load_model(Path("models/boxes/base"))
    ids = read_list(Path("data/boxes/splits"), "val")
    assert len(ids) % 2  # so that the shares differ
    held_out = SegmentationEvaluation(read_manifest(Path("data/boxes/raw")), ids, (32, 48), Room(2**30))
    loader = evaluation_loader(held_out, 4, 0, collate_evaluation)
    validation = segmentation.Validation(Fabric(accelerator="cpu", devices=1), loader, params.classes, (1, 2))
    with torch.no_grad():
        scores = validation(model.eval())
    row = best(pair, "models/boxes/base")
    for name, value in scores.items():
        if name == "val_loss":
            assert float(row[name]) == pytest.approx(value, rel=1e-6)
        else:
            assert row[name] == ("" if value is None else f"{value:.8g}"), name


@pytest.mark.slow
def test_detection_by_two(tmp_path, monkeypatch):
    project = make_shapes(tmp_path / "project", {"phase_defaults": {"fabric": {"epochs": 2, "batch_size": 3}}}, val=5)
    ends = both(project, stage, "light")
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert only_progress(ends[0].err, "light", epochs=2)
    assert ends[0].out + ends[1].out + ends[1].err == ""
    monkeypatch.chdir(project)
    manifest, ids = read_manifest(Path("data/shapes/raw")), read_list(Path("data/shapes/splits"), "val")
    loader = evaluation_loader(DetectionValidation(manifest, ids, (64, 96), Room(2**30)), 3, 0, collate_detection)
    truths = [truth_of(manifest.records[image_id]) for image_id in ids]
    model, _ = load_model(Path("models/shapes/light"))
    one = Fabric(accelerator="cpu", devices=1)
    scores = detection.Validation(one, loader, truths, load().classes)(model.eval())
    row = best(project, "models/shapes/light")
    assert {name: row[name] for name in scores} == {
        name: "" if value is None else f"{value:.8g}" for name, value in scores.items()
    }


# --- who writes, and what a failure or a kill leaves ------------------------------------------------------------------


def test_one_journal_one_board_and_nothing_left_over(pair):
    assert journal(pair)["status"] == "SUCCESS" and journal(pair)["processes"] == 2
    assert json.loads((pair / "models/boxes/base/train.json").read_text())["processes"] == 2
    assert len(list((pair / "logs/boxes/base/tensorboard").iterdir())) == 1
    assert json.loads((pair / "logs/boxes/base/status.json").read_text())["state"] == "finished"
    assert not list(pair.glob(".retrace/scratch/boxes/*"))
    assert not [path for path in pair.rglob("*") if path.suffix in (".tmp", ".partial")]


def killed(rank, after):
    """The second process dies once `after` epochs are saved."""
    if rank == 1:
        import threading

        def watch():
            while not list(Path().glob(f".retrace/scratch/boxes/base-*/epoch-{after:06d}.ckpt")):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    finetune.main("base")


def test_a_killed_pair_goes_on_and_ends_the_same(pair, tmp_path):
    project = make_boxes(tmp_path / "project", PHASE, train=9)
    first, second = both(project, killed, 2)
    assert (first.code, second.code) == (1, -signal.SIGKILL)
    assert len(MESSAGE.findall(first.err)) == 1
    assert "connection to another process" in first.err and "Traceback" not in first.err
    assert journal(project)["status"] == "FAILED"
    assert not (project / "models/boxes/base").exists()
    assert list(project.glob(".retrace/scratch/boxes/base-*/epoch-000002.ckpt"))
    ends = both(project, stage)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert md5s(project) == md5s(pair)


def failures(project, *arguments):
    """The one message of both processes; both exit with 1."""
    ends = both(project, stage, *arguments)
    assert [end.code for end in ends] == [1, 1], [end.err for end in ends]
    text = without_progress(ends[0].err + ends[1].err, "base")
    assert "Traceback" not in text
    messages = MESSAGE.findall(text)
    assert len(messages) == 1, text
    assert text.strip() == messages[0]
    assert not (project / "models/boxes/base").exists()
    return messages[0]


def test_an_image_that_one_process_cannot_read_ends_both(tmp_path):
    project = make_boxes(tmp_path / "project", PHASE, train=9)
    (project / "data/boxes/raw/images/img03.png").write_bytes(b"no image")
    message = failures(project)
    assert "img03.png" in message
    assert journal(project)["status"] == "FAILED"
    assert "img03.png" in journal(project)["error"]
    assert "img03.png" in json.loads((project / "logs/boxes/base/status.json").read_text())["error"]


def test_a_loss_that_is_not_finite_ends_both_and_names_all_files_of_the_batch(tmp_path):
    changes = {"phase_defaults": {"fabric": {"batch_size": 4, "optimizer": {"lr": 1e30, "clip_norm": None}}}}
    message = failures(make_boxes(tmp_path / "project", changes, train=8))
    assert "is not finite" in message
    assert message.count("img") == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase_defaults": {"fabric": {"batch_size": 1}}}, "too small for 2 processes"),
        ({"machine": {"devices": 4}}, "torchrun started 2 processes on 1 machine"),
        ({"phase_defaults": {"fabric": {"sync_batchnorm": True}}}, "sync_batchnorm"),
    ],
)
def test_settings_that_cannot_work_are_one_line(tmp_path, changes, said):
    assert said in failures(make_boxes(tmp_path / "project", changes))


def other_data(rank):
    if rank == 1:
        checkpoints.LOCK.parent.mkdir(exist_ok=True)
        own = checkpoints.sha256_of
        checkpoints.sha256_of = lambda path: "0" * 64 if path.name == "train.txt" else own(path)
    finetune.main("base")


def test_machines_with_other_data_are_refused(tmp_path):
    project = make_boxes(tmp_path / "project")
    ends = both(project, other_data)
    assert [end.code for end in ends] == [1, 1]
    assert len(MESSAGE.findall(ends[0].err + ends[1].err)) == 1
    assert "other parameters, data" in ends[0].err + ends[1].err


def test_what_is_refused_before_anything_starts(monkeypatch):
    with pytest.raises(UserError, match="torchrun --nnodes 2 --nproc-per-node 4 .* -m stages.finetune base"):
        spread(Machine(device="cpu", devices=4, nodes=2), "stages.finetune", ["base"])
    assert spread(Machine(device="cpu"), "stages.finetune", ["base"]) is False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)  # there are no cards to compare it with
    with pytest.raises(UserError, match="4 processes on this machine, but it has 2 cuda"):
        spread(Machine(device="cuda", devices=4), "stages.finetune", ["base"])


# --- started as a user starts it --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_stage_starts_its_own_processes(pair, tmp_path):
    project = make_boxes(tmp_path / "project", {**PHASE, **TWO}, train=9)
    command = [sys.executable, "-m", "stages.finetune", "base"]
    done = subprocess.run(command, cwd=project, env=environment(), text=True, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "") and only_progress(done.stderr, "base", epochs=4)
    assert md5s(project) == md5s(pair)


@pytest.mark.slow
def test_a_failure_of_its_own_processes_is_one_line(tmp_path):
    project = make_boxes(tmp_path / "project", {**PHASE, **TWO}, train=9)
    (project / "data/boxes/raw/images/img03.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "stages.finetune", "base"]
    done = subprocess.run(command, cwd=project, env=environment(), text=True, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*img03\.png: .*\n", without_progress(done.stderr, "base")), done.stderr
    assert journal(project)["status"] == "FAILED"


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(pair, tmp_path):
    project = make_boxes(tmp_path / "project", {**PHASE, **TWO}, train=9)
    command = [sys.executable, "-m", "stages.finetune", "base"]
    process = subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not list(project.glob(".retrace/scratch/boxes/base-*/epoch-000001.ckpt")) and time.monotonic() < end:
        time.sleep(0.005)
    children = children_of(process.pid)
    assert len(children) == 2
    process.kill()
    process.wait()
    while any(alive(child) for child in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(alive(child) for child in children)
    write_params(project, PHASE)  # the number of devices is not part of what was interrupted; the pair below is
    ends = both(project, stage)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert md5s(project) == md5s(pair)


@pytest.mark.slow
def test_torchrun_on_two_machines(pair, tmp_path):
    """Two `torchrun` on this machine, each as one node; the second node has a working folder of its own."""
    projects = [make_boxes(tmp_path / name, PHASE, train=9) for name in ("first", "second")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    options += ["--rdzv-endpoint", f"localhost:{port}", "--local-addr", "localhost"]
    runs = []
    for project in projects:
        command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "stages.finetune", "base"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        runs.append(subprocess.Popen(command, cwd=project, env=environment(), **pipes))
    texts = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], texts
    left = [project for project in projects if (project / "models/boxes/base").exists()]
    assert len(left) == 1  # on the machine of the first process
    assert md5s(left[0]) == md5s(pair)
    assert not (next(project for project in projects if project not in left) / "logs").exists()


def children_of(parent):
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(pid) for pid in listing.stdout.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
