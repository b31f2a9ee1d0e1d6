"""A finished `collect` and `rebalance` for detection in miniature: rectangles to find, and the parameters for them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrace.config import merge, whole
from retrace.data.hashing import inspect
from retrace.data.splits import write_list
from retrace.documents.manifest import Box, Record, write_records
from retrace.files import write_json
from tests.support.projects import as_yaml

CLASSES = ["red", "blue"]
COLORS = [[230, 30, 30], [30, 30, 230]]
SMALL_YOLO = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""
SMALL_SHA256 = hashlib.sha256(SMALL_YOLO.encode()).hexdigest()
HYPERPARAMETERS = {
    "epochs": 4,
    "imgsz": 64,
    "batch": 2,
    "optimizer": "AdamW",
    "lr0": 0.01,
    "lrf": 0.1,
    "cos_lr": True,
    "warmup_epochs": 1,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "nbs": 6,  # an optimizer step every 3 batches: with 4 batches an epoch, gradients wait across the epochs' ends
    "box": 7.5,
    "cls": 0.5,
    "dfl": 1.5,
    "iou": 0.7,
    "conf": 0.25,
    "max_det": 50,
    "mosaic": 0.5,
    "mixup": 0.2,
    "copy_paste": 0.0,
    "degrees": 3.0,
    "translate": 0.1,
    "scale": 0.2,
    "shear": 0.0,
    "perspective": 0.0,
    "flipud": 0.0,
    "fliplr": 0.5,
    "close_mosaic": 1,
    "hsv_h": 0.01,
    "hsv_s": 0.2,
    "hsv_v": 0.2,
    "erasing": 0.0,
    "patience": 50,
    "save_period": -1,
    "amp": False,
    "cache": False,
    "freeze": 0,
}


def params(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """params.yaml of study `shapes` with the phases `yolo` and `light` (Faster R-CNN); `changes` merged in."""
    values: dict[str, Any] = {
        "study": "shapes",
        "task": "detection",
        "phase": "yolo",
        "seed": 5,
        "classes": CLASSES,
        "data": {"root": "nowhere", "source": {"kind": "yolo"}},
        "rebalance": {"min_units": 1},
        "phase_defaults": {
            "fabric": {
                "model": {
                    "architecture": "fasterrcnn",
                    "encoder": "mobilenet_v3_large_320_fpn",
                    "min_size": 64,
                    "max_size": 96,
                },
                "input_size": [64, 96],
                "epochs": 2,
                "batch_size": 4,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "clip_norm": 10.0},
                "schedule": {"name": "cosine", "warmup_epochs": 1, "final_lr": 1e-6},
                "augment": {"flip": 0.5, "color": 0.2},
                "resize_range": [56, 72],
                "monitor": "AP50",
            },
            "ultralytics": {"model": "small.yaml", "model_sha256": SMALL_SHA256, "hyperparameters": HYPERPARAMETERS},
        },
        "phases": {"yolo": {"engine": "ultralytics", "init": "none"}, "light": {"init": "none"}},
        "evaluate": {"bootstrap": 100, "min_reliable": 1, "samples": 0},
        "report": {"title": "Shapes"},
        "runtime": {"threads": 1},
        "machine": {"device": "cpu", "workers": 0},
    }
    return merge(values, changes or {})


def write_params(project: Path, changes: dict[str, Any] | None = None) -> None:
    """params.yaml of the project."""
    (project / "params.yaml").write_text(as_yaml(whole(params(changes))), encoding="utf-8")


def make_shapes(project: Path, changes: dict[str, Any] | None = None, train: int = 7, val: int = 4) -> Path:
    """A project folder with params.yaml, raw images of two sizes with one to three boxes (the last of train with none,
    the first with a crowd region as well), lists, small.yaml and the empty starting weights."""
    project.mkdir(parents=True, exist_ok=True)
    write_params(project, changes)
    (project / "small.yaml").write_text(SMALL_YOLO, encoding="utf-8")
    raw, splits = project / "data/shapes/raw", project / "data/shapes/splits"
    (raw / "images").mkdir(parents=True)
    splits.mkdir()
    random = np.random.default_rng(3)
    ids = [f"img{index:02d}" for index in range(train + val)]
    records = []
    for index, image_id in enumerate(ids):
        boxes = [] if index == train - 1 else shapes(random, int(random.integers(1, 4)))
        records.append(draw(raw, image_id, "train" if index < train else "val", boxes, random))
    first = records[0]
    records[0] = Record(**{**vars(first), "boxes": (*first.boxes, Box(1, (1.0, 1.0, 20.0, 20.0), crowd=True))})
    write_records(raw / "manifest.jsonl", records)
    write_list(splits, "train", ids[:train])
    for name in ("val", "test"):
        write_list(splits, name, ids[train:])
    write_json(project / "models/shapes/none/start.json", {"method": "none", "encoder": None, "files": {}})
    return project


def shapes(random: np.random.Generator, count: int) -> list[Box]:
    """Boxes of whole pixels inside 56 x 56."""
    boxes = []
    for _ in range(count):
        width, height = (int(side) for side in random.integers(14, 30, 2))
        left, top = int(random.integers(0, 56 - width)), int(random.integers(0, 56 - height))
        boxes.append(Box(int(random.integers(2)), (float(left), float(top), float(width), float(height))))
    return boxes


def draw(raw: Path, image_id: str, split: str, boxes: list[Box], random: np.random.Generator) -> Record:
    """Write one picture, later boxes over earlier ones, and return its manifest row."""
    height, width = ((64, 96), (60, 60))[int(random.integers(2))]
    pixels = np.full((height, width, 3), 90) + random.integers(-20, 20, (height, width, 3))
    for box in boxes:
        left, top, across, down = (int(value) for value in box.xywh)
        pixels[top : top + down, left : left + across] = COLORS[box.label]
    Image.fromarray(pixels.astype(np.uint8)).save(raw / f"images/{image_id}.png")
    seen = inspect((raw / f"images/{image_id}.png").read_bytes())
    counts = {name: sum(box.label == label for box in boxes) for label, name in enumerate(CLASSES)}
    return Record(
        image_id,
        f"images/{image_id}.png",
        None,
        seen.sha256,
        seen.phash,
        width,
        height,
        image_id,
        split,
        image_id,
        counts,
        tuple(boxes),
    )
