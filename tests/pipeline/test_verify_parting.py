"""`retrace verify` names where a rerun parts from the record, and `--spot` runs single epochs again."""

import hashlib
import io
import json
import re
import shutil

import pytest
import torch

from retrace.config.load import load
from retrace.provenance.verify.chains import check
from retrace.provenance.verify.costs import bytes_of_states
from retrace.provenance.verify.spot import choose
from tests.support.projects import commit, committed_run, copy_of
from tests.support.verified import as_process, edit, flip, smallest

pytestmark = pytest.mark.slow
RECORDED = "            recorder.batch(task.files(batch), batch)"
PLANTED = "            if (ledger.epoch, index) == (2, 1):\n                next(model.parameters()).data[0] += 1\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A project whose study ran with its states and digests of its steps kept, and whose results are committed."""
    target = tmp_path_factory.mktemp("parting") / "project"
    values = smallest() | {"machine": {"device": "cpu", "keep_states": True, "record_steps": True}}
    return committed_run(target, values)


@pytest.fixture
def tampered(results, tmp_path):
    """A copy of it."""
    return copy_of(results, tmp_path / "copy")


def seed_of(epoch: int, epochs: int = 2) -> int:
    """A seed with which one drawn epoch is this one."""
    return next(seed for seed in range(99) if choose(epochs, 1, seed) == [epoch - 1])


def test_a_training_that_parts_ends_there_with_epoch_step_and_tensor(tampered, tmp_path):
    edit(tampered / "retrace/training/loop.py", RECORDED, PLANTED + RECORDED)
    commit(tampered, "code that computes something else from the second step of the second epoch on")
    done = as_process(tampered, "verify", "--data-from-cache", temporary=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    row = r"^finetune@baseline +models/lanes/baseline +\w{8} +epoch 2, step 2 +DIFFERENT"
    assert re.search(row, done.stdout, re.M), done.stdout
    rows = [json.loads(line) for line in (tampered / "logs/lanes/baseline/steps.jsonl").read_text().splitlines()]
    step = next(row for row in rows if (row["epoch"], row["step"]) == (2, 2))
    first = json.loads((tampered / "models/lanes/baseline/hashes.json").read_text())["tensors"][0]
    (line,) = re.findall(r"^DIFFERENT: finetune@baseline: (.+)", done.stdout, re.M)
    assert f"first tensor: {first}; " in line and f"images of the batch: {', '.join(step['images'])}" in line
    assert re.search(r"^rebalance +data/lanes/splits .*same", done.stdout, re.M) and "evaluate@" not in done.stdout
    assert "the rerun ended there" in done.stderr and "retrace/training/loop.py" in done.stdout


def test_a_spot_check_passes_and_says_what_it_would_have_seen(results, tmp_path):
    done = as_process(results, "verify", "--spot", "1", "--seed", str(seed_of(2)), temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^finetune@baseline +epoch 2 +(\w{8}) +\1 +same", done.stdout, re.M), done.stdout
    assert re.search(r"^evaluate@baseline +metrics/lanes/baseline +(\w{8}) +\1 +same", done.stdout, re.M)
    assert re.search(r"^report +reports/lanes .*same", done.stdout, re.M)
    assert "seen with a chance of 1 in 2 (50 %)" in done.stdout.splitlines()[-1]
    assert "Running stage 'finetune" not in next((results / "logs/verify").iterdir()).read_text()
    assert not list(tmp_path.glob("retrace-verify-*"))


def test_a_kept_state_that_was_edited_and_signed_again_is_noticed(tampered, tmp_path):
    (path,) = (tampered / ".retrace/states/lanes").glob("baseline-*/epoch-000001.ckpt")
    size = hashlib.sha256().digest_size
    state = torch.load(io.BytesIO(path.read_bytes()[:-size]), weights_only=True)
    state["optimizer"]["state"][0]["exp_avg"][0] += 1
    stream = io.BytesIO()
    torch.save(state, stream)
    path.write_bytes(stream.getvalue() + hashlib.sha256(stream.getvalue()).digest())
    done = as_process(tampered, "verify", "--spot", "1", "--seed", str(seed_of(2)), temporary=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^finetune@baseline +epoch 2 .*DIFFERENT", done.stdout, re.M) and "evaluate@" not in done.stdout
    assert "epoch 1 differs from the record: optimizer; the state that was kept" in done.stdout


def test_the_record_fits_the_weights_and_the_states_have_the_size_that_is_said(results, tmp_path, monkeypatch):
    monkeypatch.chdir(results)
    params = load()
    assert check(results, params) == []
    kept = sum(path.stat().st_size for path in results.glob(".retrace/states/lanes/*/*.ckpt"))
    assert bytes_of_states(results, params) == pytest.approx(kept, rel=0.1)
    for name in ("models", "metrics"):
        shutil.copytree(results / name, tmp_path / name)
    flip(tmp_path / "models/lanes/baseline/weights.safetensors")
    (line,) = check(tmp_path, params)
    assert re.search(r"models/lanes/baseline/weights\.safetensors: \S+: not the tensor", line)
