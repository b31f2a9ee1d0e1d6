"""Training by two processes takes the steps of one: gradients, samples, losses, pre-training."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from retrace.config.load import load
from retrace.config.machine import Machine
from retrace.config.phases import CrossEntropy, SegmentationAugment
from retrace.config.pretrain import Mae
from retrace.config.steps import Cosine, Sgd
from retrace.data.loading import Room, SegmentationTraining, collate_training, training_loader
from retrace.data.manifest import read_manifest
from retrace.data.splits import read_list
from retrace.training import segmentation
from retrace.training.launch import launch
from retrace.training.loop import Plan, Task, fit
from retrace.training.losses import build_loss, scored_weight
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer
from stages import finetune, pretrain
from tests.support.fixtures_training import make_boxes
from tests.support.helpers_models import MAE, study, write_images
from tests.support.two_processes import both, history, md5s, one_thread  # noqa: F401


def convolutions():
    """No BatchNorm: nothing in it depends on who else is in the batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))


def train(_rank, project, loss, accumulate=1, epochs=2, wrong=False):
    """Train on the boxes; returns (weights, history, ids of this process by batch)."""
    fabric = launch(Machine(device="cpu"), "32-true")
    raw = project / "data/boxes/raw"
    manifest, ids = read_manifest(raw), read_list(project / "data/boxes/splits", "train")
    changes = SegmentationAugment(flip=0.5, scale=(0.5, 1.0), crop=24)
    samples = SegmentationTraining(manifest, ids, (32, 48), changes, 5, Room(2**30))
    loader = training_loader(samples, 5, 5, 0, collate_training, fabric.global_rank, fabric.world_size)
    model, seen = convolutions(), []
    optimizer = build_optimizer(Sgd(name="sgd", lr=0.5, momentum=0.9), model)
    compute = segmentation.Loss(build_loss(loss, PIXELS))
    weigh = scored_weight(loss, PIXELS)

    def noted(model, batch):
        seen.append(list(batch[2]))
        return compute(model, batch)

    task = Task(noted, lambda batch: batch[2], amount=None if wrong else lambda batch: weigh(batch[1]))
    plan = Plan(5, epochs, accumulate)
    schedule = Schedule(Cosine(), epochs, len(loader), accumulate)
    with Monitor("boxes", "base", active=fabric.is_global_zero) as monitor:
        result = fit(fabric, model, optimizer, schedule, loader, task, plan, None, monitor)
    return result.state, result.history, seen


PIXELS = [5000, 900, 300]
WEIGHTED = CrossEntropy(class_weights="inverse", max_class_weight=20.0)


@pytest.mark.parametrize(("loss", "accumulate"), [(CrossEntropy(), 1), (WEIGHTED, 2)], ids=["plain", "weighted"])
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch, loss, accumulate):
    project = make_boxes(tmp_path / "project", train=13)
    monkeypatch.chdir(project)
    state, rows, seen = train(0, project, loss, accumulate)
    ends = both(project, train, project, loss, accumulate)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    (first, rows0, seen0), (second, rows1, seen1) = (end.value for end in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in state:
        torch.testing.assert_close(first[name], state[name], rtol=1e-4, atol=1e-5)
    assert rows0 == rows1
    for row, own in zip(rows, rows0, strict=True):
        assert own == pytest.approx(row, rel=2e-5)
    assert [sorted(a + b) for a, b in zip(seen0, seen1, strict=True)] == [sorted(batch) for batch in seen]
    assert {len(a) - len(b) for a, b in zip(seen0, seen1, strict=True)} == {0, 1}  # of 13 in batches of 5, 4 and 4
    every = sorted(read_list(project / "data/boxes/splits", "train"))
    per_epoch = len(seen) // 2
    assert sorted(image_id for part in (seen0, seen1) for batch in part[:per_epoch] for image_id in batch) == every


def test_without_weights_the_steps_would_differ(tmp_path, monkeypatch):
    """The test above can tell: shares with different numbers of scored pixels do not count alike."""
    project = make_boxes(tmp_path / "project", train=13)
    monkeypatch.chdir(project)
    state, *_ = train(0, project, WEIGHTED)
    ends = both(project, train, project, WEIGHTED, 1, 2, True)
    assert max((ends[0].value[0][name] - state[name]).abs().max() for name in state) > 1e-3


def test_pretraining_by_two_is_pretraining_by_one(tmp_path, monkeypatch):
    mae = {**MAE, "batch_size": 3, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}
    projects = [tmp_path / "one", tmp_path / "two"]
    for project in projects:
        project.mkdir()
        monkeypatch.chdir(project)
        write_images(project, {"train": 4, "unlabeled": 3, "val": 2, "test": 1})
        (project / "params.yaml").write_text(yaml.safe_dump(study({"method": "mae", "mae": mae})), encoding="utf-8")
    monkeypatch.chdir(projects[0])
    pretrain.main()
    ends = both(projects[1], lambda rank: pretrain.main())
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    assert Mae(**mae).batch_size == 3  # 7 images: batches of 3, 2 and 2, so shares of 2 and 1
    starts = [json.loads((project / "models/toy/pretrain/start.json").read_text()) for project in projects]
    assert [start["processes"] for start in starts] == [1, 2]
    one, two = (history(project, "models/toy/pretrain") for project in projects)
    assert [float(row["loss"]) for row in two] == pytest.approx([float(row["loss"]) for row in one], rel=1e-4)
    one, two = (load_file(project / "models/toy/pretrain/encoder.safetensors") for project in projects)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)
    assert set(md5s(projects[0])) == set(md5s(projects[1]))


def test_synchronized_batchnorm_keeps_what_the_network_computes(tmp_path, monkeypatch):
    """timm's BatchNorm holds its layer's activation, which torch's own conversion would drop."""
    model = {"architecture": "unet", "encoder": "tu-efficientnet_b0", "decoder_channels": [16, 16, 8, 8, 8]}
    changes = {"phase_defaults": {"fabric": {"model": model | {"width": None}, "sync_batchnorm": True}}}
    monkeypatch.chdir(make_boxes(tmp_path / "project", changes))
    params = load()
    phase, start = params.phases["base"], Path("models/boxes/none")
    alone, both_of_two = (
        finetune.build_network(params, phase, start, "base", {}, fabric)[0].eval()
        for fabric in (
            SimpleNamespace(world_size=1, is_global_zero=True, device=torch.device("cpu")),
            SimpleNamespace(world_size=2, is_global_zero=True, device=torch.device("cuda")),  # nothing is moved there
        )
    )
    kinds = {type(part).__name__ for part in both_of_two.modules()}
    assert {"SyncBatchNorm", "SyncBatchNormAct"} <= kinds and not {"BatchNorm2d", "BatchNormAct2d"} & kinds
    assert {name for name, _ in both_of_two.named_parameters()} == {name for name, _ in alone.named_parameters()}
    images = torch.randn(2, 3, 32, 64)  # [N, 3, H, W]
    with torch.no_grad():
        torch.testing.assert_close(both_of_two(images), alone(images))
