"""YOLO phases by several processes: the steps and scores of one, one writer, one end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from retrace.compat.ultralytics import ultralytics
from retrace.data.manifest import read_manifest
from retrace.documents.manifest import write_records
from retrace.training.checkpoints import Scratch
from retrace.training.engines.ultralytics.share import Shares, share_of
from stages import finetune
from tests.support.fixtures_detection import make_shapes
from tests.support.fixtures_training import only_progress
from tests.support.projects import environment
from tests.support.two_processes import MESSAGE, TWO, both, history, md5s, one_thread  # noqa: F401

ultralytics()

from ultralytics.utils.tal import TaskAlignedAssigner  # noqa: E402

from retrace.training.engines.ultralytics.trainer import Trainer  # noqa: E402

YOLO = "models/shapes/yolo"
STILL = {"mosaic": 0.0, "mixup": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "fliplr": 0.0, "hsv_h": 0.0,
         "hsv_s": 0.0, "hsv_v": 0.0, "warmup_epochs": 0, "close_mosaic": 0, "epochs": 2}  # fmt: skip


def hyper(**values):
    return {"phase_defaults": {"ultralytics": {"hyperparameters": values}}}


def stage(_rank):
    finetune.main("yolo")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An uninterrupted training by two processes; 7 images in batches of 2: the last leaves one process nothing."""
    project = make_shapes(tmp_path_factory.mktemp("pair") / "project", val=9)
    ends = both(project, stage)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert only_progress(ends[0].err, "yolo", epochs=4)
    assert ends[0].out + ends[1].out + ends[1].err == ""
    return project


def test_what_two_processes_leave(pair):
    entry = json.loads((pair / "logs/shapes/yolo/finetune.json").read_text())
    assert entry["status"] == "SUCCESS" and entry["processes"] == 2
    train = json.loads((pair / YOLO / "train.json").read_text())
    assert train["processes"] == 2 and train["epochs_run"] == 4
    assert len(list((pair / "logs/shapes/yolo/tensorboard").iterdir())) == 1
    assert not list(pair.glob(".retrace/scratch/shapes/*"))
    assert not [path for path in pair.rglob("*") if path.suffix in (".tmp", ".partial")]
    for row in history(pair, YOLO):
        parts = sum(float(row[f"train_{name}"]) for name in ("box", "cls", "dfl"))
        assert float(row["train_loss"]) == pytest.approx(parts, rel=1e-5)


def note_shares(rank, notes):
    """Writes down which images this process learned from and what it scored them with."""
    call, validate = Trainer.run_callbacks, Trainer.validate
    seen = []

    def run_callbacks(trainer, event):
        if event == "on_train_batch_end":
            seen.append((trainer.epoch, trainer.share, list(trainer.files)))
        call(trainer, event)

    def keep_and_validate(trainer):
        if trainer.run.fabric.is_global_zero:
            torch.save(trainer.ema.ema.state_dict(), notes / f"ema{trainer.epoch}.pt")
        return validate(trainer)

    Trainer.run_callbacks, Trainer.validate = run_callbacks, keep_and_validate
    finetune.main("yolo")
    return seen


def test_every_image_once_an_epoch_and_the_scores_of_one_process(pair, tmp_path, monkeypatch):
    project = make_shapes(tmp_path / "project", val=9)
    ends = both(project, note_shares, tmp_path)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert md5s(project) == md5s(pair)
    ids = (project / "data/shapes/splits/train.txt").read_text().split()
    for epoch in range(4):
        learned = [(share, files) for end in ends for at, share, files in end.value if at == epoch]
        assert sorted(image_id for _, files in learned for image_id in files) == ids
        assert all(share == len(files) for share, files in learned)
        assert [share for share, _ in learned] == [1, 1, 1, 1, 1, 1, 1, 0]
    # validation of the same weights by one process
    rows = iter(history(project, YOLO))

    def validate(trainer):
        trainer.ema.ema.load_state_dict(torch.load(tmp_path / f"ema{trainer.epoch}.pt", weights_only=True))
        scores, fitness = validated(trainer)
        theirs = next(rows)
        for name, value in scores.items():
            assert theirs[name] == ("" if value is None else f"{value:.8g}"), name
        return scores, fitness

    validated = Trainer.validate
    monkeypatch.setattr(Trainer, "validate", validate)
    one = make_shapes(tmp_path / "one", val=9)
    monkeypatch.chdir(one)
    finetune.main("yolo")
    assert next(rows, None) is None


def steps(_rank):
    """A training whose BatchNorm keeps its statistics, as each process normalizes by its own share; its weights."""
    prepare, save, states = Trainer.preprocess_batch, Scratch.save, []

    def still(trainer, batch):
        for part in trainer.model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return prepare(trainer, batch)

    def keep(scratch, epoch, state):
        states.append({name: value.clone() for name, value in state["model"].items()})
        save(scratch, epoch, state)

    Trainer.preprocess_batch, Scratch.save = still, keep
    try:
        finetune.main("yolo")
    finally:
        Trainer.preprocess_batch, Scratch.save = prepare, save
    return states[-1] if states else None


def compare(two, one, monkeypatch, rows=True):
    """Train `two` by two processes and `one` by this one."""
    ends = both(two, steps)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    monkeypatch.chdir(one)
    theirs = steps(0)
    for name, value in ends[0].value.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5)
    if rows:
        for name in ("train_loss", "grad_norm"):
            own, other = ([float(row[name]) for row in history(project, YOLO)] for project in (two, one))
            assert own == pytest.approx(other, rel=1e-3)


def test_two_shares_of_one_image_take_the_step_of_two_batches_of_one(tmp_path, monkeypatch):
    """Ultralytics' loss is a sum over images of what each share is normalized by: so do accumulated batches add up."""
    changes = {**STILL, "nbs": 2, "lr0": 0.01, "optimizer": "SGD"}
    two = make_shapes(tmp_path / "two", hyper(**changes, batch=2), train=8)
    one = make_shapes(tmp_path / "one", hyper(**changes, batch=1), train=8)
    compare(two, one, monkeypatch, rows=False)


def test_a_process_without_a_sample_adds_nothing(tmp_path, monkeypatch):
    """Of equal images every share is normalized alike, so that two processes take the steps of one."""
    assign = TaskAlignedAssigner.forward

    def more(*inputs):  # what a loss is divided by is at least 1; here it shall be more in every share
        labels, boxes, scores, *rest = assign(*inputs)
        return (labels, boxes, scores * 100, *rest)

    monkeypatch.setattr(TaskAlignedAssigner, "forward", more)
    projects = []
    for name in ("two", "one"):
        changes = {**STILL, "nbs": 2, "lr0": 0.01, "optimizer": "SGD", "batch": 2, "warmup_bias_lr": 0.0}
        projects.append(make_shapes(tmp_path / name, hyper(**changes), train=4))
        alike(projects[-1])
    compare(*projects, monkeypatch)


def alike(project):
    """Three training images, all of them the first without its crowd region."""
    raw = project / "data/shapes/raw"
    manifest = read_manifest(raw)
    first = manifest.records["img00"]
    boxes = tuple(box for box in first.boxes if not box.crowd)
    records = []
    for image_id, record in manifest.records.items():
        if image_id in ("img00", "img01", "img02"):
            (raw / record.path).write_bytes((raw / first.path).read_bytes())
            record = replace(first, id=image_id, path=record.path, boxes=boxes, group=image_id)
        records.append(record)
    write_records(raw / "manifest.jsonl", records)
    (project / "data/shapes/splits/train.txt").write_text("img00\nimg01\nimg02\n")


def test_shares_of_a_batch():
    batches = [[3, 1, 4, 0], [2, 5]]
    shares = [list(Shares(batches, rank, 3)) for rank in range(3)]
    assert shares == [[[3, 0], [2]], [[1], [5]], [[4], [2]]]  # the third has nothing of the last and takes its first

    class Fabric:
        world_size = 3

    counts = []
    for Fabric.global_rank in range(3):
        counts.append([share_of(Fabric, 6, 4, index) for index in range(2)])
    assert counts == [[(2, 4), (1, 2)], [(1, 4), (1, 2)], [(1, 4), (0, 2)]]


def killed(rank):
    """The second process dies once two epochs are saved."""
    if rank == 1:

        def watch():
            while not list(Path().glob(".retrace/scratch/shapes/yolo-*/epoch-000002.ckpt")):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    finetune.main("yolo")


def test_a_killed_pair_goes_on_and_ends_the_same(pair, tmp_path):
    project = make_shapes(tmp_path / "project", val=9)
    first, second = both(project, killed)
    assert (first.code, second.code) == (1, -signal.SIGKILL)
    assert len(MESSAGE.findall(first.err)) == 1
    assert "connection to another process" in first.err and "Traceback" not in first.err
    assert not (project / YOLO).exists()
    ends = both(project, stage)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert md5s(project) == md5s(pair)


def test_a_loss_that_is_not_finite_ends_both_and_names_all_files_of_the_batch(tmp_path):
    project = make_shapes(tmp_path / "project", hyper(box=1e38), train=8)
    ends = both(project, stage)
    assert [end.code for end in ends] == [1, 1], [end.err for end in ends]
    (message,) = MESSAGE.findall(ends[0].err + ends[1].err)
    assert "is not finite" in message and message.count("img0") == 2
    assert "Traceback" not in ends[0].err + ends[1].err and not (project / YOLO).exists()


@pytest.mark.slow
def test_the_stage_starts_its_own_processes_and_ultralytics_none(pair, tmp_path):
    project = make_shapes(tmp_path / "project", TWO, val=9)
    command = [sys.executable, "-m", "stages.finetune", "yolo"]
    done = subprocess.run(command, cwd=project, env=environment(), text=True, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "") and only_progress(done.stderr, "yolo", epochs=4)
    assert md5s(project) == md5s(pair)
    assert json.loads((project / "logs/shapes/yolo/finetune.json").read_text())["processes"] == 2
