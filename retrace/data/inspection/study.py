"""The study file that fits a folder: parameters that are known to work for it, each with the reason."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from retrace.data.inspection.folder import Candidate, Value

LONGEST = 512  # pixels of the longer side that a first segmentation study trains on
YOLO_SIZE = 640
STEP = 32  # pixels: networks halve an image five times
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ ./-]*[A-Za-z0-9_]|[A-Za-z]")
WORDS = ("true", "false", "yes", "no", "on", "off", "null", "none", "y", "n")  # which YAML reads as something else
HYPERPARAMETERS = {
    "epochs": 60, "imgsz": YOLO_SIZE, "batch": 16, "optimizer": "AdamW", "lr0": 0.001, "lrf": 0.01, "cos_lr": True,
    "warmup_epochs": 3, "warmup_momentum": 0.8, "warmup_bias_lr": 0.0, "momentum": 0.9, "weight_decay": 0.0005,
    "nbs": 16, "box": 7.5, "cls": 0.5, "dfl": 1.5, "iou": 0.7, "conf": 0.25, "max_det": 300, "mosaic": 1.0,
    "mixup": 0.0, "copy_paste": 0.0, "degrees": 0.0, "translate": 0.1, "scale": 0.5, "shear": 0.0, "perspective": 0.0,
    "flipud": 0.0, "fliplr": 0.5, "close_mosaic": 10, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "erasing": 0.4,
    "patience": 20, "save_period": -1, "amp": True, "cache": True, "freeze": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Everything that a study file states."""

    name: str
    root: str  # data.root
    candidate: Candidate
    group: str | None = None
    keep_groups: bool = True
    spare_train: bool = True
    on_error: str = "fail"
    minimums: tuple[int, int] = (0, 0)  # of val and test, in instances
    min_units: int = 5
    splits: tuple[str, ...] = ("val", "test")
    size: tuple[int, int] = (LONGEST, LONGEST)  # width, height of most images
    train_images: int = 16
    comments: Mapping[str, str] = field(default_factory=dict)  # of keys: what was found about them

    def changed(self, comment: Mapping[str, str] = {}, **values: object) -> "Plan":
        """A copy with other values and more comments."""
        return replace(self, comments={**self.comments, **comment}, **values)  # type: ignore[arg-type]


def study_text(plan: Plan) -> str:
    """The YAML of studies/<name>.yaml."""
    one = plan.candidate
    lines = [
        f"# Written by `retrace inspect`: {one.format} for {one.task}, in {plan.root}",
        f"# retrace use {plan.name} && dvc repro",
        *(f"# Note: {note}" for note in one.notes),
        f"study: {plan.name}",
        f"task: {one.task}",
        "phase: baseline",
        "seed: 17",
        "",
        f"classes: {flow(list(one.classes))}",
        "",
        "data:",
        f"  root: {flow(plan.root)}",
        "  url: null",
        "  sha256: null",
        "  synthetic: null",
        "  source:",
        *_block(one.source, 4),
        f"  unlabeled: {flow([{'path': path} for path in one.unlabeled])}",
        f"  group: {flow(plan.group)}{_comment(plan, 'group')}",
        f"  on_error: {plan.on_error}{_comment(plan, 'on_error')}",
        "",
        "rebalance:",
        f"  min_val_instances: {plan.minimums[0]}{_comment(plan, 'minimums')}",
        f"  min_test_instances: {plan.minimums[1]}",
        f"  keep_groups: {flow(plan.keep_groups)}{_comment(plan, 'keep_groups')}",
        f"  spare_train: {flow(plan.spare_train)}{_comment(plan, 'spare_train')}",
        f"  min_units: {plan.min_units}{_comment(plan, 'min_units')}",
        "  duplicate_distance: 3",
        "",
        "pretrain:",
        "  method: none                 # published weights: docs/your-own-data.md, Starting weights",
        "",
        "phases:",
        "  baseline:",
        "    note: From scratch, to be compared with what you try next",
        "    init: none",
        *(_segmentation(plan) if one.task == "segmentation" else _detection(plan)),
        "",
        "evaluate:",
        f"  splits: {flow(list(plan.splits))}",
        "",
        "report:",
        f"  title: {flow(plan.name.replace('_', ' ').capitalize())}",
        f"  data_needed: {flow(f'the folder {plan.root}')}",
        "",
    ]
    return "\n".join(line.rstrip() for line in lines)


def input_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) to train on: the shape of the images, sides that are multiples of 32, at most 512."""
    shrink = min(1.0, LONGEST / max(size))
    width, height = (max(STEP, round(side * shrink / STEP) * STEP) for side in size)
    return height, width


def flow(value: object) -> str:
    """A value as YAML on one line; text stays text whatever YAML would take it for."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return "".join(map(_escaped, json.dumps(value, ensure_ascii=False)))


def _escaped(letter: str) -> str:
    """Characters that YAML does not take as they are, inside of double quotes."""
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _block(source: Mapping[str, Value], indent: int) -> list[str]:
    """The keys of a mapping, one a line; long mappings have one entry a line."""
    lines, space = [], " " * indent
    for key, value in source.items():
        line = f"{space}{flow(key)}: {flow(value)}"
        if isinstance(value, dict) and len(line) > 100:
            lines += [f"{space}{flow(key)}:", *_block(value, indent + 2)]
        else:
            lines.append(line)
    return lines


def _comment(plan: Plan, key: str) -> str:
    return f"   # {plan.comments[key]}" if key in plan.comments else ""


def _segmentation(plan: Plan) -> list[str]:
    return [
        "    model: {architecture: unet, encoder: tu-convnextv2_atto, decoder_channels: [96, 64, 48, 32, 16]}",
        f"    input_size: {flow(list(input_size(plan.size)))}       # height, width; most images: "
        f"{plan.size[1]} x {plan.size[0]}",
        "    epochs: 50",
        f"    batch_size: {_batch(plan, 8)}",
        "    loss: {name: cross_entropy}",
        "    optimizer: {name: adamw, lr: 1.0e-3, weight_decay: 0.01, clip_norm: 1.0}",
        "    schedule: {name: cosine, warmup_epochs: 1}",
        "    augment: {flip: 0.5, color: 0.2}",
        "    monitor: mIoU",
        "    patience: null",
    ]


def _detection(plan: Plan) -> list[str]:
    longest = -(-max(plan.size) // STEP) * STEP
    values = {**HYPERPARAMETERS, "imgsz": min(YOLO_SIZE, longest), "batch": _batch(plan, 16)}
    lines = ["    engine: ultralytics", "    model: yolo11n", "    hyperparameters:     # Ultralytics' own names"]
    return [*lines, *(f"      {key}: {flow(value)}" for key, value in values.items())]


def _batch(plan: Plan, largest: int) -> int:
    return max(1, min(largest, plan.train_images // 2))
