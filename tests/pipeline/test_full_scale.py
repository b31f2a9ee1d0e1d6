"""The five full-scale study files through all six stages, on small data in the layouts that they expect.

Only counts, sizes and epochs are lowered, as `dvc exp run -S` would; published weights are files of random numbers.
"""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, fasterrcnn_resnet50_fpn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from retrace.cli.use import use
from retrace.config import read_yaml
from retrace.config.load import load
from retrace.config.network import Unet
from retrace.data.formats.missing import missing
from retrace.downloads import DOWNLOADS
from retrace.files import sha256_of, write_bytes
from retrace.models.build import build
from retrace.models.published import address
from retrace.models.segmentation import encoder_of
from retrace.models.weights import write_tensors
from stages import collect, evaluate, finetune, pretrain, rebalance, report
from tests.support.every_stage import in_order
from tests.support.projects import ROOT, as_yaml

pytestmark = pytest.mark.slow

DATA = {
    "lanes": {"scene": "lanes", "seed": 1, "height": 64, "width": 96, "train": 6, "val": 6, "test": 6, "unlabeled": 6},
    "offroad": {"scene": "offroad", "seed": 1, "height": 64, "width": 96, "train": 4, "val": 4, "test": 4},
    "bdd100k": {"scene": "driving", "seed": 1, "height": 64, "width": 96, "train": 4, "val": 2, "test": 2},
    "slopes": {"scene": "slopes", "seed": 1, "height": 64, "width": 64, "train": 8, "val": 4, "test": 4},
    "plates": {"scene": "plates", "seed": 1, "height": 64, "width": 96, "train": 4, "val": 2, "test": 2},
}
EVERY = {
    "evaluate.bootstrap": 100,
    "evaluate.samples": 1,
    "evaluate.batch_size": 2,
    "rebalance.min_val_instances": 1,
    "rebalance.min_test_instances": 0,
    "rebalance.min_units": 1,
    "runtime.threads": 1,
    "machine.device": "cpu",
    "machine.workers": 0,
}
SMALL_FABRIC = {"input_size": [64, 96], "epochs": 1, "batch_size": 2}
SMALL_DETECTOR = {"model.min_size": 64, "model.max_size": 107, "resize_range": [64, 107]}
SMALL_YOLO = {"hyperparameters.epochs": 1, "hyperparameters.imgsz": 64, "hyperparameters.batch": 4}
LOWERED = {
    "lanes": {
        "rebalance.min_pixels": 5,
        "pretrain.mae.input_size": [64, 96],
        "pretrain.mae.epochs": 1,
        "pretrain.mae.batch_size": 4,
    },
    "offroad": {"rebalance.min_pixels": 1, "rebalance.min_val_instances": 0, "phases.aggressive.augment.crop": 48},
    "bdd100k": {},
    "slopes": {},
    "plates": {},
}


@pytest.fixture
def project(tmp_path, monkeypatch, no_network):
    for name in ("studies", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("study", DATA)
def test_the_full_scale_file_runs_to_its_report(project, study):
    use(study, False, False)
    lower(study)
    root = Path(load().data.root)
    shutil.rmtree(root)
    draw(study, root)
    assert missing(load().data, root) == []
    before = load()
    for stage in (collect, rebalance, pretrain):
        stage.main()
    for phase in in_order():
        finetune.main(phase)
        evaluate.main(phase)
    report.main()
    assert load() == before
    for phase in before.phases:
        scores = json.loads(Path(f"metrics/{study}/{phase}.json").read_text())["splits"]
        assert set(scores) == set(before.evaluate.splits)
    text = Path(f"reports/{study}/report.md").read_text(encoding="utf-8")
    assert before.report.title in text
    assert (Path(f"reports/{study}") / "report.html").is_file()


def lower(study):
    """Set the parameters of params.yaml as `-S` does: keys that are there."""
    values = read_yaml(Path("params.yaml"))
    changes = {**EVERY, **LOWERED[study]}
    for name, phase in values["phases"].items():
        small = SMALL_YOLO if phase.get("engine") == "ultralytics" else SMALL_FABRIC
        if phase.get("model") and "min_size" in phase["model"]:
            small = {**small, **SMALL_DETECTOR}
        changes |= {f"phases.{name}.{key}": value for key, value in small.items()}
    for key, weights in (values["pretrain"].get("weights") or {}).items():
        changes[f"pretrain.weights.{key}.sha256"] = stand_in(weights["name"])
    for key, value in changes.items():
        *places, last = key.split(".")
        block = values
        for place in places:
            block = block[place]
        assert last in block or key in ("rebalance.min_units",), key
        block[last] = value
    Path("params.yaml").write_text(as_yaml(values), encoding="utf-8")


def draw(study, root):
    """The data of the study's generator in its published folders, the clip of lanes left out."""
    from retrace.config.data import Synthetic
    from scenes import generate

    generate(Synthetic(**DATA[study]), root)
    if study == "lanes":
        (root / "unlabeled/drive.mp4").unlink()
    if study == "offroad":
        shutil.rmtree(root / "test")
        for split in ("train", "val"):
            (root / split / "images").rename(root / split / "Color_Images")
            (root / split / "masks").rename(root / split / "Segmentation")


def stand_in(name):
    """A file of random numbers where the download of a published checkpoint is kept; returns its sha256."""
    torch.manual_seed(0)
    kept = Path("published", address(name).rsplit("/", 1)[1])
    kept.parent.mkdir(exist_ok=True)
    if name == "yolo11s":
        write_bytes(kept, yolo())
    elif kept.suffix == ".safetensors":
        block = Unet(architecture="unet", encoder=name.partition(".")[0])
        write_tensors(kept, encoder_of(build(block, ["a", "b"])).state_dict())
    else:
        write_bytes(kept, saved(torchvision_network(name).state_dict()))
    found = sha256_of(kept)
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    kept.rename(DOWNLOADS / f"{found[:16]}-{kept.name}")
    return found


def torchvision_network(name):
    if name.startswith("DeepLabV3_MobileNet"):
        return deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    light = name.startswith("FasterRCNN_MobileNet")
    make = fasterrcnn_mobilenet_v3_large_fpn if light else fasterrcnn_resnet50_fpn
    return make(weights=None, weights_backbone=None, num_classes=91)


def yolo():
    """An Ultralytics checkpoint for COCO's 80 classes."""
    from retrace.models.yolo_network import build_yolo, dump_yolo

    classes = [f"class {number}" for number in range(80)]
    return dump_yolo("yolo11s", classes, build_yolo("yolo11s", classes).state_dict(), {}, {})


def saved(tensors):
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()
