"""Faster R-CNN on the shared loop: samples, losses, validation, and the finetune stage with it."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from retrace.config import read_yaml, whole
from retrace.config.load import parse
from retrace.config.phases import Augment
from retrace.data.detection_loading import DetectionTraining, DetectionValidation, collate, fitted, taken, target_of
from retrace.data.loading import Room, read_image, training_loader
from retrace.data.manifest import read_manifest
from retrace.documents.manifest import Box, Record
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import rounded, truth_of
from retrace.models.predict import load_predictor
from retrace.training.checkpoints import Scratch
from retrace.training.detection import compute_loss, detection, longest_side, shrinking
from stages.finetune import main
from tests.support.fixtures_detection import CLASSES, COLORS, make_shapes, params, write_params
from tests.support.fixtures_training import only_progress, without_progress
from tests.support.projects import ROOT

CHANGES = Augment(flip=0.5, color=0.1)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The manifest of seven training and four validation images."""
    monkeypatch.chdir(make_shapes(tmp_path / "shapes"))
    return read_manifest(Path("data/shapes/raw"))


def ids(name="train"):
    return Path(f"data/shapes/splits/{name}.txt").read_text().split()


def training(manifest, size=(64, 96), shorter=(48, 80), longest=128, changes=CHANGES):
    return DetectionTraining(manifest, ids(), size, changes, shorter, longest, 5, Room(2**30))


def test_boxes_follow_the_pixels_through_every_change(raw):
    samples, flipped = training(raw), 0
    for index in range(6):
        boxes = [box for box in raw.records[ids()[index]].boxes if not box.crowd]
        if len(boxes) != 1:
            continue  # alone it is not covered by another
        for epoch in range(1, 7):
            image, target, _ = samples[epoch, index]
            own = COLORS[boxes[0].label].index(max(COLORS[boxes[0].label]))
            others = [channel for channel in range(3) if channel != own]
            lit = (image[own].int() - image[others].amax(0).int() > 90).nonzero()
            seen = [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
            assert [float(edge) for edge in seen] == pytest.approx(target["boxes"][0].tolist(), abs=1.6)
            ratio = image.shape[2] / raw.records[ids()[index]].width
            flipped += abs(float(target["boxes"][0, 0]) - boxes[0].xywh[0] * ratio) > 1
    assert flipped > 2


def test_sizes_stay_in_the_range_and_are_drawn_anew(raw):
    samples = training(raw)
    shapes = [tuple(samples[epoch, index][0].shape[1:]) for epoch in range(1, 9) for index in range(7)]
    assert all(47 <= min(shape) <= 80 and max(shape) <= 128 for shape in shapes)
    assert len({min(shape) for shape in shapes}) > 10
    longest = training(raw, longest=70)
    assert max(max(longest[1, index][0].shape) for index in range(7)) <= 70


def test_crowds_are_left_out_labels_count_from_one_and_negatives_stay(raw):
    samples = training(raw)
    record = raw.records["img00"]
    assert len(samples[1, 0][1]["boxes"]) == len(record.boxes) - 1
    assert samples[1, 0][1]["labels"].tolist() == [box.label + 1 for box in record.boxes if not box.crowd]
    empty = samples[1, 6][1]
    assert empty["boxes"].shape == (0, 4) and empty["labels"].shape == (0,)


def test_a_box_too_small_for_float32_is_left_out(raw):
    record = raw.records["img00"]
    thin = Record(**{**vars(record), "boxes": (Box(0, (50.0, 5.0, 1e-7, 9.0)), Box(1, (4.0, 5.0, 6.0, 7.0)))})
    raw.records["img00"] = thin
    target = training(raw)[1, 0][1]
    assert target["labels"].tolist() == [2] and target["boxes"].shape == (1, 4)


def test_samples_do_not_depend_on_order_workers_or_cache(raw):
    one, other = training(raw), training(raw)
    forward = {index: one[3, index] for index in range(7)}
    again = {index: one[3, index] for index in range(7)}  # from the cache
    backward = {index: other[3, index] for index in reversed(range(7))}
    for index in range(7):
        for sample in (again[index], backward[index]):
            assert torch.equal(sample[0], forward[index][0])
            assert torch.equal(sample[1]["boxes"], forward[index][1]["boxes"])
    loaders = [training_loader(training(raw), 3, 5, workers, collate) for workers in (0, 2)]
    for loader in loaders:
        loader.batch_sampler.start_epoch(2)
    for (images, targets, names), (images2, targets2, names2) in zip(*loaders, strict=True):
        assert names == names2 and all(torch.equal(a, b) for a, b in zip(images, images2, strict=True))
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, targets2, strict=True))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [((64, 96), (48, 64)), ((24, 96), (24, 32)), ((96, 24), (24, 32)), ((16, 16), (12, 16)), ((64, 48), (48, 64))],
)
def test_images_are_fitted_but_never_enlarged(limit, expected):
    record = Record("a", "a.png", None, "", "", 64, 48, "a", None, "a", {}, (Box(0, (16.0, 12.0, 32.0, 24.0)),))
    assert fitted(record, limit) == expected
    scale = expected[0] / 48
    target = target_of(record, expected)
    assert target["boxes"].tolist() == [pytest.approx([16 * scale, 12 * scale, 48 * scale, 36 * scale])]


def wide(width, height):
    return Record(f"{width}x{height}", "a.jpg", None, "", "", width, height, "a", None, "a", {}, ())


SIZES = [(640, 640), (1280, 720), (720, 1280), (1920, 1080), (480, 640), (4000, 3000)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_random_resize_of_the_study_plates_draws_many_sizes_whatever_the_proportions(width, height):
    phase = parse(whole(read_yaml(ROOT / "studies/plates.yaml"))).phases["mobilenet"]
    low, high = phase.resize_range
    sizes = {taken(wide(width, height), shorter, longest_side(phase)) for shorter in range(low, high + 1)}
    assert len(sizes) > 300
    most = max(max(size) for size in sizes)
    assert most <= longest_side(phase)
    kept = fitted(wide(width, height), phase.input_size)
    assert kept == (height, width) or max(kept) >= most  # nothing is lost that the network would use
    assert not shrinking([wide(width, height)], phase.input_size, high, longest_side(phase))


def test_images_that_input_size_shrinks_below_the_network_are_said(raw):
    records = [wide(*size) for size in SIZES]
    said = shrinking(records, (640, 640), 1333, 2221)
    assert "input_size = [640, 640] shrinks 4 of 6 train images" in said and "4000x3000 is kept at 640x480" in said
    assert "input_size to [1333, 2221]" in said
    assert not shrinking(records, (1333, 2221), 1333, 2221)
    assert not shrinking(records[:1], (640, 640), 1333, 2221)  # the network enlarges it; nothing is lost


def test_the_training_warns_of_shrunk_images(raw, capsys):
    lists = {name: ids(name) for name in ("train", "val")}
    for size, warned in (([64, 96], False), ([20, 20], True)):
        settings = parse(params({"phase_defaults": {"fabric": {"input_size": size}}}))
        detection(settings, settings.phases["light"], raw, lists, Fabric(accelerator="cpu"))
        assert ("shrinks 7 of 7 train images" in capsys.readouterr().err) == warned


def test_validation_sees_native_pixels_whatever_the_cache_holds(raw):
    for size in ((64, 96), (20, 20)):
        samples = DetectionValidation(raw, ids("val"), size, Room(2**30))
        for index, image_id in enumerate(ids("val")):
            for _ in range(2):
                image, position = samples[index]
                assert position == index
                assert np.array_equal(image.numpy(), read_image(raw, image_id))


def test_the_loss_is_the_sum_and_the_network_does_not_resize_again(raw):
    torch.manual_seed(0)
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3).train()
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    batch = collate([training(raw)[1, index] for index in (0, 1, 6)])
    losses = compute_loss(network, batch)
    parts = [losses[name] for name in ("classifier", "box_reg", "objectness", "rpn_box_reg")]
    assert len(losses) == 5 and losses["loss"].item() == pytest.approx(sum(part.item() for part in parts), rel=1e-6)
    tallest, widest = (max(image.shape[axis] for image in batch[0]) for axis in (1, 2))
    assert seen == [(-(-tallest // 32) * 32, -(-widest // 32) * 32)]  # padded to multiples of 32, not enlarged


def test_mixed_precision_leaves_the_boxes_exact(raw):
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3).train()
    wrapped, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.01))
    images, targets, names = collate([training(raw)[1, index] for index in (0, 1)])
    targets[0]["boxes"] += 1 / 3  # no bfloat16 number
    seen = []
    network.roi_heads.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[3]))
    losses = compute_loss(wrapped, (images, targets, names))
    fabric.backward(losses["loss"])
    optimizer.step()
    assert [one["boxes"].tolist() for one in seen] == [one["boxes"].tolist() for one in targets]


def test_validation_is_in_the_precision_of_evaluate(raw):
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3)
    kinds = []
    network.roi_heads.register_forward_hook(lambda *call: kinds.append(call[2][0][0]["boxes"].dtype))
    settings = parse(params())
    lists = {name: ids(name) for name in ("train", "val")}
    validate = detection(settings, settings.phases["light"], raw, lists, fabric).task.validate
    with torch.no_grad(), fabric.autocast():
        validate(network.eval())
    assert set(kinds) == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"dice": 1.0}}, "phases.light.loss ="),
        ({"augment": {"crop": 32}}, "phases.light.augment.crop: unknown key"),
        ({"augment": {"scale": [0.5, 2.0]}}, "phases.light.augment.scale: unknown key"),
        ({"resize_range": [72, 56]}, "resize_range = [72, 56]"),
        ({"monitor": "mIoU"}, "monitor = 'mIoU'"),
    ],
)
def test_wrong_settings_are_one_line(raw, changes, message, capsys):
    write_params(Path(), {"phase_defaults": {"fabric": {**changes, "epochs": 1}}})
    with pytest.raises(SystemExit):
        main("light")
    shown = without_progress(capsys.readouterr().err, "light")
    assert message in shown and len(shown.splitlines()) == 1
    assert not Path("models/shapes/light").exists()


def test_a_study_without_objects_cannot_be_trained(raw):
    lists = {"train": ["img06"], "val": ids("val")}
    settings = parse(params())
    with pytest.raises(Exception, match="no image has an object"):
        detection(settings, settings.phases["light"], raw, lists, Fabric(accelerator="cpu"))


def md5s(project):
    folder = project / "models/shapes/light"
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_stage_writes_what_it_scored_and_resumes_exactly(tmp_path, monkeypatch, capsys):
    project = make_shapes(tmp_path / "whole", {"machine": {"workers": 1}})
    monkeypatch.chdir(project)
    main("light")
    assert only_progress(capsys.readouterr().err, "light", epochs=2)
    folder = project / "models/shapes/light"
    assert sorted(path.name for path in folder.iterdir()) == [
        "hashes.json",
        "history.csv",
        "model.json",
        "train.json",
        "weights.safetensors",
    ]
    train = json.loads((folder / "train.json").read_text())
    table = list(csv.DictReader((folder / "history.csv").open()))
    assert train["monitor"] == "AP50" and len(table) == 2 and "train_rpn_box_reg" in table[0]
    manifest = read_manifest(project / "data/shapes/raw")
    predictor = load_predictor(folder, torch.device("cpu"))
    predictor.network.to(memory_format=torch.channels_last)  # as in training: other kernels, other last bits
    predictions = predictor.predict([read_image(manifest, image_id) for image_id in ids("val")])
    truths = [truth_of(manifest.records[image_id]) for image_id in ids("val")]
    shipped = coco_scores(truths, [rounded(prediction) for prediction in predictions], CLASSES)
    row = table[train["best_epoch"] - 1]
    assert float(row["AP50"]) == pytest.approx(shipped["AP50"], abs=1e-7)
    assert float(row["AR"]) == pytest.approx(shipped["AR"], abs=1e-7)

    killed = make_shapes(tmp_path / "killed")
    monkeypatch.chdir(killed)
    whole = Scratch.save

    def save(scratch, epoch, state):
        whole(scratch, epoch, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Scratch, "save", save)
    with pytest.raises(SystemExit):
        main("light")
    monkeypatch.setattr(Scratch, "save", whole)
    main("light")
    assert md5s(killed) == md5s(project)
