"""Small detection data sets on disk, written by the formulas of the formats' own documents, to test the readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.data import formats as sources
from retrace.data.formats import Item
from retrace.data.formats.problems import Problems

SIZE = (64, 48)  # width, height
SPLITS = {"train": "train", "val": "valid", "test": "test"}
COCO = {
    "kind": "coco",
    "annotations": {split: f"{folder}/_annotations.coco.json" for split, folder in SPLITS.items()},
    "images": SPLITS,
}


def params(source: Mapping[str, Any], classes: Sequence[str] = ("a", "b"), **data: Any) -> Params:
    """Valid parameters of a detection study that reads `source`."""
    phase = {
        "init": "none",
        "model": {"architecture": "fasterrcnn", "encoder": "mobilenet_v3_large_fpn"},
        "input_size": [64, 64],
        "epochs": 1,
        "batch_size": 1,
        "optimizer": {"lr": 0.1},
        "monitor": "AP50",
    }
    return parse(
        {
            "study": "boxes",
            "task": "detection",
            "phase": "one",
            "seed": 1,
            "classes": list(classes),
            "data": {"root": "source", "source": dict(source), **data},
            "phases": {"one": phase},
            "report": {"title": "Boxes"},
        }
    )


def read(root: Path, settings: Params) -> tuple[dict[str, Item], Problems]:
    """Items by name, and what was found wrong."""
    problems = Problems()
    return {item.name: item for item in sources.read(root.resolve(), settings, problems)}, problems


def kinds(problems: Problems) -> set[tuple[str, str]]:
    """(kind, path) of what cannot be used."""
    return {(row.kind, row.path) for row in problems.serious}


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """A noise picture of (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def yolo(root: Path, rows: Mapping[str, str | None], data_yaml: str | None = None) -> Path:
    """A YOLO set: {"train/a": rows of train/labels/a.txt, or None for no file}; data.yaml with the classes a and b."""
    for number, (name, text) in enumerate(rows.items()):
        folder, stem = name.split("/")
        picture(root / folder / "images" / f"{stem}.png", number)
        if text is not None:
            (root / folder / "labels").mkdir(parents=True, exist_ok=True)
            (root / folder / "labels" / f"{stem}.txt").write_text(text)
    default = "train: train/images\nval: valid/images\nnc: 2\nnames: [a, b]\n"
    (root / "data.yaml").write_text(default if data_yaml is None else data_yaml)
    return root


def coco_file(root: Path, split: str, content: Any) -> None:
    """Write the annotation file of one split as it is."""
    path = root / COCO["annotations"][split]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(root: Path, boxes: Mapping[str, Sequence[Sequence[float]]], split: str = "train") -> dict[str, Any]:
    """The content of a COCO file with these boxes (class a) per image; makes the pictures, does not write the file."""
    images, annotations = [], []
    for name, rows in boxes.items():
        picture(root / SPLITS[split] / name, len(images) + 100 * list(SPLITS).index(split))
        images.append({"id": len(images), "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for bbox in rows:
            image_id, image = len(annotations), images[-1]["id"]
            annotations.append({"id": image_id, "image_id": image, "category_id": 1, "bbox": list(bbox), "iscrowd": 0})
    categories = [{"id": 0, "name": "things"}, {"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"categories": categories, "images": images, "annotations": annotations}


def voc_xml(
    objects: Sequence[tuple[str, Sequence[float]]], extra: str = "", size: tuple[int, int] | None = SIZE
) -> str:
    """A Pascal VOC file: (name, (xmin, ymin, xmax, ymax)) each, `extra` inside every object."""
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    tags = ("xmin", "ymin", "xmax", "ymax")
    rows = [
        f"<object><name>{name}</name>{extra}<bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
        + "</bndbox></object>"
        for name, corners in objects
    ]
    return f"<annotation><filename>../../x.png</filename>{stated}{''.join(rows)}</annotation>"


def voc(root: Path, files: Mapping[str, str | None]) -> Path:
    """A Pascal VOC set: {stem: XML text or None}, all in ImageSets/train.txt."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets").mkdir(exist_ok=True)
    for number, (stem, text) in enumerate(files.items()):
        picture(root / "JPEGImages" / f"{stem}.png", number)
        if text is not None:
            (root / "Annotations" / f"{stem}.xml").write_text(text)
    (root / "ImageSets" / "train.txt").write_text("".join(f"{stem}  1\n" for stem in files))
    return root


VOC = {"kind": "voc", "split": {"by": "list", "lists": {"train": "ImageSets/train.txt"}}}
