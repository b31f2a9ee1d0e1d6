"""What outs say of how they were made, so that a clone that has only them can say it too."""

import json
import shutil
from pathlib import Path

import pytest

from retrace.config.load import load
from retrace.data.formats.problems import Problems
from retrace.report.inputs import read_inputs
from retrace.report.made_from import origin
from retrace.report.provenance import provenance
from stages import collect, evaluate, finetune, pretrain, rebalance
from tests.support.fixtures_metrics import LANES, build
from tests.support.fixtures_training import make_boxes
from tests.support.two_processes import one_thread  # noqa: F401


@pytest.fixture
def other_lock(monkeypatch):
    """Inside an image that was built from another lock, with --allow-unpinned."""
    monkeypatch.setenv("RETRACE_LOCK_SHA256", "f" * 64)
    monkeypatch.setenv("RETRACE_ALLOW_UNPINNED", "1")


def outs(project):
    """What every stage writes about itself."""
    rebalance.main()
    pretrain.main()
    finetune.main("base")
    evaluate.main("base")
    paths = ("data/boxes/splits/summary.json", "models/boxes/none/start.json", "models/boxes/base/train.json")
    read = [json.loads((project / path).read_text()) for path in (*paths, "metrics/boxes/base.json")]
    return [*read, collect.dataset_of(load(), [], [], Problems()).content()]


def test_every_stage_in_another_image_marks_its_outs_and_a_pinned_one_does_not(tmp_path, monkeypatch, request):
    project = make_boxes(tmp_path / "project", {"phase_defaults": {"fabric": {"epochs": 1}}})
    monkeypatch.chdir(project)
    monkeypatch.delenv("RETRACE_LOCK_SHA256", raising=False)
    assert not any("unpinned" in document for document in outs(project))
    request.getfixturevalue("other_lock")
    assert all(document["unpinned"] is True for document in outs(project))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Outs of every stage and, as in a fresh clone after `dvc pull`, no logs."""
    build(tmp_path, "segmentation", LANES)
    shutil.rmtree(tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETRACE_LOCK_SHA256", raising=False)
    return tmp_path


def change(path, **values):
    document = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**document, **values}))


def made_from():
    inputs = read_inputs(load())
    return provenance(inputs), str(origin(inputs, provenance(inputs)))


def test_the_number_of_processes_is_in_the_outs_and_in_the_report(project):
    start, file = "models/lanes/pretrain/start.json", "metrics/lanes/{}.json"
    change(start, processes=2)
    for phase, count in (("baseline", 2), ("mae_ohem", 4)):
        training = json.loads(Path(file.format(phase)).read_text())["training"]
        change(file.format(phase), training={**training, "processes": count})
    document, text = made_from()
    assert document.processes == {"pretrain": 2, "baseline": 2, "mae_ohem": 4}
    assert "pretrain 2, baseline 2, mae_ohem 4" in text


def test_the_report_reads_the_mark_from_the_outs(project):
    assert made_from()[0].image.unpinned_steps == []
    change("data/lanes/raw/dataset.json", unpinned=True)
    change("metrics/lanes/baseline.json", unpinned=True)
    training = json.loads(Path("metrics/lanes/baseline.json").read_text())["training"]
    change("metrics/lanes/baseline.json", training={**training, "unpinned": True})
    change("models/lanes/pretrain/start.json", unpinned=True)
    change("data/lanes/splits/summary.json", unpinned=True)
    document, text = made_from()
    steps = ["collect", "evaluate@baseline", "finetune@baseline", "pretrain", "rebalance"]
    assert document.image.unpinned_steps == steps
    assert f"in these steps: {', '.join(steps)}" in text
