"""A small study on disk for tests of pre-training: raw images with a manifest, split lists, and typed parameters."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrace.config.load import parse
from retrace.config.network import MODELS, Model
from retrace.config.schema import Params
from retrace.data.splits import write_list
from retrace.documents.manifest import Record, write_records
from retrace.files import write_bytes

MAE = {
    "encoder": "convnextv2_atto",
    "input_size": [64, 96],
    "decoder_dim": 32,
    "epochs": 2,
    "batch_size": 2,
    "optimizer": {"lr": 1e-3},
}


def network(block: dict[str, Any]) -> Model:
    """The typed parameters of a network from a `model` block."""
    return MODELS[block["architecture"]](**block)


def study(pretrain: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A params mapping with one segmentation phase and this `pretrain` block."""
    source = {"kind": "masks", "images": "i", "masks": "m", "values": {"a": [0], "b": [1]}}
    return {
        "study": "toy",
        "task": "segmentation",
        "phase": "one",
        "seed": 3,
        "classes": ["a", "b"],
        "data": {"root": "x", "source": {**source, "split": {"by": "ratio", "val": 0.2, "test": 0.2}}},
        "pretrain": pretrain,
        "phases": {
            "one": {
                "init": "none" if pretrain["method"] == "none" else "pretrain",
                "model": {"architecture": "unet", "encoder": "tu-convnextv2_atto", "decoder_channels": [16, 8]},
                "input_size": [64, 96],
                "epochs": 1,
                "batch_size": 2,
                "optimizer": {"lr": 1e-3},
                "monitor": "mIoU",
            }
        },
        "report": {"title": "toy"},
        "runtime": {"threads": 1},
        "machine": {"device": "cpu"},
        **changes,
    }


def params(pretrain: dict[str, Any], **changes: Any) -> Params:
    """`study`, validated."""
    return parse(study(pretrain, **changes))


def write_images(folder: Path, lists: dict[str, int], seed: int = 0) -> None:
    """data/toy/raw and data/toy/splits below `folder`, with this many random images of 80 x 120 in each list."""
    random = np.random.default_rng(seed)
    raw, splits, records = folder / "data/toy/raw", folder / "data/toy/splits", []
    for split, count in lists.items():
        ids = [f"{split}_{index}" for index in range(count)]
        for image_id in ids:
            coarse = random.integers(0, 255, (4, 6, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((120, 80), Image.Resampling.BICUBIC)
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            write_bytes(raw / f"images/{image_id}.png", stream.getvalue())
            sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
            records.append(
                Record(image_id, f"images/{image_id}.png", None, sha256, "0" * 16, 120, 80, image_id, split, image_id)
            )
        write_list(splits, split, ids)
    write_records(raw / "manifest.jsonl", records)
