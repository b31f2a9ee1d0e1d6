"""A finished `collect` and `rebalance` in miniature: colored rectangles to segment, and the parameters for them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrace.config import merge, whole
from retrace.data.hashing import inspect
from retrace.data.splits import write_list
from retrace.documents.manifest import Record, write_records
from retrace.files import write_json
from tests.support.projects import as_yaml

CLASSES = ["ground", "red", "blue"]
COLORS = np.array([[60, 60, 60], [220, 40, 40], [40, 40, 220]])


def params(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """params.yaml of study `boxes` with one phase `base`; `changes` merged in."""
    values: dict[str, Any] = {
        "study": "boxes",
        "task": "segmentation",
        "phase": "base",
        "seed": 5,
        "classes": CLASSES,
        "data": {
            "root": "nowhere",
            "source": {
                "kind": "masks",
                "images": "i",
                "masks": "m",
                "values": {name: [index] for index, name in enumerate(CLASSES)},
                "split": {"by": "ratio", "val": 0.2, "test": 0.2},
            },
        },
        "rebalance": {"min_units": 1},
        "phase_defaults": {
            "fabric": {
                "model": {"architecture": "unet_classic", "width": 4},
                "input_size": [32, 48],
                "epochs": 3,
                "batch_size": 3,
                "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01, "clip_norm": 1.0},
                "augment": {"flip": 0.5, "scale": [0.8, 1.4], "crop": 32, "color": 0.4},
                "monitor": "mIoU",
            }
        },
        "phases": {"base": {"init": "none"}},
        "report": {"title": "Boxes", "focus_classes": ["red", "blue"]},
        "runtime": {"threads": 1},
        "machine": {"device": "cpu", "workers": 0},
    }
    return merge(values, changes or {})


def write_params(project: Path, changes: dict[str, Any] | None = None) -> None:
    """params.yaml of the project."""
    (project / "params.yaml").write_text(as_yaml(whole(params(changes))), encoding="utf-8")


def only_progress(shown: str, phase: str, epochs: int) -> bool:
    """Whether a training in a pipe printed its start, a line an epoch and its end, and nothing else."""
    lines = shown.splitlines()
    return len(lines) == epochs + 2 and all(line.startswith(phase) for line in lines) and "\x1b" not in shown


def without_progress(shown: str, phase: str) -> str:
    """What else than its progress in a pipe the training of `phase` printed."""
    kept = [line for line in shown.splitlines(keepends=True) if not line.startswith((f"{phase}: ", f"{phase} "))]
    return "".join(kept)


def make_boxes(project: Path, changes: dict[str, Any] | None = None, train: int = 7, val: int = 3) -> Path:
    """A project folder with params.yaml, raw images of two sizes, lists and the empty starting weights."""
    project.mkdir(parents=True, exist_ok=True)
    write_params(project, changes)
    raw, splits = project / "data/boxes/raw", project / "data/boxes/splits"
    (raw / "images").mkdir(parents=True)
    (raw / "masks").mkdir()
    splits.mkdir()
    random = np.random.default_rng(3)
    ids = [f"img{index:02d}" for index in range(train + val)]
    records = [_draw(raw, image_id, "train" if index < train else "val", random) for index, image_id in enumerate(ids)]
    write_records(raw / "manifest.jsonl", records)
    write_list(splits, "train", ids[:train])
    write_list(splits, "val", ids[train:])
    start = {"method": "none", "encoder": None, "files": {}}
    write_json(project / "models/boxes/none/start.json", start)
    return project


def _draw(raw: Path, image_id: str, split: str, random: np.random.Generator) -> Record:
    height, width = ((48, 72), (40, 60))[int(random.integers(2))]
    mask = np.zeros((height, width), np.uint8)
    for label in (1, 2):
        top, left = int(random.integers(height - 16)), int(random.integers(width - 20))
        mask[top : top + 16, left : left + 20] = label
    noise = random.integers(-20, 20, (height, width, 3))
    image = np.clip(COLORS[mask] + noise, 0, 255).astype(np.uint8)
    mask[:2] = 255
    Image.fromarray(image).save(raw / f"images/{image_id}.png")
    Image.fromarray(mask).save(raw / f"masks/{image_id}.png")
    seen = inspect((raw / f"images/{image_id}.png").read_bytes())
    counts = {name: int((mask == index).sum()) for index, name in enumerate(CLASSES)}
    return Record(
        image_id, f"images/{image_id}.png", f"masks/{image_id}.png", seen.sha256, seen.phash,
        width, height, image_id, split, image_id, counts,
        mask_sha256=hashlib.sha256((raw / f"masks/{image_id}.png").read_bytes()).hexdigest(),
    )  # fmt: skip
