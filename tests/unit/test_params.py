"""params.yaml: what is accepted, and that every refusal names the key, the value and what is allowed."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from retrace.config import merge, read_yaml, whole
from retrace.config.base import tags
from retrace.config.load import parse
from retrace.config.training import load_training
from retrace.errors import UserError
from tests.support.projects import ROOT

RATIO = {"by": "ratio", "val": 0.1, "test": 0.1}
STUDY = Path(__file__).parents[2] / "studies" / "lanes.yaml"
CLAIM = {"label": "x", "value": 0.5}
RESNET = {"encoder": "resnet18"}
CLASSIC = {"architecture": "unet_classic"}
EXPECTED = {"value": 0.5, "tolerance": 0.1}
STUDIES = sorted(STUDY.parent.glob("*.yaml"))


@pytest.fixture
def values():
    return copy.deepcopy(read_yaml(STUDY))


def put(values, key, value):
    *parents, last = key.split(".")
    for part in parents:
        values = values[part]
    values[last] = value


def refusals(values):
    """The refused parameters of a study by key; every message is one line that says the key and the value."""
    with pytest.raises(UserError) as error:
        parse(values)
    lines = str(error.value).splitlines()
    found = error.value.refusals
    assert len(lines) == len(found) and lines[0].startswith("params.yaml: ")
    for line, one in zip(lines, found, strict=True):
        assert one.key in line and all(str(choice) in line for choice in one.allowed)
    assert (error.value.key, error.value.value) == (found[0].key, found[0].value)
    return {one.key: one for one in found}


PHASE, DEFAULTS = "phases.baseline", "phase_defaults.fabric"
SEGMENTATION = ("mIoU", "focus_mIoU", "IoU/<class>")


@pytest.mark.parametrize(
    ("key", "value", "refused", "given", "allowed"),
    [
        (f"{PHASE}.init", "gone", None, "gone", ("none", "pretrain", "mae_ohem")),
        (f"{PHASE}.epoch", 3, None, None, ("epochs", "loss")),
        (f"{PHASE}.patience", 0, None, 0, ()),
        (f"{PHASE}.augment", {"crop": 999}, f"{PHASE}.augment.crop", 999, ("0 (off) to 384",)),
        (f"{PHASE}.engine", "tensorflow", None, "tensorflow", ("fabric", "ultralytics")),
        (f"{PHASE}.engine", {}, None, {}, ("fabric", "ultralytics")),
        (f"{PHASE}.model", {"architecture": "fcn"}, f"{PHASE}.model.architecture", "fcn", ("unet", "fasterrcnn")),
        ("phases.mae_ohem.loss.name", "focal", None, "focal", ("cross_entropy", "ohem")),
        ("phases.none", {"init": "pretrain"}, None, None, ()),
        ("phases.Caps", {"init": "pretrain"}, None, "Caps", ()),
        ("phase", "best", None, "best", ("baseline", "mae_ohem")),
        ("seed", "3", None, "3", ()),
        ("seed", 3.5, None, 3.5, ()),
        ("classes", ["a", "b", "a"], None, ["a", "b", "a"], ()),
        ("classes", [], None, [], ()),
        ("data.source.kind", "folders", None, "folders", ("masks", "voc")),
        ("data.source.kind", "bdd100k", "data.source.ignore", [255], ("images", "masks")),
        ("data.source", {"kind": "voc", "split": RATIO}, "data.source.kind", "voc", ("masks", "bdd100k", "yolo")),
        ("data.source.split.by", "folder", "data.source.split.folders", None, ()),
        ("data.source.values", {"Sky": [3]}, None, "Sky", ("White Solid",)),
        ("data.url", "http://example.org/a.zip", None, "http://example.org/a.zip", ()),
        ("data.url", "https://example.org/a.zip", "data.sha256", None, ()),
        ("data.group", "([", None, "([", ()),
        ("data.group", "a+", None, "a+", ()),
        ("pretrain.method", "none", "phases.mae_ohem.init", "pretrain", ()),
        ("pretrain.method", "weights", None, "weights", ()),
        ("report.focus_classes", ["Kerb"], None, "Kerb", ("White Solid",)),
        (f"{DEFAULTS}.monitor", "miou", f"{PHASE}.monitor", "miou", SEGMENTATION),
        (f"{DEFAULTS}.monitor", "val_loss", f"{PHASE}.monitor", "val_loss", SEGMENTATION),
        (f"{DEFAULTS}.monitor", "IoU/Kerb", f"{PHASE}.monitor", "IoU/Kerb", SEGMENTATION),
        ("report.headline", "AP50", None, "AP50", ("mIoU",)),
        ("report.claims", [CLAIM | {"metric": "AP5"}], "report.claims.0.metric", "AP5", ("group/<class group>",)),
        ("report.claims", [CLAIM | {"metric": "val_loss", "split": "test"}], "report.claims.0.split", "test", ("val",)),
        ("expected", [EXPECTED | {"metric": "AP5"}], "expected.0.metric", "AP5", ("mIoU", "IoU/<class>")),
        ("expected", [EXPECTED | {"metric": "latency_ms"}], "expected.0.metric", "latency_ms", ("mIoU",)),
        (
            f"{DEFAULTS}.model",
            {"architecture": "deeplabv3", "encoder": "resnet101"},
            f"{PHASE}.model.encoder",
            "resnet101",
            ("mobilenet_v3_large", "resnet50"),
        ),
        ("surprise", 1, None, None, ("rebalance",)),
    ],
)
def test_refusals_have_key_value_and_choices(values, key, value, refused, given, allowed):
    put(values, key, value)
    found = refusals(values)
    refused = refused or key
    assert refused in found and found[refused].value == given, found
    assert set(allowed) <= set(found[refused].allowed)


# what a member of a union lacks, and a block that has it set
DOES_NOT_APPLY = [
    ("lanes", "optimizer", {"name": "adamw", "lr": 0.1, "momentum": 0.9}, "optimizer.momentum"),
    ("lanes", "schedule", {"name": "cosine", "power": 0.9}, "schedule.power"),
    ("lanes", "schedule", {"name": "constant", "final_lr": 0.0}, "schedule.final_lr"),
    ("lanes", "loss", {"name": "cross_entropy", "ohem_threshold": 0.7}, "loss.ohem_threshold"),
    ("lanes", "model", {"architecture": "unet_classic", "encoder": "resnet18"}, "model.encoder"),
    ("lanes", "model", {"architecture": "unet", "encoder": "resnet18", "width": 8}, "model.width"),
    ("lanes", "model", {"architecture": "deeplabv3", "encoder": "resnet50", "min_size": 8}, "model.min_size"),
    ("lanes", "resize_range", [8, 9], "resize_range"),
    ("lanes", "hyperparameters", {"epochs": 3}, "hyperparameters"),
    ("plates", "loss", {"name": "cross_entropy"}, "loss"),
    ("plates", "augment", {"crop": 3}, "augment.crop"),
    ("plates", "model.decoder_channels", [8, 8], "model.decoder_channels"),
]


@pytest.mark.parametrize(("study", "key", "value", "refused"), DOES_NOT_APPLY)
def test_a_key_exists_only_where_it_applies(study, key, value, refused):
    values = whole(read_yaml(STUDY.with_name(f"{study}.yaml")))
    phase = next(iter(values["phases"]))
    put(values, f"phases.{phase}.{key}", value)
    name = refused.split(".")[-1]
    found = refusals(values)[f"phases.{phase}.{refused}"]
    assert name not in found.allowed and found.allowed


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("optimizer", {"name": "adamw", "lr": 0.1, "momentum": None}),
        ("schedule", {"name": "constant", "power": None, "final_lr": None}),
        ("loss", {"name": "cross_entropy", "ohem_threshold": None}),
        ("model", {"architecture": "deeplabv3", "encoder": "resnet50", "decoder_channels": None}),
        ("resize_range", None),
        ("hyperparameters", None),
    ],
)
def test_null_takes_out_a_key_that_does_not_apply(values, key, block):
    values = whole(values)
    phase = values["phases"]["baseline"]
    phase["optimizer"]["encoder_lr"] = None
    phase[key] = block
    parsed = parse(values)
    if block is None:
        del phase[key]
    else:
        phase[key] = {name: value for name, value in block.items() if value is not None}
    assert parse(values) == parsed


@pytest.mark.parametrize(
    ("changes", "refused", "given"),
    [
        ({"freeze": "encoder"}, "optimizer.encoder_lr", 3e-4),
        ({"freeze": "encoder", "optimizer": {"lr": 1}, "model": CLASSIC}, "freeze", "encoder"),
        ({"model": CLASSIC}, "optimizer.encoder_lr", 3e-4),
        (
            {"model": {"architecture": "unet", "encoder": "resnet18", "decoder_channels": [8]}},
            "model.decoder_channels",
            [8],
        ),
        (
            {"model": {"architecture": "dpt", "encoder": "x", "decoder_channels": [8, 8]}},
            "model.decoder_channels",
            [8, 8],
        ),
    ],
)
def test_settings_of_a_segmentation_phase_that_cannot_be_together(values, changes, refused, given):
    values = whole(values)
    values["phases"]["baseline"] |= changes
    assert refusals(values)[f"{PHASE}.{refused}"].value == given


@pytest.mark.parametrize(
    ("key", "value", "refused", "given", "allowed"),
    [
        ("phase_defaults.ultralytics.hyperparameters.imgsz", 200, "yolo.hyperparameters.imgsz", 200, (192, 224)),
        ("phase_defaults.fabric.resize_range", [272, 240], "mobilenet.resize_range", [272, 240], ()),
        ("phase_defaults.fabric.monitor", "AP5", "mobilenet.monitor", "AP5", ("AP50",)),
        ("phases.mobilenet.model", {"encoder": "resnet18"}, "mobilenet.model.encoder", "resnet18", ("resnet50_fpn",)),
        ("phases.mobilenet.model", {"min_size": 2000}, "mobilenet.model.min_size", 2000, ()),
        ("phases.resnet50.model.trainable_layers", 6, "resnet50.model.trainable_layers", 6, (0, 5)),
        ("phases.resnet50.model.anchor_sizes", [8, 16], "resnet50.model.anchor_sizes", [8, 16], ()),
        ("phases.mobilenet.init", "none", "mobilenet.model.trainable_layers", 3, ("null",)),
    ],
)
def test_detection_settings_that_cannot_train_are_refused_before_anything_runs(key, value, refused, given, allowed):
    values = read_yaml(STUDY.with_name("plates.yaml"))
    put(values, key, value)
    found = refusals(values)[f"phases.{refused}"]
    assert found.value == given and set(allowed) <= set(found.allowed)


def test_starting_weights_are_for_phases_that_exist():
    values = read_yaml(STUDY.with_name("plates.yaml"))
    put(values, "pretrain.weights.gone", {"name": "yolo11s"})
    assert {"all", "mobilenet"} <= set(refusals(values)["pretrain.weights.gone"].allowed)


def test_a_training_reads_its_own_part_alone(values, tmp_path):
    path = tmp_path / "params.yaml"
    put(values, "report.surprise", 1)
    put(values, "evaluate", {"bootstrap": "many"})
    path.write_text(json.dumps(whole(values)))
    params = load_training(path)
    assert params.report.focus_classes == ("White Solid", "White Dashed")
    assert {"report.surprise", "evaluate.bootstrap"} == set(refusals(values))
    put(values, f"{DEFAULTS}.epochs", 0)
    path.write_text(json.dumps(whole(values)))
    with pytest.raises(UserError) as error:
        load_training(path)
    assert (error.value.key, error.value.value) == (f"{PHASE}.epochs", 0)


def test_a_slip_in_the_active_phase_is_refused_before_a_training(values, tmp_path):
    path = tmp_path / "params.yaml"
    put(values, "phase", "nosuch")
    path.write_text(json.dumps(whole(values)))
    with pytest.raises(UserError) as error:
        load_training(path)
    assert (error.value.key, error.value.value) == ("phase", "nosuch")


def test_a_focus_monitor_needs_focus_classes(values):
    put(values, "phase_defaults.fabric.monitor", "focus_mIoU")
    put(values, "report.claims", [])
    parse(values)
    put(values, "report.focus_classes", [])
    assert refusals(values)[f"{PHASE}.monitor"].value == "focus_mIoU"


def test_the_schema_knows_what_is_measured_and_what_the_libraries_have():
    from retrace.config import metrics, monitored, network
    from retrace.documents import scores, speed
    from retrace.evaluation import boundary, detection, logged
    from retrace.evaluation.scores import coco
    from retrace.models.detection import FASTER_RCNN
    from retrace.models.segmentation import DEEPLABV3

    parts = {
        "segmentation": (scores.SegmentationSplit, scores.SegmentationClass),
        "detection": (scores.DetectionSplit, scores.DetectionClass),
    }
    for task, (split, of_class) in parts.items():
        assert set(metrics.names(task, metrics.SPLIT)) <= set(split.model_fields)
        assert set(metrics.names(task, metrics.CLASS)) <= set(of_class.model_fields)
        recorded = [m.name for m in metrics.METRICS[task] if m.place == metrics.RUN and not m.missing]
        assert set(recorded) <= set(speed.Speed.model_fields)
        overall, per_class = monitored.MONITORED[task]
        assert set(overall) <= set(metrics.headlines(task))
        assert set(per_class) <= set(metrics.names(task, metrics.CLASS))
    computed = {*coco.COCO_SCORES, *detection.AT_CONFIDENCE, *detection.AT_BEST}
    assert set(metrics.names("detection", metrics.SPLIT)) == {*computed, logged.NAME}
    edges = boundary.boundary_scores(np.ones((2, 4)), np.ones((2, 4)))
    assert set(edges) == {"mean_boundary_F1", "boundary_F1"}
    assert monitored.MONITORED["detection"][0] == coco.COCO_SCORES
    for model, known in ((network.DeepLabV3, DEEPLABV3), (network.FasterRcnn, FASTER_RCNN)):
        assert set(tags(model, "encoder")) == set(known)


def test_a_cycle_of_phases_is_refused(values):
    put(values, "phases.baseline.init", "mae_ohem")
    put(values, "phases.mae_ohem.init", "baseline")
    assert refusals(values)["phases.baseline.init"].value == "mae_ohem"


def test_every_problem_is_listed_at_once(values):
    put(values, "phases.baseline.epochs", 0)
    put(values, "seed", "x")
    found = refusals(values)
    assert (found["phases.baseline.epochs"].value, found["seed"].value) == (0, "x")


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "0.00001"])
def test_numbers_that_yaml_11_reads_as_text_stay_numbers(values, text):
    put(values, "phase_defaults.fabric.optimizer.lr", text)
    assert parse(values).phases["baseline"].optimizer.lr == 1e-5


NUMBERS = {
    "1e-05": 1e-05,
    "1E5": 1e5,
    "12e03": 12e3,
    ".5": 0.5,
    "1.": 1.0,
    "+1": 1,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "-0b11": -3,
    "1_000": 1000,
    ".inf": float("inf"),
    "TRUE": True,
    "false": False,
    "~": None,
    "": None,
    "on": "on",
    "yes": "yes",
    "1:30": "1:30",
    "2020-01-01": "2020-01-01",
    "'1e3'": "1e3",
    "=": "=",
}


def test_the_file_is_read_as_yaml_12(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("\n".join(f"k{index}: {text}" for index, text in enumerate(NUMBERS)) + "\nm: {<<: {x: 1}, y: 2}\n")
    expected = {f"k{index}": value for index, value in enumerate(NUMBERS.values())} | {"m": {"x": 1, "y": 2}}
    assert repr(read_yaml(path)) == repr(expected)
    # where libyaml is not built in, PyYAML's own reader gives the same
    code = (
        "import yaml; del yaml.CSafeLoader\nfrom retrace.config import *\nprint(read_yaml(PARAMS.with_name('p.yaml')))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.stdout.strip() == repr(expected), result.stderr


HOSTILE = {
    "list not closed": "a: [1",
    "list": "- 1\n- 2\n",
    "tab": "\t",
    "key twice": "a: {b: 1, b: 2}",
    "two documents": "a: 1\n---\nb: 2\n",
    "not UTF-8": "study: lanes\n".encode("utf-16"),
    "number of 5,000 digits": f"x: {'9' * 5000}",
    "bad integer": "x: !!int abc",
    "bad date": "x: !!timestamp 2020-99-99",
    "half a surrogate pair": 'classes: ["\\ud800"]',
    "deep": f"a: {'[' * 3000}{']' * 3000}",
    "too deep for the C stack": f"a: {'[' * 100000}{']' * 100000}",
    "inside itself": "a: &a [*a]",
    "unknown tag": "a: !foo x",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, kind):
    path, text = tmp_path / "p.yaml", HOSTILE[kind]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert "p.yaml" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_file_in_another_encoding_is_refused_with_its_name_and_the_remedy(tmp_path):
    path = tmp_path / "p.yaml"
    for content, encoding in (("a: 1\n".encode("utf-16"), "UTF-16"), ("a: Öl\n".encode("cp1252"), "WINDOWS-1252")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"p.yaml: the text is in {encoding}, not in UTF-8; .*iconv -f {encoding} "):
            read_yaml(path)
    path.write_bytes("a: 1\n".encode("utf-8-sig"))
    assert read_yaml(path) == {"a": 1}
    with pytest.raises(UserError, match="could not be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "x: 2020-99-99",
        "phases: {a: {engine: {}}}",
        "phases: {a: {model: {architecture: []}}}",
        "phases: [1]",
        "phase_defaults: {fabric: 3}\nphases: {a: {}}",
        "phase_defaults: 3",
        "pretrain: {mae: {optimizer: 3}}",
        "report: 3\ntask: detection",
        "1: 2",
    ],
)
def test_values_of_the_wrong_kind_are_refused(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        parse(read_yaml(path))


def test_nothing_is_shared_between_phases(values):
    phases = whole(values)["phases"]
    phases["baseline"]["optimizer"]["lr"] = 7.0
    assert phases["mae_ohem"]["optimizer"]["lr"] != 7.0 and values["phase_defaults"]["fabric"]["optimizer"]["lr"] != 7.0
    under = {"a": {"b": [1]}}
    merge(under, {})["a"]["b"].append(2)
    assert under == {"a": {"b": [1]}}


def test_phase_defaults_are_merged_under_each_phase(values):
    phases = parse(values).phases
    assert phases["mae_ohem"].loss.name == "ohem"
    assert phases["baseline"].loss.name == "cross_entropy"
    assert phases["mae_ohem"].optimizer == phases["baseline"].optimizer


def test_parameters_are_frozen(values):
    params = parse(values)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3


@pytest.mark.parametrize("path", [p for p in STUDIES if "." not in p.stem], ids=lambda p: p.stem)
def test_every_built_in_study_is_valid_and_commented(path):
    params = parse(read_yaml(path), path.name)
    assert params.study == path.stem
    assert params.report.title
    assert params.report.data_needed
    text = path.read_text()
    assert text.count("#") > 5
    # what DVC interpolates or tracks must be written out: it does not know the schema's defaults
    keys = YAML(typ="safe", pure=True).load(text)
    for key in ("evaluate", "rebalance", "pretrain", "expected", "runtime"):
        assert key in keys
    assert {"focus_classes", "colors"} <= set(keys["report"])
