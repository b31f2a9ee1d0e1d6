"""The record of a training's bits, and the training that ends where it parts from it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Dataset

from retrace.config.machine import Machine
from retrace.config.steps import AdamW, Cosine
from retrace.data.loading import EpochBatches
from retrace.documents.hashes import Comparison, Hashes, Outcome
from retrace.errors import UserError
from retrace.training.checkpoints import Scratch
from retrace.training.digests import digest_of
from retrace.training.loop import Plan, Task, fit
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer
from retrace.training.record import COMPARE, chain_of, steps_path, trace_of, write_hashes

SAMPLES, BATCH, STEPS, EPOCHS = 10, 3, 4, 3
STUDY, NAME = "study", "phase"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Points(Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, key):
        generator = torch.Generator().manual_seed(key[1])
        return torch.randn(4, generator=generator), torch.tensor(float(key[1])), f"sample{key[1]}"


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def squared(model, batch):
    return {"loss": (model(batch[0])[:, 0] - batch[1]).square().mean()}


def train(scratch=None, plant=None, ema=0.0, steps=False, epochs=EPOCHS):
    """Train; `plant(model, optimizer, epoch, step)` is called after every step of the optimizer."""
    fabric, model = Fabric(accelerator="cpu", devices=1), network()
    optimizer = build_optimizer(AdamW(lr=0.01, weight_decay=0.1), model)
    count = iter(range(1000))

    def after(*_):
        index = next(count)
        if plant:
            plant(model, optimizer, index // STEPS + 1, index % STEPS + 1)

    optimizer.register_step_post_hook(after)
    plan = Plan(1, epochs, ema=ema)
    loader = DataLoader(Points(), batch_sampler=EpochBatches(SAMPLES, BATCH, plan.seed))
    task = Task(squared, lambda batch: list(batch[2]), lambda model: {"score": 0.5}, "score")
    trace = trace_of(STUDY, NAME, Machine(record_steps=steps))
    with Monitor(STUDY, NAME) as monitor:
        schedule = Schedule(Cosine(warmup_epochs=1), epochs, STEPS, 1)
        return fit(fabric, model, optimizer, schedule, loader, task, plan, scratch, monitor, trace)


def flip(tensor, index, bit):
    tensor.detach().reshape(-1).view(torch.int32)[index] ^= 1 << bit


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """Call it with a result: from then on, trainings are compared with it, with its steps if they are given."""
    folder = tmp_path / "compare"

    def to(result, whole=True, steps=None, **more):
        record = Hashes.model_validate(result.hashes) if whole else None
        Comparison(chain=chain_of(result.hashes), record=record, **more).write(folder / f"{NAME}.json")
        if steps is not None:
            (folder / f"{NAME}.steps.jsonl").write_text(steps)
        monkeypatch.setenv(COMPARE, str(folder))
        return lambda: Outcome.read(folder / f"{NAME}.found.json")

    return to


def test_a_digest_is_of_the_values_not_of_their_place_in_memory():
    values = torch.randn(2, 3, 4, 5)
    assert digest_of(values) == digest_of(values.contiguous(memory_format=torch.channels_last))
    assert digest_of(values) == digest_of(values.repeat(2, 1, 1, 1)[:2])
    other = values.clone()
    flip(other, 17, 0)
    swapped = values.clone()
    swapped[0, 0, 0, 0], swapped[0, 0, 0, 1] = values[0, 0, 0, 1], values[0, 0, 0, 0]
    known = [values, other, swapped, -values, values.half(), values.bfloat16(), values.reshape(6, 20), values[:1]]
    known += [torch.tensor(1.0), torch.tensor(1), torch.zeros(0), torch.tensor(-0.0), torch.tensor(0.0)]
    known += [[values], [values, values], {"a": values}, {"b": values}, "a", None, 1.5, np.arange(3), np.arange(2)]
    assert len({digest_of(value) for value in known}) == len(known)


def test_the_record_holds_a_row_per_epoch_and_the_same_for_every_run():
    first, second = train(), train(steps=True)
    assert first.hashes == second.hashes  # digests of steps change nothing
    record = Hashes.model_validate(first.hashes)
    assert [row.epoch for row in record.epochs] == [0, 1, 2, 3]
    assert "0.weight" in record.tensors and "optimizer/3.bias" in record.tensors
    assert all(len(row.tensors) == 8 * len(record.tensors) for row in record.epochs)
    assert len({row.chain for row in record.epochs}) == len({row.model for row in record.epochs}) == 4
    shorter = train(epochs=2)
    assert chain_of(shorter.hashes)[0] == chain_of(first.hashes)[0]
    write_hashes(Path("out"), first.hashes)
    assert Hashes.read(Path("out/hashes.json")) == record


def test_an_interrupted_training_leaves_the_same_record_and_the_same_steps():
    whole = train(steps=True)
    steps = steps_path(STUDY, NAME).read_text()
    assert len(steps.splitlines()) == EPOCHS * STEPS
    scratch = Scratch(STUDY, NAME, "0" * 64)

    def stop(model, optimizer, epoch, step):
        if (epoch, step) == (3, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(scratch, stop, steps=True)
    assert train(scratch, steps=True).hashes == whole.hashes
    assert steps_path(STUDY, NAME).read_text() == steps


@pytest.mark.parametrize("attempt", range(20))
def test_one_planted_bit_is_named_with_epoch_step_and_tensor(attempt, compared):
    random = np.random.default_rng(attempt)
    epoch, step, bit = (int(random.integers(low, high)) for low, high in ((1, 4), (1, 5), (0, 23)))
    moments = bool(attempt % 2)
    name = str(random.choice(["0.weight", "0.bias", "1.weight", "3.weight", "3.bias"]))

    def plant(model, optimizer, *place):
        if place == (epoch, step):
            parameter = dict(model.named_parameters())[name]
            tensor = optimizer.state[parameter]["exp_avg_sq"] if moments else parameter
            flip(tensor, int(random.integers(tensor.numel())), bit)

    ema = 0.9 if attempt % 4 == 0 else 0.0
    record = train(steps=True, ema=ema)
    steps = steps_path(STUDY, NAME).read_text()
    found = compared(record, steps=steps)
    with pytest.raises(UserError, match=rf"epoch {epoch}, step {step} differs from the record"):
        train(plant=plant, ema=ema)
    outcome = found()
    assert (outcome.epoch, outcome.step, outcome.same) == (epoch, step, False)
    wanted = [f"optimizer/{name}"] if moments else [name]
    assert [name for name in outcome.tensors if not name.startswith("average/")] == wanted
    assert len(outcome.images) in (2, 3)


def test_without_digests_of_steps_the_epoch_is_named_and_the_run_ends_there(compared):
    random = np.random.default_rng(0)
    for attempt in range(6):
        epoch, step = attempt % EPOCHS + 1, int(random.integers(1, STEPS + 1))
        ran = []

        def plant(model, optimizer, *place, wanted=(epoch, step), ran=ran):
            ran.append(place)
            if place == wanted:
                flip(model[0].weight, 5, 18)

        found = compared(train())
        with pytest.raises(UserError, match=f"epoch {epoch} differs from the record"):
            train(plant=plant)
        assert ran[-1] == (epoch, STEPS)
        assert found().epoch == epoch and found().step is None and "0.weight" in found().tensors
        assert "model" in found().parts and "order" not in found().parts
        Path("compare", f"{NAME}.json").unlink()


def test_the_chain_alone_names_the_epoch(compared):
    found = compared(train(), whole=False)

    def plant(model, optimizer, *place):
        if place == (2, 1):
            flip(model[0].weight, 0, 20)

    with pytest.raises(UserError, match="epoch 2 differs from the record"):
        train(plant=plant)
    assert (found().epoch, found().parts, found().tensors) == (2, [], [])


def test_a_run_that_is_the_same_goes_through(compared):
    record = train()
    compared(record)
    assert train().hashes == record.hashes


def test_one_epoch_is_run_again_from_its_kept_state(compared):
    record = train(Scratch(STUDY, NAME, "0" * 64, keeps=True))
    kept = Scratch(STUDY, NAME, "0" * 64, keeps=True).kept
    assert [path.name for path in sorted(kept.iterdir())] == [f"epoch-00000{epoch}.ckpt" for epoch in (1, 2, 3)]
    again = Scratch("again", NAME, "0" * 64)
    again.folder.mkdir(parents=True)
    (again.folder / "epoch-000001.ckpt").write_bytes((kept / "epoch-000001.ckpt").read_bytes())
    ran = []
    found = compared(record, after=1, until=2)
    with pytest.raises(UserError, match="the same as the record up to epoch 2"):
        train(again, lambda *place: ran.append(place))
    assert found().same and len(ran) == STEPS


def test_a_kept_state_that_was_changed_or_is_missing_is_noticed(compared):
    scratch = Scratch(STUDY, NAME, "0" * 64)
    record = train(scratch)
    state = scratch.load()
    flip(state["optimizer"]["state"][0]["exp_avg"], 0, 3)
    scratch.save(3, state)
    found = compared(record, after=3, until=3)
    with pytest.raises(UserError, match="not the one that was recorded"):
        train(scratch)
    assert found().parts == ["optimizer"]
    with pytest.raises(UserError, match="no state after epoch 3"):
        train(Scratch("nothing", NAME, "0" * 64))


def test_the_steps_are_readable_and_name_their_images():
    train(steps=True)
    rows = [json.loads(line) for line in steps_path(STUDY, NAME).read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows[:5]] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert sorted(name for row in rows[:4] for name in row["images"]) == sorted(f"sample{k}" for k in range(SAMPLES))
