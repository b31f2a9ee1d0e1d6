"""Where two runs part: the record of a training's bits against scores and weights, images, and the draw of epochs."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from retrace.cli.verify import How
from retrace.config.load import parse
from retrace.documents.hashes import Comparison, Hashes
from retrace.documents.manifest import Record, write_records
from retrace.errors import UserError
from retrace.models.weights import write_tensors
from retrace.provenance.verify import chains, spot
from retrace.provenance.verify.comparison import training_of, write_comparisons
from retrace.provenance.verify.costs import readable
from retrace.provenance.verify.images import first_difference
from retrace.provenance.verify.rerun import compared_environment
from retrace.training.digests import State
from retrace.training.record import COMPARE, Recorder, Trace, chain_of, steps_path, write_hashes
from tests.support.fixtures_metrics import build
from tests.support.verified import smallest

PARAMS = parse(smallest())
MODEL = Path("models/lanes/baseline")
EPOCHS = 4


class Wrapped(nn.Module):
    """A network inside another module, as in segmentation."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def forward(self, values):
        return self.network(values)


@pytest.fixture(params=[False, True], ids=["weights", "average"])
def trained(request, tmp_path, monkeypatch):
    """The files of a training of a few epochs of two steps, the second the best, in the working folder; its hashes."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    model = Wrapped()
    average = AveragedModel(model) if request.param else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    hashes = {}
    state = State(model, optimizer, average, torch.device("cpu"), dict)
    recorder = Recorder(hashes, state, Trace(log=steps_path("lanes", "baseline")))
    recorder.begin()
    for epoch in range(1, EPOCHS + 1):
        for step in range(2):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
            recorder.batch([f"image{step}"], step)
        recorder.epoch({"epoch": epoch, "loss": 0.5})
        if epoch == 2:
            scored = model if average is None else average.module
            write_tensors(MODEL / "weights.safetensors", scored.network.state_dict())
    write_hashes(MODEL, hashes)
    (MODEL / "train.json").write_text(json.dumps(outcome_of(chain_of(hashes))))
    return hashes


def outcome_of(chain):
    losses = {"best_value": 0.5, "first_loss": 1.0, "last_loss": 0.5}
    counts = {"best_epoch": 2, "epochs_run": EPOCHS, "epochs_planned": EPOCHS}
    sizes = {"parameters": 10, "trainable_parameters": 10}
    return {"init": "none", "monitor": "mIoU", "stopped": "completed", "chain": chain, **losses, **counts, **sizes}


def write_scores(results: Path, chain: list[str]) -> None:
    """metrics/lanes/baseline.json with this chain."""
    build(results, "segmentation")
    path = results / "metrics/lanes/baseline.json"
    content = json.loads(path.read_text())
    content["training"] |= outcome_of(chain)
    path.write_text(json.dumps(content))


def test_a_record_fits_the_weights_of_its_best_epoch(trained):
    assert chains.check(Path(), PARAMS) == []


def test_one_bit_of_the_weights_is_named_with_its_tensor(trained):
    from safetensors.torch import load_file

    tensors = load_file(MODEL / "weights.safetensors")
    tensors["0.weight"].reshape(-1).view(torch.int32)[4] ^= 1
    write_tensors(MODEL / "weights.safetensors", tensors)
    (line,) = chains.check(Path(), PARAMS)
    assert "weights.safetensors: 0.weight: " in line and "epoch 2" in line


def test_tensors_that_are_added_or_left_out_are_named(trained):
    from safetensors.torch import load_file

    tensors = load_file(MODEL / "weights.safetensors")
    for changed in ({**tensors, "0.more": torch.zeros(1)}, {k: v for k, v in tensors.items() if k != "0.more"}):
        changed.pop("1.bias")
        write_tensors(MODEL / "weights.safetensors", changed)
        (line,) = chains.check(Path(), PARAMS)
        assert "1.bias" in line
    write_tensors(MODEL / "weights.safetensors", {**tensors, "0.more": torch.zeros(1)})
    assert "0.more" in chains.check(Path(), PARAMS)[0]


@pytest.mark.parametrize("key", ["model", "optimizer", "generators", "tensors", "order", "history", "chain"])
def test_an_edited_digest_breaks_the_chain_at_its_epoch(trained, key):
    content = json.loads((MODEL / "hashes.json").read_text())
    value = content["epochs"][3][key]
    content["epochs"][3][key] = ("0" if value[0] != "0" else "1") + value[1:]
    (MODEL / "hashes.json").write_text(json.dumps(content))
    assert any("hashes.json: epoch 3: chain" in line for line in chains.check(Path(), PARAMS))


def test_a_record_of_another_training_is_not_that_of_the_scores(trained):
    write_scores(Path("results"), [*chain_of(trained)[:2], *("0" * 32 for _ in range(EPOCHS - 1))])
    for name in ("hashes.json", "train.json", "weights.safetensors"):
        target = Path("results") / MODEL / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((MODEL / name).read_bytes())
    (line,) = chains.check(Path("results"), PARAMS)
    assert "from epoch 2 on" in line and "metrics/lanes/baseline.json" in line


def test_without_a_record_nothing_is_compared(tmp_path):
    assert chains.check(tmp_path, PARAMS) == []


# what the trainings of a rerun are given


def test_comparisons_hold_chain_record_and_the_steps_that_fit(trained):
    write_comparisons(Path("one"), Path(), Path(), PARAMS)
    wanted = Comparison.read(Path("one/baseline.json"))
    assert wanted.chain == chain_of(trained) and wanted.record == Hashes.model_validate(trained)
    assert Path("one/baseline.steps.jsonl").read_bytes() == steps_path("lanes", "baseline").read_bytes()
    log = steps_path("lanes", "baseline")
    rows = log.read_text().splitlines()
    other = json.loads(rows[-1])
    other["tensors"] = "0" + other["tensors"][1:] if other["tensors"][0] != "0" else "1" + other["tensors"][1:]
    for name, text in {"other": [*rows[:-1], json.dumps(other)], "short": rows[:-2], "damaged": ["{"]}.items():
        log.write_text("\n".join(text) + "\n")
        write_comparisons(Path(name), Path(), Path(), PARAMS)
        assert Path(name, "baseline.json").is_file() and not Path(name, "baseline.steps.jsonl").exists(), name


def test_the_scores_alone_give_the_chain(tmp_path):
    write_scores(tmp_path / "results", ["a", "b", "c"])
    write_comparisons(tmp_path / "compare", tmp_path / "results", tmp_path, PARAMS)
    wanted = Comparison.read(tmp_path / "compare/baseline.json")
    assert (wanted.chain, wanted.record, wanted.after, wanted.until) == (["a", "b", "c"], None, None, None)


def test_only_a_rerun_that_is_compared_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv(COMPARE, "of somebody else")
    assert COMPARE not in compared_environment(None)
    assert compared_environment(tmp_path)[COMPARE] == str(tmp_path)
    assert [training_of(stage) for stage in ("pretrain", "finetune@a", "finetune_repeat@a-18")] == [
        "pretrain",
        "a",
        "a-18",
    ]


# the first image


def records(folder: Path, **changed: dict) -> None:
    rows = [
        Record(name, f"{name}.png", None, "1", "2", 4, 4, "g", "train", f"{name}.png", **changed.get(name, {}))
        for name in ("a", "b", "c")
    ]
    write_records(folder / "manifest.jsonl", rows)


def test_the_first_image_of_the_data_that_differs_is_named(tmp_path):
    records(tmp_path / "one")
    records(tmp_path / "two", c={"counts": {"x": 1}}, b={"counts": {"x": 2}})
    found = first_difference("data/s/raw", tmp_path / "one", tmp_path / "two")
    assert found == "b: counts"
    assert first_difference("data/s/raw", tmp_path / "one", tmp_path / "one") is None
    assert first_difference("data/s/raw", tmp_path / "nothing", tmp_path / "two") is None


def test_the_first_image_that_is_in_another_split_is_named(tmp_path):
    for side, lists in {"one": ("a\nb\n", "c\n"), "two": ("a\n", "b\nc\n")}.items():
        (tmp_path / side).mkdir()
        for name, text in zip(("train", "val"), lists, strict=True):
            (tmp_path / side / f"{name}.txt").write_text(text)
    found = first_difference("data/s/splits", tmp_path / "one", tmp_path / "two")
    assert found == "b: train, rerun val"


@pytest.mark.parametrize("kind", ["confusion", "predictions", "ids"])
def test_the_first_image_that_is_scored_otherwise_is_named(tmp_path, kind):
    for side in ("one", "two"):
        folder = tmp_path / side
        folder.mkdir()
        ids = ["a", "b", "d" if (kind, side) == ("ids", "two") else "c"]
        (folder / "images_test.txt").write_text("".join(f"{name}\n" for name in ids))
        if kind == "predictions":
            rows = [{"id": name, "scores": [0.5 + (side == "two" and name != "a")]} for name in ids]
            (folder / "predictions_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            continue
        counts = np.zeros((3, 2, 2), np.int64)
        counts[1:, 0, 1] = side == "two" and kind == "confusion"
        np.save(folder / "confusion_test.npy", counts)
    found = first_difference("metrics/s/a", tmp_path / "one", tmp_path / "two")
    assert found == {"ids": "c of test, rerun d"}.get(kind, "b of test")
    assert first_difference("metrics/s/a", tmp_path / "one", tmp_path / "one") is None
    assert first_difference("models/s/a", tmp_path / "one", tmp_path / "two") is None


# the draw of epochs


@pytest.fixture
def job(tmp_path):
    """A job of a study with one training of four epochs whose states are kept."""
    write_scores(tmp_path / "before", ["0", "1", "2", "3", "4"])
    folder = tmp_path / ".retrace/states/lanes/baseline-0123456789abcdef"
    folder.mkdir(parents=True)
    for epoch in range(1, EPOCHS + 1):
        (folder / f"epoch-{epoch:06d}.ckpt").write_bytes(b"a state")
    return SimpleNamespace(project=tmp_path, before=tmp_path / "before", params=PARAMS, bits=True, why="")


def test_each_epoch_is_drawn_as_often_as_every_other():
    drawn = [spot.choose(EPOCHS, 2, seed) for seed in range(400)]
    counts = Counter(index for one in drawn for index in one)
    assert sorted(counts) == [0, 1, 2, 3] and min(counts.values()) > 150
    assert all(len(set(one)) == 2 for one in drawn)


def test_a_draw_can_be_repeated_and_not_be_known_beforehand_and_its_chance_is_said(job):
    drawn = spot.draw(job, 2, 7)
    assert drawn == spot.draw(job, 2, 7) and drawn.total == EPOCHS
    assert [epoch.number - 1 for epoch in drawn.epochs] == spot.choose(EPOCHS, 2, 7)
    assert "2 in 4 (50 %)" in drawn.chance()
    assert spot.draw(job, 1, None).seed != spot.draw(job, 1, None).seed


def test_without_the_states_the_remedy_and_its_cost_are_said(job):
    missing = next((job.project / ".retrace/states").rglob("epoch-000002.ckpt"))
    missing.unlink()
    with pytest.raises(UserError, match=r"of baseline are not kept.*-S machine\.keep_states=true.* B of disk"):
        spot.draw(job, 1, 0)


def test_more_epochs_than_there_are_and_other_bits_are_refused(job):
    with pytest.raises(UserError, match="allowed: 1 to 4"):
        spot.draw(job, 5, 0)
    job.bits, job.why = False, "another processor"
    with pytest.raises(UserError, match="another processor"):
        spot.draw(job, 1, 0)


@pytest.mark.parametrize("how", [How(spot=1, no_rerun=True), How(spot=1, data_from_cache=True), How(seed=1)])
def test_options_that_exclude_each_other_are_refused(how):
    with pytest.raises(UserError, match="--s"):
        how.require_one()
    replace(how, no_rerun=False, data_from_cache=False, spot=1).require_one()


@pytest.mark.parametrize(
    "size, text", [(0, "0.0 B"), (999, "999 B"), (1234, "1.2 kB"), (12_345_678, "12 MB"), (3 * 10**15, "3000 TB")]
)
def test_sizes_are_readable(size, text):
    assert readable(size) == text
