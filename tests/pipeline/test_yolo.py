"""The Ultralytics engine through the finetune stage: outs, exact resume, starting weights, what it must not touch."""

import csv
import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from retrace.compat.ultralytics import OFF, ultralytics
from retrace.data.loading import read_image
from retrace.data.manifest import read_manifest
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import rounded, truth_of
from retrace.models.predict import load_predictor
from retrace.training.checkpoints import Scratch
from stages.finetune import main
from tests.support.fixtures_detection import CLASSES, HYPERPARAMETERS, make_shapes, write_params
from tests.support.fixtures_training import only_progress, without_progress
from tests.support.forked import killed_at_any_moment
from tests.support.projects import ROOT, environment

ultralytics()

from ultralytics.utils import SETTINGS  # noqa: E402
from ultralytics.utils.callbacks.base import default_callbacks  # noqa: E402

ENVIRONMENT = environment()
LEARNS = {"epochs": 12, "lr0": 0.01, "nbs": 2, "warmup_bias_lr": 0.0, "mosaic": 0.0, "mixup": 0.0, "close_mosaic": 0}


def hyper(**values):
    return {"phase_defaults": {"ultralytics": {"hyperparameters": values}}}


def md5s(project, phase="yolo"):
    folder = project / "models/shapes" / phase
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def tree(folder):
    return {str(path): (path.stat().st_mtime_ns, path.is_symlink()) for path in sorted(folder.rglob("*"))}


def rows(project, phase="yolo"):
    return list(csv.DictReader((project / "models/shapes" / phase / "history.csv").open()))


@pytest.fixture
def here(monkeypatch, capsys):
    """The stage inside this process: (exit code, stdout + stderr but for progress)."""
    threads = torch.get_num_threads()

    def run(project, phase="yolo"):
        monkeypatch.chdir(project)
        capsys.readouterr()
        try:
            main(phase)
            code = 0
        except SystemExit as end:
            code = end.code
        shown = capsys.readouterr()
        return code, shown.out + without_progress(shown.err, phase)

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def stops_after(monkeypatch):
    """Makes the next training end like a killed one, right after the checkpoint of an epoch."""
    whole = Scratch.save

    class Killed(BaseException):
        pass

    def prepare(last):
        def save(scratch, epoch, state):
            whole(scratch, epoch, state)
            if epoch == last:
                monkeypatch.setattr(Scratch, "save", whole)
                raise Killed

        monkeypatch.setattr(Scratch, "save", save)
        return Killed

    return prepare


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An uninterrupted run, as a process of its own."""
    project = make_shapes(tmp_path_factory.mktemp("shapes") / "project")
    before = tree(project / "data")
    command = [sys.executable, "-m", "stages.finetune", "yolo"]
    result = subprocess.run(command, cwd=project, env=ENVIRONMENT, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert tree(project / "data") == before  # no label cache, no repaired image, no link
    return project, result


def test_what_a_phase_leaves(trained):
    project, result = trained
    assert result.stdout == "" and only_progress(result.stderr, "yolo", epochs=4)
    folder = project / "models/shapes/yolo"
    names = ["best.pt", "hashes.json", "history.csv", "model.json", "train.json", "training_config.yaml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    table, train = rows(project), json.loads((folder / "train.json").read_text())
    assert list(table[0])[:8] == [
        "epoch", "train_loss", "train_box", "train_cls", "train_dfl", "lr", "lr_bias", "grad_norm",
    ]  # fmt: skip
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    for row in table:
        parts = sum(float(row[f"train_{name}"]) for name in ("box", "cls", "dfl"))
        assert float(row["train_loss"]) == pytest.approx(parts, rel=1e-5)
    assert train["monitor"] == "AP50" and train["stopped"] == "completed" and train["epochs_planned"] == 4
    assert train["last_loss"] == pytest.approx(float(table[-1]["train_loss"]), rel=1e-6)
    assert train["trainable_parameters"] == train["parameters"] - 16  # the fixed kernel of the box distribution
    config = (folder / "training_config.yaml").read_text()
    assert all(f"\n{name}: " in "\n" + config for name in HYPERPARAMETERS)
    assert not (project / ".retrace/scratch/shapes").exists() or not list(project.glob(".retrace/scratch/shapes/*"))
    assert json.loads((project / "logs/shapes/yolo/status.json").read_text())["state"] == "finished"
    assert list((project / "logs/shapes/yolo/tensorboard").iterdir())


def test_best_pt_loads_in_plain_ultralytics_and_names_no_place_or_time(trained, tmp_path):
    best = trained[0] / "models/shapes/yolo/best.pt"
    code = (
        "import sys; from ultralytics import YOLO; y = YOLO(sys.argv[1]); "
        "import numpy as np; y.predict(np.zeros((64, 64, 3), np.uint8), verbose=False); print(y.names, y.task)"
    )
    environment = {**ENVIRONMENT, "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", code, str(best)], cwd=tmp_path, env=environment, text=True, capture_output=True
    )
    assert shown.stdout.strip().endswith("{0: 'red', 1: 'blue'} detect"), shown.stderr
    content = best.read_bytes()
    for text in (str(trained[0]), str(ROOT), os.uname().nodename, time.strftime("%Y-%m-%d")):
        assert text.encode() not in content


def test_nothing_is_fetched_or_reported(here, tmp_path, monkeypatch):
    asked, called = [], []

    def refuse(*call, **options):
        asked.append(call)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for event in default_callbacks:  # where its trackers, uploads and telemetry hook in
        monkeypatch.setitem(default_callbacks, event, [lambda *_, event=event: called.append(event)])
    project = make_shapes(tmp_path / "p", hyper(amp=True, epochs=1))
    assert here(project)[0] == 0
    assert (asked, called) == ([], [])
    assert [key for key in OFF if SETTINGS.get(key)] == []


def test_another_folder_gives_the_same_bytes(trained, here, tmp_path):
    project = make_shapes(tmp_path / "somewhere" / "else")
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_interrupted_after_any_epoch_it_ends_the_same(trained, here, stops_after, tmp_path, epoch):
    # gradients wait across epochs (nbs), mosaics close before the last, and after the fourth only writing is left
    project = make_shapes(tmp_path / "killed")
    with pytest.raises(stops_after(epoch)):
        here(project)
    assert not (project / "models/shapes/yolo").exists()
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


def test_changed_settings_never_resume(here, stops_after, tmp_path):
    project, fresh = make_shapes(tmp_path / "killed"), make_shapes(tmp_path / "fresh", hyper(box=5.0))
    with pytest.raises(stops_after(2)):
        here(project)
    write_params(project, hyper(box=5.0))
    assert here(project)[0] == here(fresh)[0] == 0
    assert md5s(project) == md5s(fresh)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(here, trained, tmp_path):
    project = make_shapes(tmp_path / "killed")
    assert killed_at_any_moment(project, main, "yolo")
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


def test_it_learns_and_the_log_says_what_the_shipped_file_scores(here, tmp_path):
    project = make_shapes(tmp_path / "learns", hyper(**LEARNS), train=24, val=8)
    assert here(project) == (0, "")
    train = json.loads((project / "models/shapes/yolo/train.json").read_text())
    table = rows(project)
    assert train["best_value"] > 0.4
    assert float(table[train["best_epoch"] - 1]["AP50"]) == max(float(row["AP50"]) for row in table)
    assert float(table[-1]["AP50"]) == pytest.approx(float(table[-1]["ultralytics_mAP50"]), abs=0.05)
    manifest = read_manifest(project / "data/shapes/raw")
    ids = (project / "data/shapes/splits/val.txt").read_text().split()
    predictor = load_predictor(project / "models/shapes/yolo", torch.device("cpu"))
    found = [rounded(predictor.predict([read_image(manifest, image_id)])[0]) for image_id in ids]
    shipped = coco_scores([truth_of(manifest.records[image_id]) for image_id in ids], found, CLASSES)
    assert shipped["AP50"] == pytest.approx(train["best_value"], abs=0.1)  # float16, and padding by batch


def test_optimizer_steps_come_as_in_ultralytics(here, tmp_path, monkeypatch):
    project = make_shapes(tmp_path / "steps")
    states = []
    whole = Scratch.save
    monkeypatch.setattr(
        Scratch, "save", lambda scratch, epoch, state: (states.append(state), whole(scratch, epoch, state))
    )
    assert here(project)[0] == 0
    batches, warmup, nominal = 4, 4, 3  # ceil(7 / 2) an epoch, one epoch of warm-up, round(nbs / batch)
    steps, last = [], -1
    for index in range(4 * batches):  # the rule in `BaseTrainer._do_train`
        wait = max(1, int(np.interp(index, [0, warmup], [1, nominal]).round())) if index <= warmup else nominal
        if index - last >= wait:
            steps.append(index)
            last = index
    for epoch, state in enumerate(states, 1):
        done = [step for step in steps if step < epoch * batches]
        assert state["updates"] == len(done)
        assert state["pending"] == epoch * batches - 1 - done[-1]
    assert {state["pending"] for state in states} != {0}


def test_numbered_copies_are_kept_apart_from_the_outs(here, tmp_path):
    project = make_shapes(tmp_path / "copies", hyper(save_period=2))
    assert here(project)[0] == 0
    kept = project / "logs/shapes/yolo/checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["epoch2.pt", "epoch4.pt"]
    assert not torch.equal(*(_first(path) for path in sorted(kept.iterdir())))


def _first(path):
    from retrace.models.yolo_network import read_yolo

    return next(iter(read_yolo(path).state_dict().values()))


def test_patience_stops_early(here, tmp_path):
    changes = hyper(**{**LEARNS, "epochs": 12, "lr0": 0.03, "patience": 1})
    project = make_shapes(tmp_path / "early", changes, train=16)
    assert here(project)[0] == 0
    train = json.loads((project / "models/shapes/yolo/train.json").read_text())
    assert train["stopped"] == "early" and train["epochs_run"] == train["best_epoch"] + 1 < 12


def test_from_another_phase_and_frozen(here, tmp_path):
    phases = {"second": {"engine": "ultralytics", "init": "yolo", "hyperparameters": {"freeze": 4, "epochs": 1}}}
    project = make_shapes(tmp_path / "second", {"phases": phases, **hyper(epochs=1)})
    assert here(project)[0] == here(project, "second")[0] == 0
    first, second = (_state(project / f"models/shapes/{phase}/best.pt") for phase in ("yolo", "second"))
    frozen = [name for name in first if name.startswith(("model.0.", "model.1.", "model.2.", "model.3."))]
    # the copies went through float16, which loses nothing on the way back
    assert frozen and all(torch.equal(first[name], second[name]) for name in frozen)
    assert any(not torch.equal(first[name], second[name]) for name in first.keys() - set(frozen))
    note = json.loads((project / "logs/shapes/second/finetune.json").read_text())
    assert note["start"] == ["second: starts from models/shapes/yolo"]
    train = json.loads((project / "models/shapes/second/train.json").read_text())
    assert train["init"] == "yolo" and train["trainable_parameters"] < train["parameters"]
    config = json.loads((project / "models/shapes/yolo/model.json").read_text())
    (project / "models/shapes/yolo/model.json").write_text(json.dumps({**config, "classes": ["one"]}))
    shutil.rmtree(project / "models/shapes/second")
    code, shown = here(project, "second")
    assert code == 1 and "1 classes (one), phase second has 2" in shown


def _state(path):
    from retrace.models.yolo_network import read_yolo

    return read_yolo(path).state_dict()


def _pretrain(project, content):
    folder = project / "models/shapes/pretrain"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.pt").write_bytes(content)
    entry = {"all": {"file": "all.pt", "sha256": hashlib.sha256(content).hexdigest()}}
    (folder / "start.json").write_text(json.dumps({"method": "weights", "files": entry}))


STARTED = {
    "pretrain": {"method": "weights", "weights": {"all": {"path": "x.pt", "sha256": "0" * 64}}},
    "phases": {"yolo": {"engine": "ultralytics", "init": "pretrain"}},
}


def test_published_weights_for_other_classes(here, tmp_path, monkeypatch):
    project = make_shapes(tmp_path / "published", {**STARTED, **hyper(epochs=1, freeze=4)})
    monkeypatch.chdir(project)
    from retrace.models.yolo_network import build_yolo, dump_yolo

    names = [f"class{index}" for index in range(80)]
    network = build_yolo("small.yaml", names)
    _pretrain(project, dump_yolo("small.yaml", names, network.state_dict(), {"imgsz": 64}, {}))
    assert here(project)[0] == 0
    started = _state(project / "models/shapes/pretrain/all.pt")
    shipped = _state(project / "models/shapes/yolo/best.pt")
    assert torch.equal(shipped["model.0.conv.weight"], started["model.0.conv.weight"])  # frozen: as it came
    note = json.loads((project / "logs/shapes/yolo/finetune.json").read_text())["start"]
    assert len(note) == 2 and "left out" in note[1] and "class branch" in note[1]
    other = build_yolo("yolo11n", CLASSES)
    _pretrain(project, dump_yolo("yolo11n", CLASSES, other.state_dict(), {"imgsz": 64}, {}))
    code, shown = here(project)
    assert code == 1 and "does not fit this network" in shown and len(shown.splitlines()) == 1


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("content", ["hostile", "pickle", "noise", "tensors"])
def test_a_file_that_is_no_detector_is_refused_unread(here, tmp_path, content):
    stream = io.BytesIO()
    value = {"hostile": {"model": Hostile()}, "tensors": {"model": {"a": torch.ones(2)}}}.get(content)
    if value is not None:
        torch.save(value, stream)
    data = {"pickle": pickle.dumps(Hostile()), "noise": b"\x00" * 100}.get(content, stream.getvalue())
    project = make_shapes(tmp_path / "hostile", STARTED)
    _pretrain(project, data)
    code, shown = here(project)
    assert code == 1 and "cannot be read as an Ultralytics detector" in shown and len(shown.splitlines()) == 1
    assert not (project / "owned").exists() and not (project / "models/shapes/yolo").exists()


def test_a_loss_that_is_not_finite_names_the_batch(here, tmp_path):
    project = make_shapes(tmp_path / "nan", hyper(box=1e38))
    code, shown = here(project)
    assert code == 1 and shown.startswith("error: epoch 1, step ") and len(shown.splitlines()) == 1
    assert "is not finite" in shown and "batch: img0" in shown
    assert not (project / "models/shapes/yolo").exists()


def test_an_edited_model_file_is_refused_until_its_new_sha256_is_a_parameter(here, tmp_path):
    project = make_shapes(tmp_path / "edited", hyper(epochs=1))
    text = (project / "small.yaml").read_text() + "# wider\n"
    (project / "small.yaml").write_text(text)
    found = hashlib.sha256(text.encode()).hexdigest()
    code, shown = here(project)
    assert code == 1 and len(shown.splitlines()) == 1
    assert f"small.yaml has sha256 {found}" in shown and f"set phases.yolo.model_sha256 to {found}" in shown
    write_params(project, {"phases": {"yolo": {"model_sha256": found}}, **hyper(epochs=1)})
    assert here(project)[0] == 0


WORDS = hashlib.sha256(b"a: 1\n").hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (hyper(lr0=2.0), "phases.yolo.hyperparameters: 'lr0=2.0' is an invalid value"),
        (hyper(imgsz=50), "imgsz = 50: must be a multiple of 32"),
        (
            {"phases": {"yolo": {"model": "yolo12x"}}},
            "phases.yolo.model = 'yolo12x': no such network; allowed: yolo11n, yolo11s, yolo11m",
        ),
        ({"phases": {"yolo": {"model": "yolo11n"}}}, "is for a local file; set it to null"),
        (
            {"phases": {"yolo": {"model": "words.yaml", "model_sha256": None}}},
            "phases.yolo.model_sha256: required with a file",
        ),
        ({"phases": {"yolo": {"model": "words.yaml", "model_sha256": WORDS}}}, "does not describe a YOLO detector"),
        ({"phases": {"yolo": {"model": "gone.yaml"}}}, "phases.yolo.model = 'gone.yaml': no such file"),
        ({"phases": {"yolo": {"model": "mine.pt"}}}, "with init: none would leave its weights unused"),
    ],
)
def test_wrong_input_is_one_line(here, tmp_path, changes, message):
    project = make_shapes(tmp_path / "wrong", changes)
    (project / "words.yaml").write_text("a: 1\n")
    code, shown = here(project)
    assert code == 1 and message in shown, shown
    assert shown.startswith("error: ") and len(shown.splitlines()) == 1
    assert not (project / "models/shapes/yolo").exists()


def test_images_without_objects_alone_cannot_be_learned_from(here, tmp_path):
    project = make_shapes(tmp_path / "empty")
    (project / "data/shapes/splits/train.txt").write_text("img06\n")
    code, shown = here(project)
    assert code == 1 and "no image has an object" in shown


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """The training samples of the fixture as Ultralytics gets them."""
    project = make_shapes(tmp_path / "samples")
    monkeypatch.chdir(project)
    from ultralytics.cfg import get_cfg

    from retrace.training.engines.ultralytics.data import Samples

    manifest = read_manifest(Path("data/shapes/raw"))
    ids = Path("data/shapes/splits/train.txt").read_text().split()
    settings = get_cfg(overrides={**HYPERPARAMETERS, "mosaic": 0.7})
    data = {"names": dict(enumerate(CLASSES)), "nc": 2, "channels": 3}

    def make(**options):
        return Samples(manifest, ids, 5, imgsz=64, batch_size=2, hyp=settings, stride=32, data=data, **options)

    return make


def test_samples_depend_on_epoch_and_index_only(samples):
    def epoch(dataset, number, order, workers=0):
        dataset.epoch = number
        batches = DataLoader(dataset, 1, sampler=order, num_workers=workers, collate_fn=dataset.collate_fn)
        return {batch["im_file"][0]: batch for batch in batches}

    one = epoch(samples(augment=True), 3, range(7))
    for other in (
        epoch(samples(augment=True), 3, [4, 1, 0, 2, 6, 5, 3]),
        epoch(samples(augment=True), 3, range(7), workers=2),
        epoch(samples(augment=True, cache=True), 3, range(7)),
    ):
        assert all(torch.equal(one[path][key], other[path][key]) for path in one for key in ("img", "bboxes", "cls"))
    again = samples(augment=True, cache=True)
    epoch(again, 3, range(7))
    repeated = epoch(again, 3, range(7))  # what is held in memory has not been painted on
    assert all(torch.equal(one[path]["img"], repeated[path]["img"]) for path in one)
    later = epoch(samples(augment=True), 4, range(7))
    assert any(not torch.equal(one[path]["img"], later[path]["img"]) for path in one)


def test_labels_without_crowds_and_images_without_boxes(samples):
    dataset = samples(augment=False)
    first, last = dataset.labels[0], dataset.labels[-1]
    record = read_manifest(Path("data/shapes/raw")).records["img00"]
    real = [box for box in record.boxes if not box.crowd]
    assert len(first["bboxes"]) == len(real) == len(record.boxes) - 1
    for row, box in zip(first["bboxes"], real, strict=True):
        x, y, width, height = row * [record.width, record.height, record.width, record.height]
        assert (x - width / 2, y - height / 2, width, height) == pytest.approx(box.xywh, abs=1e-4)
    assert last["bboxes"].shape == (0, 4) and last["cls"].shape == (0, 1)
