"""The finetune stage as a process: what it writes, that a kill changes nothing, and how it refuses wrong input."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from retrace.data.manifest import read_manifest
from retrace.documents.manifest import write_records
from retrace.models.weights import load_model
from retrace.training.checkpoints import Scratch
from stages.finetune import main
from tests.support.fixtures_training import make_boxes, only_progress, params, without_progress, write_params
from tests.support.forked import checkpoints, killed_at_any_moment, killed_while_it_writes
from tests.support.projects import copy_of, environment

ENVIRONMENT = environment()
LONGER = {"phase_defaults": {"fabric": {"epochs": 6, "ema": 0.9, "accumulate": 2, "patience": 5}}}


def finetune(project):
    command = [sys.executable, "-m", "stages.finetune", "base"]
    return subprocess.run(command, cwd=project, env=ENVIRONMENT, text=True, capture_output=True)


@pytest.fixture
def here(monkeypatch, capsys):
    """The stage inside this process, where nothing has to be killed: (exit code, stderr but for progress)."""
    threads = torch.get_num_threads()

    def run(project, phase="base"):
        monkeypatch.chdir(project)
        capsys.readouterr()
        try:
            main(phase)
        except SystemExit as end:
            return end.code, without_progress(capsys.readouterr().err, phase)
        return 0, without_progress(capsys.readouterr().err, phase)

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def md5s(project, phase="base"):
    folder = project / "models/boxes" / phase
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An uninterrupted run of `LONGER`."""
    project = make_boxes(tmp_path_factory.mktemp("boxes") / "project", LONGER)
    result = finetune(project)
    assert result.returncode == 0, result.stderr
    return project, result


@pytest.mark.slow
def test_what_a_phase_leaves(trained):
    project, result = trained
    assert result.stdout == "" and only_progress(result.stderr, "base", epochs=6)
    folder = project / "models/boxes/base"
    assert sorted(path.name for path in folder.iterdir()) == [
        "hashes.json",
        "history.csv",
        "model.json",
        "train.json",
        "weights.safetensors",
    ]
    train = json.loads((folder / "train.json").read_text())
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    assert rows[0][:4] == ["epoch", "train_loss", "lr", "grad_norm"] and len(rows) == 1 + train["epochs_run"]
    column = rows[0].index("mIoU")
    assert float(rows[train["best_epoch"]][column]) == max(float(row[column]) for row in rows[1:])
    assert train["best_value"] == pytest.approx(float(rows[train["best_epoch"]][column]), rel=1e-7)
    assert train["last_loss"] < train["first_loss"] and train["init"] == "none" and train["monitor"] == "mIoU"
    network, config = load_model(folder)
    assert config["input_size"] == [32, 48] and config["classes"] == ["ground", "red", "blue"]
    assert sum(p.numel() for p in network.parameters()) == train["parameters"] == train["trainable_parameters"]
    assert not (project / ".retrace/scratch/boxes").exists() or not checkpoints(project)
    assert json.loads((project / "logs/boxes/base/status.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(here, trained, tmp_path):
    project = make_boxes(tmp_path / "killed", LONGER)
    assert killed_at_any_moment(project, main, "base")
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


@pytest.fixture(scope="module")
def half_written(tmp_path_factory):
    """A run of `LONGER` that died in the middle of writing the checkpoint of epoch 3."""
    project = make_boxes(tmp_path_factory.mktemp("half") / "project", LONGER)
    killed_while_it_writes(project, main, "base", "epoch-000003.ckpt")
    assert [path.name for path in checkpoints(project)] == ["epoch-000001.ckpt", "epoch-000002.ckpt"]
    return project


@pytest.mark.slow
def test_killed_inside_a_checkpoint_write(here, half_written, trained, tmp_path):
    project = copy_of(half_written, tmp_path / "killed")
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


@pytest.mark.slow
def test_a_changed_parameter_after_a_kill_never_resumes(here, half_written, tmp_path):
    changed = {"phase_defaults": {"fabric": {**LONGER["phase_defaults"]["fabric"], "loss": {"dice": 0.5}}}}
    project = copy_of(half_written, tmp_path / "killed")
    write_params(project, changed)
    assert here(project)[0] == 0
    fresh = make_boxes(tmp_path / "fresh", changed)
    assert here(fresh)[0] == 0
    assert md5s(project) == md5s(fresh)


def test_changed_data_never_resumes(here, tmp_path, monkeypatch):
    project = make_boxes(tmp_path / "boxes")
    seen = []
    monkeypatch.setattr(Scratch, "load", lambda scratch: seen.append(scratch.folder.name))
    assert here(project)[0] == 0
    machine = {"machine": {"workers": 1}}
    write_params(project, machine)  # where it runs is not part of what it computes
    assert here(project)[0] == 0
    raw = project / "data/boxes/raw"
    mask = (raw / "masks/img02.png").read_bytes()
    (raw / "masks/img01.png").write_bytes(mask)
    manifest = read_manifest(raw)
    other = dataclasses.replace(manifest.records["img01"], mask_sha256=hashlib.sha256(mask).hexdigest())
    write_records(raw / "manifest.jsonl", {**manifest.records, "img01": other}.values())
    assert here(project)[0] == 0
    (project / "models/boxes/none/start.json").write_text('{"method": "none", "files": {}}')
    assert here(project)[0] == 0
    assert seen[0] == seen[1] and len(set(seen[1:])) == 3


@pytest.mark.parametrize("name", ["images/img01.png", "masks/img08.png"])
def test_bytes_that_the_manifest_does_not_name_are_refused(here, tmp_path, name):
    project = make_boxes(tmp_path / "boxes")
    path = project / "data/boxes/raw" / name
    path.write_bytes(path.with_name("img02.png").read_bytes())
    code, said = here(project)
    assert code == 1
    assert f"{name}: its bytes are not those that `collect` wrote down" in said and "dvc checkout collect" in said


@pytest.mark.slow
def test_workers_do_not_change_the_weights(here, trained, tmp_path):
    project = make_boxes(tmp_path / "workers", {**LONGER, "machine": {"workers": 2}})
    assert here(project) == (0, "")
    assert md5s(project) == md5s(trained[0])


@pytest.mark.slow
def test_a_frozen_encoder_from_another_phase_does_not_move(here, tmp_path):
    model = {"architecture": "deeplabv3", "encoder": "mobilenet_v3_large", "width": None}
    phases = {"base": {"init": "none"}, "head": {"init": "base", "freeze": "encoder"}}
    defaults = {"fabric": {"model": model, "epochs": 2, "input_size": [32, 64]}}
    project = make_boxes(tmp_path / "frozen", {"phases": phases, "phase_defaults": defaults})
    for phase in phases:
        assert here(project, phase) == (0, "")
    base, head = (load_file(project / f"models/boxes/{phase}/weights.safetensors") for phase in phases)
    moved = {name for name in base if not torch.equal(base[name], head[name])}
    assert moved and not [name for name in moved if name.startswith("encoder.")]
    train = json.loads((project / "models/boxes/head/train.json").read_text())
    assert 0 < train["trainable_parameters"] < train["parameters"] and train["init"] == "base"


def test_a_non_finite_loss_stops_with_one_line_and_leaves_nothing(here, tmp_path):
    optimizer = {"name": "sgd", "lr": 1e30, "clip_norm": None}
    project = make_boxes(tmp_path / "nan", {"phase_defaults": {"fabric": {"optimizer": optimizer}}})
    code, shown = here(project)
    assert code == 1 and shown.startswith("error: epoch 1, step ") and len(shown.splitlines()) == 1
    assert "is not finite" in shown and "e+29; batch: img0" in shown
    assert not (project / "models/boxes/base").exists()


@pytest.mark.parametrize(
    ("changes", "phase", "message"),
    [
        ({}, "nothing", "no phase or repeat 'nothing'; allowed: base"),
        ({"phase_defaults": {"fabric": {"monitor": "AP50"}}}, "base", "monitor = 'AP50'"),
        ({"machine": {"device": "cuda"}}, "base", "machine.device = 'cuda'"),
        ({"phase_defaults": {"fabric": {"freeze": "encoder"}}}, "base", "no separate encoder"),
    ],
)
def test_wrong_input_is_one_line(here, tmp_path, changes, phase, message):
    if "device" in changes.get("machine", {}) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    project = make_boxes(tmp_path / "wrong", changes)
    code, shown = here(project, phase)
    assert code == 1 and message in shown
    assert shown.startswith("error: ") and len(shown.splitlines()) == 1
    assert not (project / "models/boxes/base").exists()


def test_the_fixture_is_a_valid_study():
    from retrace.config.load import parse

    assert parse(params()).phases["base"].epochs == 3
