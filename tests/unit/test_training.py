"""The training loop and what it is made of: schedules, batches, checkpoints, early stopping, samples."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Dataset

import retrace
from retrace.cli.watch import statuses, watch
from retrace.config.phases import SegmentationAugment
from retrace.config.steps import AdamW, Constant, Cosine, Poly, Sgd
from retrace.data.loading import (
    Cache,
    EpochBatches,
    Room,
    SegmentationEvaluation,
    SegmentationTraining,
    collate_training,
    training_loader,
)
from retrace.data.manifest import read_manifest
from retrace.data.transforms import augment, normalize
from retrace.errors import UserError
from retrace.training.checkpoints import Scratch, fingerprint
from retrace.training.loop import Plan, Task, fit, set_training
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer, clip
from tests.support.fixtures_training import make_boxes

SAMPLES, BATCH, BATCHES = 10, 3, 4


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Points(Dataset):
    """Regression on four numbers; sample 7 of epoch `poison` is NaN."""

    def __init__(self, poison=None):
        self.poison = poison

    def __len__(self):
        return SAMPLES

    def __getitem__(self, key):
        epoch, index = key
        generator = torch.Generator().manual_seed(index)
        value = float("nan") if epoch == self.poison and index == 7 else float(index)
        return torch.randn(4, generator=generator), torch.tensor(value), f"sample{index}"


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def squared(model, batch):
    return {"loss": (model(batch[0])[:, 0] - batch[1]).square().mean()}


def train(
    plan, validate=None, model=None, scratch=None, poison=None, optimizer=None, schedule_epochs=None, interrupt=None
):
    """Train on `Points`; `interrupt`: stop dead in the validation of that epoch."""
    fabric = Fabric(accelerator="cpu", devices=1)
    model = model or network()
    optimizer = build_optimizer(optimizer or AdamW(lr=0.01, weight_decay=0.1), model)
    schedule = Schedule(Cosine(warmup_epochs=1), schedule_epochs or plan.epochs, BATCHES, plan.accumulate)
    loader = DataLoader(Points(poison), batch_sampler=EpochBatches(SAMPLES, BATCH, plan.seed))
    calls = iter(range(1, 1000))

    def stopping(model):
        if next(calls) == interrupt:
            raise KeyboardInterrupt
        return validate(model) if validate else {"score": -model(torch.ones(2, 4)).square().mean().item()}

    task = Task(squared, lambda batch: list(batch[2]), stopping if validate or interrupt or scratch else None, "score")
    with Monitor("study", "phase") as monitor:
        return fit(fabric, model, optimizer, schedule, loader, task, plan, scratch, monitor)


def scripted(*values):
    scores = iter(values)
    return lambda model: {"score": next(scores)}


# --- best epoch, early stopping -----------------------------------------------------------------------------------


def test_the_best_epoch_is_the_first_of_equals_and_patience_counts_from_it():
    result = train(Plan(1, 20, patience=3), scripted(0.1, 0.5, 0.5, 0.4, 0.5, 0.9))
    assert (result.best_epoch, result.best_value, result.epochs_run, result.stopped) == (2, 0.5, 5, "early")


def test_a_new_best_resets_patience_and_the_end_is_not_early():
    result = train(Plan(1, 5, patience=2), scripted(0.1, 0.0, 0.2, 0.1, 0.1))
    assert (result.best_epoch, result.epochs_run, result.stopped) == (3, 5, "completed")


def test_an_undefined_metric_is_never_best():
    result = train(Plan(1, 3), scripted(None, 0.0, None))
    assert (result.best_epoch, result.best_value) == (2, 0.0)


def test_the_weights_kept_are_those_of_the_best_epoch():
    best = train(Plan(1, 5), scripted(0, 1, 0, 0, 0))
    until_then = train(Plan(1, 2), schedule_epochs=5)
    assert all(torch.equal(best.state[name], until_then.state[name]) for name in best.state)
    assert until_then.best_epoch == 2 and until_then.best_value is None  # without validation: the last


def test_an_unknown_monitor_names_the_metrics():
    with pytest.raises(UserError, match=r"monitor = 'score': no such validation metric; allowed: mIoU"):
        train(Plan(1, 2), lambda model: {"mIoU": 0.5, "val_loss": 1.0})


# --- non-finite losses --------------------------------------------------------------------------------------------


def test_a_non_finite_loss_names_step_rate_and_files():
    batches = EpochBatches(SAMPLES, BATCH, 1)
    batches.start_epoch(2)
    step = next(number for number, batch in enumerate(batches, 1) if (2, 7) in batch)
    with pytest.raises(
        UserError, match=rf"epoch 2, step {step}: the loss is not finite \(nan\) at lr 0.0\d+; .*sample7"
    ):
        train(Plan(1, 4), poison=2)
    status = json.loads(Path("logs/study/phase/status.json").read_text())
    assert status["state"] == "failed" and "sample7" in status["error"]


def test_an_exploding_gradient_is_named_too():
    class Explodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.sqrt(self.weight).expand(len(x), 1)  # finite, with an infinite slope at 0

    with pytest.raises(UserError, match="the gradient norm is not finite"):
        train(Plan(1, 2), model=Explodes())


# --- resuming -----------------------------------------------------------------------------------------------------


def same(one, other):
    assert one.history == other.history and one.hashes == other.hashes
    assert (one.best_epoch, one.best_value, one.stopped) == (other.best_epoch, other.best_value, other.stopped)
    assert (one.first_loss, one.last_loss) == (other.first_loss, other.last_loss)
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(("ema", "accumulate", "save_period"), [(0.0, 1, 1), (0.9, 3, 2)])
def test_an_interrupted_training_ends_like_an_uninterrupted_one(optimizer, ema, accumulate, save_period):
    plan = Plan(1, 7, accumulate, clip_norm=1.0, patience=6, save_period=save_period, ema=ema)
    how = {"optimizer": Sgd(name="sgd", lr=0.01) if optimizer == "sgd" else AdamW(lr=0.01)}
    whole = train(plan, scratch=Scratch("study", "whole", "0" * 64), **how)
    for epoch in (2, 4, 5):
        scratch = Scratch("study", "parts", f"{epoch}" * 64)
        with pytest.raises(KeyboardInterrupt):
            train(plan, scratch=scratch, interrupt=epoch, **how)
        same(train(plan, scratch=scratch, **how), whole)


def test_a_training_that_had_stopped_early_does_not_go_on():
    scratch = Scratch("study", "phase", "0" * 64)
    first = train(Plan(1, 9, patience=1), scripted(0.5, 0.4), scratch=scratch)
    again = train(Plan(1, 9, patience=1), scripted(), scratch=scratch)  # a validation would raise StopIteration
    assert first.stopped == "early"
    same(first, again)


def test_a_damaged_checkpoint_gives_way_to_the_one_before():
    scratch = Scratch("study", "phase", "a" * 64)
    for epoch in (1, 2, 3):
        scratch.save(epoch, {"epoch": epoch, "tensor": torch.arange(1000)})
    newest, previous = (scratch.folder / f"epoch-00000{epoch}.ckpt" for epoch in (3, 2))
    assert sorted(path.name for path in scratch.folder.iterdir()) == [previous.name, newest.name]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # torch.load itself would not notice
    newest.write_bytes(content)
    (scratch.folder / ".epoch-000004.ckpt.x.tmp").write_bytes(b"half")
    assert scratch.load()["epoch"] == 2
    previous.write_bytes(previous.read_bytes()[:100])
    assert scratch.load() is None
    assert list(scratch.folder.iterdir()) == []


def test_only_the_own_fingerprint_is_resumed_and_others_of_the_name_stay_until_the_phase_is_done():
    old, other = Scratch("study", "phase", "a" * 64), Scratch("study", "phase_two", "c" * 64)
    old.save(1, {"epoch": 1})
    other.save(1, {"epoch": 1})
    new = Scratch("study", "phase", "b" * 64)
    assert new.load() is None
    assert old.load() == {"epoch": 1}
    new.remove()
    assert not old.folder.exists() and other.load() == {"epoch": 1}


def test_the_fingerprint_follows_the_code_that_dvc_yaml_names_for_the_stage(tmp_path, monkeypatch):
    for name in ("retrace/__init__.py", "retrace/training/loop.py", "retrace/cli/watch.py", "stages/finetune.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    deps = ["data/raw", "retrace/training", "stages/finetune.py"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"finetune": {"do": {"deps": deps}}}}))
    monkeypatch.setattr(retrace, "__file__", str(tmp_path / "retrace" / "__init__.py"))
    first = fingerprint("finetune", {}, [])
    (tmp_path / "retrace/cli/watch.py").write_text("# a comment\n")
    assert fingerprint("finetune", {}, []) == first
    (tmp_path / "retrace/training/loop.py").write_text("# a comment\n")
    assert fingerprint("finetune", {}, []) != first


def test_the_fingerprint_follows_parameters_files_lock_and_device(tmp_path):
    data = tmp_path / "list.txt"
    data.write_text("a\n")
    seen = [
        fingerprint("finetune", {"lr": 0.1}, [data]),
        fingerprint("finetune", {"lr": 0.2}, [data]),
        fingerprint("finetune", {"lr": 0.1}, [data], "cuda x1"),
    ]
    data.write_text("b\n")
    seen.append(fingerprint("finetune", {"lr": 0.1}, [data]))
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/runtime.txt").write_text("torch==1\n")
    seen.append(fingerprint("finetune", {"lr": 0.1}, [data]))
    assert len(set(seen)) == 5
    assert fingerprint("finetune", {"lr": 0.1}, [data]) == seen[-1]


# --- schedule and optimizer ---------------------------------------------------------------------------------------


def test_schedule_by_hand():
    cosine = Schedule(Cosine(warmup_epochs=1, final_lr=0.1), epochs=3, batches=4, accumulate=2)
    rates = [cosine.rate(1.0, epoch, batch) for epoch in (1, 2, 3) for batch in range(4)]
    decayed = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx([0.5, 0.5, 1.0, 1.0, *(rate for rate in decayed for _ in range(2))])
    poly = Schedule(Poly(name="poly", power=2.0), epochs=1, batches=4)
    assert [poly.rate(1.0, 1, batch) for batch in range(4)] == pytest.approx([1, 0.5625, 0.25, 0.0625])
    constant = Schedule(Constant(name="constant", warmup_epochs=0.5), epochs=1, batches=4)
    assert [constant.rate(1.0, 1, batch) for batch in range(4)] == pytest.approx([0.5, 1, 1, 1])


def test_optimizer_groups():
    model = network()
    model[3].weight.requires_grad_(False)
    params = Sgd(name="sgd", lr=1.0, encoder_lr=0.1, weight_decay=0.5, momentum=0.8)
    optimizer = build_optimizer(params, model, model[0].parameters())
    found = {id(p): (g["name"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found[id(model[0].weight)] == ("lr_encoder", 0.1, 0.5)
    assert found[id(model[0].bias)] == ("lr_encoder", 0.1, 0.0)
    assert found[id(model[1].weight)] == found[id(model[3].bias)] == ("lr", 1.0, 0.0)
    assert id(model[3].weight) not in found and len(found) == 5


def test_accumulating_is_one_larger_batch():
    """Three equal batches per step equal one batch three times as large (no BatchNorm, no dropout)."""

    def run(batch, accumulate):
        torch.manual_seed(0)
        model, fabric = nn.Linear(4, 1), Fabric(accelerator="cpu", devices=1)
        optimizer = build_optimizer(Sgd(name="sgd", lr=0.01), model)
        loader = DataLoader(Points(), batch_sampler=EpochBatches(9, batch, 1))
        schedule = Schedule(Constant(name="constant"), 2, len(loader), accumulate)
        task = Task(squared, lambda batch: [])
        with Monitor("s", "p") as monitor:
            return fit(fabric, model, optimizer, schedule, loader, task, Plan(1, 2, accumulate), None, monitor)

    small, large = run(3, 3), run(9, 1)
    assert torch.allclose(small.state["weight"], large.state["weight"], atol=1e-6)
    assert small.history[-1]["grad_norm"] == pytest.approx(large.history[-1]["grad_norm"], rel=1e-5)


def test_clipping_limits_the_step():
    start = network()[0].weight.detach().clone()
    optimizer = Sgd(name="sgd", lr=0.01, momentum=0.0)
    result = train(Plan(1, 1, clip_norm=1e-3), optimizer=optimizer)
    moved = (result.state["0.weight"] - start).norm().item()
    assert 0 < moved <= BATCHES * 0.01 * 1e-3 * 1.001
    assert result.history[0]["grad_norm"] > 1  # what is recorded is the norm before clipping


def test_without_a_limit_gradients_are_measured_and_left_as_they_are():
    fabric, model = Fabric(accelerator="cpu", devices=1), network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert clip(fabric, model, optimizer, None).item() == pytest.approx(3 * count**0.5)
    assert all((parameter.grad == 3).all() for parameter in model.parameters())
    assert clip(fabric, model, optimizer, 1.0).item() == pytest.approx(3 * count**0.5)
    assert clip(fabric, model, optimizer, None).item() == pytest.approx(1)


def test_batchnorm_of_frozen_parameters_keeps_its_statistics():
    model = network()
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    set_training(model)
    assert not model[1].training and model[2].training
    result = train(Plan(1, 2), model=model)
    assert torch.equal(result.state["1.running_mean"], torch.zeros(8))
    assert not torch.equal(train(Plan(1, 2)).state["1.running_mean"], torch.zeros(8))


# --- batches and samples ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 16), st.integers(1, 3), st.integers(1, 9))
def test_every_sample_exactly_once_an_epoch_whatever_the_processes(count, size, world, epoch):
    if count // -(-count // size) < world:
        with pytest.raises(UserError, match="too small for"):
            EpochBatches(count, size, 1, 0, world)
        return
    shares = []
    for rank in range(world):
        batches = EpochBatches(count, size, 1, rank, world)
        batches.start_epoch(epoch)
        shares.append(list(batches))
        assert len(shares[-1]) == len(batches) == math.ceil(count / size)
    whole = [sorted(key for share in step for key in share) for step in zip(*shares, strict=True)]
    assert sorted(key for batch in whole for key in batch) == [(epoch, index) for index in range(count)]
    sizes = [len(batch) for batch in whole]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    single = EpochBatches(count, size, 1)
    single.start_epoch(epoch)
    assert whole == [sorted(batch) for batch in single]


def test_the_order_changes_with_the_epoch():
    batches = EpochBatches(20, 20, 1)
    orders = []
    for epoch in (1, 2):
        batches.start_epoch(epoch)
        orders.append([index for _, index in next(iter(batches))])
    assert orders[0] != orders[1] != sorted(orders[1])


CHANGES = SegmentationAugment(flip=0.5, scale=(0.6, 1.5), crop=24, color=0.5)


def test_samples_do_not_depend_on_workers_threads_or_what_was_drawn_before(tmp_path):
    manifest = read_manifest(make_boxes(tmp_path / "boxes") / "data/boxes/raw")
    ids = sorted(manifest.records)

    def drawn(workers):
        dataset = SegmentationTraining(manifest, ids, (32, 48), CHANGES, 5, Room(2**30))
        loader = training_loader(dataset, 4, 5, workers, collate_training)
        found = {}
        for epoch in (1, 2):
            loader.batch_sampler.start_epoch(epoch)
            for images, masks, names in loader:
                found |= {(epoch, name): (image, mask) for image, mask, name in zip(images, masks, names, strict=True)}
        return found

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    alone, spread = drawn(0), drawn(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert alone.keys() == spread.keys()
    assert all(torch.equal(a, b) for key in alone for a, b in zip(alone[key], spread[key], strict=True))
    assert not torch.equal(alone[1, ids[0]][0], alone[2, ids[0]][0])


def test_augmentation_moves_image_and_mask_together_and_marks_the_outside():
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[10:30, 5:25] = 1
    image = (mask * 200 + 20).expand(3, -1, -1).clone()
    for seed in range(20):
        turned, labels = augment(image, mask, SegmentationAugment(flip=0.5, scale=(0.5, 1.5)), seed)
        assert turned.shape == (3, 40, 60) and labels.shape == (40, 60)
        assert set(labels.unique().tolist()) <= {0, 1, 255}
        inside = labels != 255
        assert ((turned[0] > 120) == (labels == 1))[inside].float().mean() > 0.9
        assert (turned[0][~inside] < 25).all()
    flipped, labels = augment(image, mask, SegmentationAugment(flip=1.0), 0)
    assert torch.equal(flipped, image.flip(-1)) and torch.equal(labels, mask.flip(-1))
    colored, labels = augment(image, mask, SegmentationAugment(color=0.5), 3)
    assert torch.equal(labels, mask) and not torch.equal(colored, image)
    crop, labels = augment(image, mask, SegmentationAugment(crop=32), 1)
    assert crop.shape == (3, 32, 32) and labels.shape == (32, 32)


def test_augmentation_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    augment(torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(32, 32, dtype=torch.uint8), CHANGES, 1)
    assert torch.equal(torch.rand(3), expected)


def test_evaluation_keeps_the_native_mask(tmp_path):
    manifest = read_manifest(make_boxes(tmp_path / "boxes") / "data/boxes/raw")
    ids = sorted(manifest.records)
    dataset = SegmentationEvaluation(manifest, ids, (32, 48), Room(2**30))
    for _ in range(2):  # decoded, then from the cache
        for index, image_id in enumerate(ids):
            image, mask, name = dataset[index]
            record = manifest.records[image_id]
            assert image.shape == (3, 32, 48) and mask.shape == (record.height, record.width) and name == image_id
    assert normalize(image[None]).shape == (1, 3, 32, 48)


def test_the_cache_is_bounded_and_hands_out_copies():
    cache = Cache(10, (2, 2, 3), Room(3 * 12 + 5))
    for index in range(10):
        cache.put(index, np.full((2, 2, 3), index, np.uint8))
    assert [index for index in range(10) if cache.get(index) is not None] == [0, 1, 2]
    cache.get(1)[:] = 77
    assert (cache.get(1) == 1).all()
    assert Cache(10, (100, 100, 3), Room(10)).get(0) is None


# --- the live view ------------------------------------------------------------------------------------------------


def test_watch_shows_a_finished_and_a_dead_training(capsys):
    train(Plan(1, 2), scripted(0.25, 0.125))
    watch("study", once=True)
    shown = capsys.readouterr().out
    assert "finished" in shown and "2/2" in shown and "0.2500" in shown
    path = Path("logs/study/phase/status.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running", "pid": 2**22 + 1}))
    assert [one.state for one in statuses("study")] == ["stopped"]
    with pytest.raises(UserError, match="no training of study 'other'"):
        watch("other", once=True)


def test_tensorboard_has_losses_rates_norm_and_metric():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Plan(1, 2), scripted(0.25, 0.125))
    events = EventAccumulator("logs/study/phase/tensorboard").Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/grad_norm", "learning_rate/lr", "val/score"}
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 2 * BATCHES + 1))
    assert [event.value for event in events.Scalars("val/score")] == [0.25, 0.125]
