"""Real images through all six stages: the worked examples of docs/your-own-data.md, as a new user would run them."""

import json
import shutil

import pytest
from ruamel.yaml import YAML

from retrace.config import merge
from tests.support.projects import ROOT, make_project, run, write_params

pytestmark = pytest.mark.slow

QUICK = {
    "pretrain": {"mae": {"epochs": 1, "input_size": [64, 64], "decoder_dim": 32}},
    "phase_defaults": {"fabric": {"epochs": 1, "input_size": [64, 96]}},
    "evaluate": {"bootstrap": 100, "samples": 1, "batch_size": 2},
    "runtime": {"threads": 1},
}


def example(name, project, folders):
    """A project with the example's parameters, shortened, and its data where the example expects it."""
    values = YAML(typ="safe", pure=True).load((ROOT / "docs" / "examples" / f"{name}.yaml").read_text())
    make_project(project)
    write_params(project, merge(values, QUICK))
    root = project / values["data"]["root"]
    for target, source in folders.items():
        shutil.copytree(source, root / target if target else root, dirs_exist_ok=True)
    run(project, "dvc", "repro", check=True)
    return project


def test_camvid(tmp_path, real_data):
    project = example("camvid", tmp_path / "p", {"": real_data("camvid")})
    rows = [json.loads(line) for line in (project / "data/camvid/raw/manifest.jsonl").read_text().splitlines()]
    given = {split: sum(row["split"] == split for row in rows) for split in ("train", "val", "test")}
    assert given == {"train": 123, "val": 34, "test": 59}
    assert {row["group"] for row in rows} >= {"0001TP", "0006R0", "0016E5", "Seq05VD"}
    metrics = json.loads((project / "metrics/camvid/tuned.json").read_text())
    assert metrics["splits"]["test"]["images"] == 59
    assert 0 < metrics["splits"]["test"]["mIoU"]["value"] < 1
    # the published split cuts a sequence in two, and the report says so
    summary = json.loads((project / "data/camvid/splits/summary.json").read_text())
    assert any(leak["kind"] == "group" for leak in summary["leaks"])
    assert "0016E5" in (project / "reports/camvid/report.md").read_text()


def test_lane_masks_with_unlabeled_frames_from_elsewhere(tmp_path, real_data):
    folders = {name: real_data(name) for name in ("lanenet_sample", "carnd_video")}
    project = example("lanenet", tmp_path / "p", folders)
    header = json.loads((project / "data/lanenet/raw/dataset.json").read_text())
    images = sum(source["images"] for source in header["sources"])
    assert images == 6 + 4 + 6 + 23  # frames 0, 10, ... 220 of 221
    start = json.loads((project / "models/lanenet/pretrain/start.json").read_text())
    assert start["images"] >= 4 + 6 + 23
    assert (project / "reports/lanenet/report.html").is_file()
