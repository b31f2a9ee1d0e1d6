"""A plausible project folder, as docs/architecture.md describes it, that holds everything the report reads."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from retrace.config import whole
from retrace.config.load import parse
from retrace.config.schema import Evaluate
from retrace.documents.dataset import Dataset, Source
from retrace.documents.error_pictures import ErrorPicture, write_error_pictures
from retrace.documents.manifest import Box, Record, write_records
from retrace.documents.run_log import RunLog
from retrace.documents.samples import Entry, Sample, write_samples
from retrace.documents.scores import KINDS, Floor, Split, Weights
from retrace.documents.speed import Speed
from retrace.documents.splits import (
    ClassCount,
    Counts,
    Duplicates,
    Leak,
    Minimum,
    Move,
    SplitCount,
    SplitSummary,
)
from retrace.documents.start import Start, StartFile
from retrace.documents.training import Training
from retrace.evaluation import masks
from retrace.evaluation.boxes import FLOORED
from retrace.evaluation.detection import curves, summarize
from retrace.evaluation.pictures import BOX_PANELS, MASK_PANELS, box_legend
from retrace.evaluation.scores.matching import Found, Truth, match
from retrace.statistics.bootstrap import Units

SPLITS = {"val": 12, "test": 20}
AS_GIVEN = 10  # images of val before two more joined it

LANES = whole(
    {
        "study": "lanes",
        "task": "segmentation",
        "phase": "mae_ohem",
        "seed": 17,
        "classes": ["Background", "White Solid", "White Dashed", "St. Andrew's cross"],
        "data": {
            "root": "data/external/lanes",
            "source": {
                "kind": "masks",
                "images": "images",
                "masks": "masks",
                "values": {"Background": [0], "White Solid": [1], "White Dashed": [2], "St. Andrew's cross": [3]},
                "split": {"by": "ratio", "val": 0.2, "test": 0.2},
            },
        },
        "rebalance": {"min_val_instances": 3, "min_test_instances": 3},
        "pretrain": {
            "method": "mae",
            "mae": {
                "encoder": "convnextv2_atto",
                "input_size": [64, 64],
                "epochs": 5,
                "batch_size": 8,
                "optimizer": {"lr": 1.5e-4},
            },
        },
        "phase_defaults": {
            "fabric": {
                "model": {"architecture": "unet", "encoder": "tu-convnextv2_atto"},
                "input_size": [64, 96],
                "epochs": 6,
                "batch_size": 4,
                "optimizer": {"lr": 1.0e-3},
                "monitor": "mIoU",
                "patience": 3,
            }
        },
        "phases": {
            "baseline": {"note": "No pre-training", "init": "none"},
            "mae_ohem": {
                "note": "Pre-trained, OHEM",
                "init": "pretrain",
                "loss": {"name": "ohem"},
                "optimizer": {"encoder_lr": 3.0e-4},
            },
            "colder": {"note": "Half the rate", "init": "mae_ohem", "optimizer": {"lr": 5.0e-4}},
        },
        "evaluate": {"splits": ["val", "test"], "bootstrap": 200, "min_reliable": 5, "samples": 2},
        "report": {
            "title": "Lane-marking segmentation",
            "summary": "Does pre-training help?",
            "real_data": True,
            "headline": "mIoU",
            "focus_classes": ["White Solid", "White Dashed"],
            "class_groups": {"common": ["Background"], "rare": ["White Solid", "White Dashed"]},
            "colors": {"Background": "#20242c", "White Solid": "#ffb000", "White Dashed": "#2a9df4"},
            "claims": [
                {"metric": "mIoU", "label": "overall mIoU", "phase": "baseline", "split": "val", "value": 0.1},
                {"metric": "mIoU", "label": "overall mIoU", "split": "val", "low": 0.999, "kind": "target"},
                {"metric": "IoU/Background", "label": "background", "split": "test", "value": 0.2, "kind": "target"},
            ],
            "published_epochs": {"baseline": {1: 0.3912, 3: 0.4448, 6: 0.4962}},
            "next_steps": ["Distil it into a smaller network."],
        },
        "expected": [],
    }
)

PLATES = whole(
    {
        "study": "plates",
        "task": "detection",
        "phase": "resnet50",
        "seed": 3,
        "classes": ["plate", "truck", "ghost"],
        "data": {
            "root": "data/external/plates",
            "source": {"kind": "coco", "annotations": {"train": "a.json"}, "images": {"train": "train"}},
        },
        "pretrain": {"method": "none"},
        "phase_defaults": {
            "fabric": {
                "model": {"architecture": "fasterrcnn", "encoder": "mobilenet_v3_large_fpn"},
                "input_size": [64, 96],
                "epochs": 6,
                "batch_size": 4,
                "optimizer": {"name": "sgd", "lr": 5.0e-3},
                "monitor": "AP50",
            }
        },
        "phases": {
            "mobilenet": {"note": "small", "init": "none"},
            "resnet50": {"note": "large", "init": "none", "model": {"encoder": "resnet50_fpn"}},
        },
        "evaluate": {"splits": ["val", "test"], "bootstrap": 200, "min_reliable": 5, "samples": 2},
        "report": {
            "title": "Plate detector",
            "real_data": False,
            "headline": "AP50",
            "claims": [
                {"metric": "AP50", "label": "mAP@0.5", "split": "test", "low": 0.85, "kind": "target"},
                {"metric": "latency_ms", "label": "latency", "split": "test", "value": 60.0, "kind": "baseline"},
            ],
        },
        "expected": [],
    }
)

YOLO = {  # every hyper-parameter that the schema wants
    **{"epochs": 6, "imgsz": 64, "batch": 8, "optimizer": "AdamW", "lr0": 1e-3, "lrf": 0.01, "cos_lr": True},
    **{"warmup_epochs": 1, "warmup_momentum": 0.8, "warmup_bias_lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    **{"nbs": 64, "box": 7.5, "cls": 0.5, "dfl": 1.5, "iou": 0.7, "conf": 0.25, "max_det": 300, "mosaic": 0.2},
    **{"mixup": 0.0, "copy_paste": 0.0, "degrees": 0.0, "translate": 0.1, "scale": 0.5, "shear": 0.0},
    **{"perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "close_mosaic": 2, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
    **{"erasing": 0.0, "patience": 15, "save_period": -1, "amp": False, "cache": False, "freeze": 0},
}
SLOPES = whole(
    {  # PLATES with two YOLO phases, both scored on both validation lists
        **PLATES,
        "study": "slopes",
        "phase": "tuned",
        "phase_defaults": {"ultralytics": {"model": "yolo11n", "hyperparameters": YOLO}},
        "phases": {
            "first": {"engine": "ultralytics", "init": "none"},
            "tuned": {"engine": "ultralytics", "init": "first", "hyperparameters": {"lr0": 1e-4}},
        },
        "evaluate": {**PLATES["evaluate"], "splits": ["val", "test", "val_as_given"]},
        "report": {
            **PLATES["report"],
            "title": "Slopes",
            "real_data": True,
            "focus_classes": ["truck"],
            "published_images": {"train": 42, "val": 10, "test": 20},
            "claims": [],
        },
        "expected": [{"metric": "AP50", "split": "val", "value": 0.2, "tolerance": 0.05}],
    }
)

START, GAIN = (
    {"baseline": 0.70, "mobilenet": 0.5, "first": 0.5},
    {"mae_ohem": 0.12, "colder": 0.12, "resnet50": 0.15, "tuned": 0.2},
)


def build(root: Path, task: str = "segmentation", params: dict | None = None) -> dict:
    """Fill `root` with a finished run of every stage but `report`; returns the parameters it wrote."""
    params = json.loads(json.dumps(params or (LANES if task == "segmentation" else PLATES)))
    _yaml(root / "params.yaml", params)
    study = params["study"]
    _data(root, params)
    _start(root, params)
    for number, phase in enumerate(params["phases"]):
        _phase(root, params, phase, number)
    repeats = params.get("repeats", {"phases": (), "seeds": ()})
    for phase in repeats["phases"]:
        for seed in repeats["seeds"]:
            name = f"{phase}-{seed}"
            _phase(root, {**params, "phases": {name: params["phases"][phase]}}, name, 1)
    _journals(root, params)
    _lock(root, params)
    (root / "requirements").mkdir(exist_ok=True)
    (root / "requirements" / "runtime.txt").write_text("numpy==2.4.0\n")
    (root / "metrics" / study / "gone.json").write_text("{}")
    return params


def _yaml(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as stream:
        YAML().dump(values, stream)


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue())


def _data(root: Path, params: dict) -> None:
    study, classes = params["study"], params["classes"]
    images = {"train": 40, **SPLITS}
    after, before = ({split: _counts(n, classes) for split, n in images.items()} for _ in range(2))
    rare = before["val"].classes[classes[1]]
    fewer = rare.model_copy(update={"instances": rare.instances - 2})
    before["val"] = SplitCount(images=images["val"] - 2, classes={**before["val"].classes, classes[1]: fewer})
    before["train"] = before["train"].model_copy(update={"images": images["train"] + 2})
    why = f"{classes[1]} needs 6 in val"
    summary = SplitSummary(
        moves=[Move(id=f"img_{k}", origin="train", to="val", reason=why) for k in range(2)],
        counts=Counts(before=before, after=after),
        leaks=[Leak(kind="near", ids=["a", "b"], splits=["train", "test"], distance=2)],
        duplicates=Duplicates(exact=1, near=2, groups=7),
        minimum=Minimum(val=3, test=3),
    )
    summary.write(root / "data" / study / "splits" / "summary.json")
    sources = (
        ("images", "train", 42, 42),
        ("images", "val", 30, 30),
        ("unlabeled/city | night", "unlabeled", 64, 0),
    )
    dataset = Dataset(
        study=study,
        task=params["task"],
        classes=classes,
        sources=[Source(name=n, split=s, images=i, labelled=a) for n, s, i, a in sources],
        problems={"unreadable image": 2},
        quarantined=2,
    )
    dataset.write(root / "data" / study / "raw" / "dataset.json")
    random = np.random.default_rng(5)
    rows = []
    for split, n in images.items():
        for k in range(n):
            boxes = []
            if params["task"] == "detection":
                for label in range(2):
                    side = float(random.uniform(8, 200))
                    boxes.append(Box(label, (1.0, 1.0, side, side / 2)))
            name, sha256 = f"{split}_{k:03d}", _hash(f"{split}{k}")
            rows.append(
                Record(
                    id=name,
                    path=f"images/{name}.jpg",
                    mask=None,
                    sha256=sha256,
                    phash=sha256[:16],
                    width=640,
                    height=480,
                    group=f"{split}_{k}",
                    split=split,
                    source="images",
                    boxes=tuple(boxes),
                )
            )
    write_records(root / "data" / study / "raw" / "manifest.jsonl", rows)
    remarks = "".join(f"unreadable image,images/{k}.jpg,not an image,left out\n" for k in range(2))
    (root / "data" / study / "raw" / "problems.csv").write_text("kind,path,detail,action\n" + remarks)
    for split, n in images.items():
        lines = "".join(f"{split}_{k:03d}\n" for k in range(n))
        (root / "data" / study / "splits" / f"{split}.txt").write_text(lines)


def _counts(images: int, classes: list[str]) -> SplitCount:
    """Every class half as often as the one before it, the last never."""
    rows = {}
    for index, name in enumerate(classes):
        seen = max(images // (2**index), 1) if index < len(classes) - 1 else 0
        rows[name] = ClassCount(instances=seen, images=seen, pixels=1000 * images // (2**index))
    return SplitCount(images=images, classes=rows)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _start(root: Path, params: dict) -> None:
    study = params["study"]
    nothing = Start(method="none", files={})
    nothing.write(root / "models" / study / "none" / "start.json")
    folder = root / "models" / study / "pretrain"
    if params["pretrain"]["method"] == "none":
        nothing.write(folder / "start.json")
        return
    losses = [1.0, 0.8, 0.6, 0.55, 0.5]
    start = Start(
        method="mae",
        encoder="convnextv2_atto",
        first_loss=losses[0],
        last_loss=losses[-1],
        decreased=True,
        images=64,
        epochs=5,
        files={"all": StartFile(file="encoder.safetensors", sha256="1" * 64)},
    )
    start.write(folder / "start.json")
    _csv(folder / "history.csv", [{"epoch": k + 1, "loss": loss, "lr": 1e-4} for k, loss in enumerate(losses)])
    (folder / "reconstructions").mkdir()
    for k in range(2):
        _picture(folder / "reconstructions" / f"{k}.png", k)


def _picture(path: Path, seed: int, size: tuple[int, int] = (300, 700)) -> None:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (size[0] // 10, size[1] // 10, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((size[1], size[0])).save(path)


def _phase(root: Path, params: dict, phase: str, number: int) -> None:
    study, detection = params["study"], params["task"] == "detection"
    monitor = "AP50" if detection else "mIoU"
    of, _, seed = phase.partition("-")
    start = START.get(of, 0.6) + GAIN.get(of, 0) + 0.004 * (int(seed or params["seed"]) - params["seed"])
    curve = [start - 0.3 * 0.5**k for k in range(5)] + [start - 0.2]
    history = [
        {"epoch": k + 1, "train_loss": 1 / (k + 1), "lr": 1e-3, "grad_norm": 1.0, monitor: value}
        for k, value in enumerate(curve)
    ]
    yolo = params["phases"][phase].get("engine") == "ultralytics"
    if yolo:
        names = ("mAP50", "mAP50-95", "precision", "recall")
        history = [row | {f"ultralytics_{n}": 0.9 - row["epoch"] / 1000 for n in names} for row in history]
    if not detection:
        history = [row | {"val_loss": 1.3 + abs(row["epoch"] - 4) / 10} for row in history]
    folder = root / "models" / study / phase
    _csv(folder / "history.csv", history)
    training = Training(
        init=params["phases"][phase]["init"],
        monitor=monitor,
        best_epoch=5,
        best_value=curve[4],
        epochs_run=6,
        epochs_planned=6,
        stopped="completed" if number else "early",
        first_loss=1.0,
        last_loss=1 / 6,
        parameters=3_700_000 + number,
        trainable_parameters=3_700_000,
    )
    training.write(folder / "train.json")
    score = _detection_split if detection else _segmentation_split
    weights = folder / ("best.pt" if yolo else "weights.safetensors")
    weights.write_bytes(phase.encode())
    write(folder / "model.json", {"engine": "ultralytics" if yolo else "fabric"})
    if yolo:
        _yaml(folder / "training_config.yaml", parse(dict(params)).phases[phase].hyperparameters.model_dump())
    splits = dict(SPLITS)
    if "val_as_given" in params["evaluate"]["splits"]:
        splits["val_as_given"] = AS_GIVEN
    scores = KINDS[params["task"]](
        study=study,
        phase=phase,
        task=params["task"],
        engine="ultralytics" if yolo else "fabric",
        classes=params["classes"],
        weights=Weights(file=weights.name, sha256=_hash(phase), bytes=14_800_000),
        parameters=training.parameters,
        training=training,
        min_reliable=params["evaluate"]["min_reliable"],
        splits={split: score(root, params, phase, split, n, start) for split, n in splits.items()},
    )
    scores.write(root / "metrics" / study / f"{phase}.json")
    _samples(root, params, phase)


def _samples(root: Path, params: dict, phase: str) -> None:
    folder = root / "metrics" / params["study"] / phase
    rows = []
    for split in SPLITS:
        for kind in ("best", "median", "worst"):
            for k in range(2):
                name = f"samples/{split}_{kind}_{k}.jpg"
                _picture(folder / name, k)
                more = {"panels": MASK_PANELS, "legend": [Entry(name=params["classes"][0], color="#20242c")]}
                if params["task"] == "detection":
                    more = {
                        "panels": BOX_PANELS,
                        "legend": box_legend(),
                        "truth": 2,
                        "predicted": 3,
                        "IoU": 0.7,
                        "confidence": 0.9,
                    }
                image, score = f"{split}_{k:03d}", 0.5 + k / 10
                row = Sample(file=name, id=image, split=split, kind=kind, score=score, **more)
                rows.append(row)
    write_samples(folder / "samples.json", rows)
    _errors(folder, params)


def _errors(folder: Path, params: dict) -> None:
    """Two pictures of a class and two of a cell of the confusion matrix, on every split."""
    first, second = params["classes"][:2]
    cells: dict[str, dict] = {
        "0_0": {"truth": first, "predicted": first, "pixels": 900},
        "0_1": {"truth": first, "predicted": second, "pixels": 400},
    }
    if params["task"] == "detection":
        cells["0_0"] = {"truth": first, "predicted": first, "IoU": 0.51, "confidence": 0.9}
        cells["0_1"] = {"truth": first, "predicted": None, "side": 55.0}
    rows = []
    for split in SPLITS:
        for cell, measures in cells.items():
            for k in (1, 2):
                name = f"errors/{split}_{cell if measures['predicted'] else '0_3'}_{k}.jpg"
                _picture(folder / name, k, (180, 240))
                rows.append(ErrorPicture(file=name, id=f"{split}_{k:03d}", split=split, **measures))
    write_error_pictures(folder / "errors.json", rows)


def _segmentation_split(root: Path, params: dict, phase: str, split: str, n: int, start: float) -> Split:
    classes = params["classes"]
    size, last = len(classes), len(classes) - 1
    random = np.random.default_rng([len(split), n])  # the same truth for every phase
    truth = random.integers(50, 100, (n, size)) * np.array([40, 4, 2, 0])[:size]
    truth[3:, 2] = 0  # a class in three images only: not reliable; the last class in none
    confusion = np.zeros((n, size, size), dtype=np.int64)
    for c in range(size):
        hit = (truth[:, c] * (start + random.uniform(-0.05, 0.05, n))).astype(np.int64)
        confusion[:, c, c] = hit
        confusion[:, c, (c + 1) % last if c < last else 0] += truth[:, c] - hit
    folder = root / "metrics" / params["study"] / phase
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"confusion_{split}.npy", confusion)
    _units(folder, split, [f"{split}_{k:03d}" for k in range(n)])
    focus = [classes.index(name) for name in params["report"].get("focus_classes", [])]
    options = Evaluate(**params["evaluate"])
    units = Units.each(n)
    found = masks.summarize(confusion, units, classes, focus, options.bootstrap, 11, options.min_reliable)
    sizes = [1050, 1100, 1200, 1250, 1300, 1400]
    weighed = masks.weigh(sizes, size - 1, Units.each(6), 100, 11)
    return _floored(
        found.model_copy(update={"masks": weighed}), ("mIoU", "focus_mIoU", "pixel_accuracy", "balanced_accuracy")
    )


def _units(folder: Path, split: str, image_ids: list[str]) -> None:
    for kind in ("images", "units"):  # every image is a unit
        (folder / f"{kind}_{split}.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))


def _floored(found: Split, overall: tuple[str, ...]) -> Split:
    """Every score is above the best constant answer."""
    floor = Floor(value=0.05, beaten=True, answer="Background everywhere")
    per_class = {}
    for name, row in found.per_class.items():
        per_class[name] = row.model_copy(update={"floor": floor})
    floors = dict.fromkeys(overall, floor)
    return found.model_copy(update={"unit": "image", "floor": floors, "per_class": per_class})


def _detection_split(root: Path, params: dict, phase: str, split: str, n: int, start: float) -> Split:
    folder = root / "metrics" / params["study"] / phase
    folder.mkdir(parents=True, exist_ok=True)
    name = "val" if split == "val_as_given" else split  # the first images of val
    _units(folder, split, [f"{name}_{k:03d}" for k in range(n)])
    random = np.random.default_rng(len(name))  # the same truth and luck for every phase
    truths, founds = [], []
    for image in range(n):
        labels = np.array([0, 0, 1] if image < 3 else [0, 0])  # a class with three objects, one with none
        boxes = np.array([[10.0, 10, 50, 40], [100, 20, 150, 110], [300, 50, 60, 60]][: len(labels)])
        kept = random.uniform(size=len(labels)) < start
        moved = boxes + random.normal(0, 3, boxes.shape)
        false = np.array([[400.0, 300, 40, 40]])
        truths.append(Truth(boxes, labels, np.zeros(len(labels), dtype=bool)))
        scores = np.append(random.uniform(0.4, 1, len(labels))[kept], random.uniform(0.1, 0.7))
        founds.append(Found(np.concatenate([moved[kept], false]), np.append(labels[kept], 0), scores))
    classes, options = params["classes"], Evaluate(**params["evaluate"])
    matches = match(truths, founds, len(classes), options.iou_threshold)
    matches.save(folder, split)
    drawn = curves(matches, classes)
    write(folder / f"curves_{split}.json", json.loads(json.dumps(drawn, default=lambda array: array.tolist())))
    confusion = [[n, 0, 0, n], [0, 2, 0, 1], [0, 0, 0, 0], [n, 0, 0, 0]]
    found = summarize(truths, founds, matches, Units.each(n), classes, options, 11)
    return _floored(found.model_copy(update={"confusion": confusion}), FLOORED)


def _journals(root: Path, params: dict) -> None:
    study = params["study"]
    logs, here = root / "logs" / study, {"pid": 1, "host": "here", "status": "SUCCESS"}
    for minute, name in enumerate(("collect", "pretrain")):  # rebalance came from the cache: no log
        started = f"2031-05-06T07:0{minute}:00+00:00"
        log = RunLog(stage=name, phase=None, started=started, seconds=12.5, **here)
        log.write(logs / f"{name}.json")
    started = "2031-05-06T07:10:00+00:00"
    for phase in params["phases"]:
        for stage, seconds in (("finetune", 130.0), ("evaluate", 20.0)):
            log = RunLog(stage=stage, phase=phase, started=started, seconds=seconds, **here)
            log.write(logs / phase / f"{stage}.json")
        speed = Speed(
            latency_ms=41.5,
            latency_ms_low=40.0,
            latency_ms_high=44.0,
            images_per_second=25.5,
            batch_size=8,
            input_size=[64, 96],
            device="cpu",
            threads=2,
            runs=30,
        )
        speed.write(logs / phase / "speed.json")


def _lock(root: Path, params: dict) -> None:
    study, phases = params["study"], list(params["phases"])
    stages = {
        "collect": {
            "cmd": "python -m stages.collect",
            "outs": [{"path": f"data/{study}/raw", "md5": "a" * 32 + ".dir"}],
        }
    }
    for phase in phases:
        stages[f"finetune@{phase}"] = {
            "cmd": f"python -m stages.finetune {phase}",
            "deps": [{"path": f"data/{study}/raw", "md5": "a" * 32 + ".dir"}],
            "outs": [{"path": f"models/{study}/{phase}", "md5": "b" * 32 + ".dir"}],
        }
    _yaml(root / "dvc.lock", {"schema": "2.0", "stages": stages})
