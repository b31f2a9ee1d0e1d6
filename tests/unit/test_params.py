"""params.yaml: what is accepted, and that every refusal names the key, the value and what is allowed."""

import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from retrace.config import read_yaml
from retrace.config.load import parse
from retrace.errors import UserError

STUDY = Path(__file__).parents[2] / "studies" / "lanes.yaml"
CLAIM = {"label": "x", "value": 0.5}
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


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("phases.baseline.init", "gone", ["phases.baseline.init = 'gone'", "none, pretrain, mae_ohem"]),
        ("phases.baseline.epoch", 3, ["phases.baseline.epoch", "unknown key", "epochs"]),
        ("phases.baseline.patience", 0, ["phases.baseline.patience = 0", "greater than or equal to 1"]),
        ("phases.baseline.augment", {"crop": 999}, ["phases.baseline", "crop = 999", "0 (off) to 384"]),
        ("phases.baseline.engine", "tensorflow", ["phases.baseline", "'tensorflow'", "'fabric', 'ultralytics'"]),
        ("phases.mae_ohem.loss.name", "focal", ["phases.mae_ohem.loss.name = 'focal'", "'cross_entropy' or 'ohem'"]),
        ("phases.none", {"init": "pretrain"}, ["phases.none", "taken"]),
        ("phase", "best", ["phase = 'best'", "baseline, mae_ohem"]),
        ("seed", "3", ["seed = '3'", "valid integer"]),
        ("seed", 3.5, ["seed = 3.5"]),
        ("classes", ["a", "b", "a"], ["classes", "'a' is named twice"]),
        ("classes", [], ["classes", "at least one"]),
        ("data.source.kind", "folders", ["data.source", "'masks'"]),
        ("data.source.values", {"Sky": [3]}, ["data.source.values", "'Sky' is not a class", "White Solid"]),
        ("data.url", "http://example.org/a.zip", ["data", "https://"]),
        ("data.url", "https://example.org/a.zip", ["data", "sha256 is required"]),
        ("data.group", "([", ["data.group", "not a regular expression"]),
        ("pretrain.method", "none", ["phases.mae_ohem.init = 'pretrain'", "mae, weights"]),
        ("pretrain.method", "weights", ["pretrain", "needs the block pretrain.weights"]),
        ("report.focus_classes", ["Kerb"], ["report.focus_classes", "'Kerb' is not a class"]),
        (
            "phase_defaults.fabric.monitor",
            "miou",
            ["phases.baseline.monitor = 'miou'", "mIoU, focus_mIoU", "IoU/<class>"],
        ),
        ("phase_defaults.fabric.monitor", "val_loss", ["phases.baseline.monitor = 'val_loss'", "no validation metric"]),
        ("phase_defaults.fabric.monitor", "IoU/Kerb", ["phases.baseline.monitor = 'IoU/Kerb'"]),
        ("report.headline", "AP50", ["report.headline = 'AP50'", "not a metric of segmentation", "mIoU"]),
        ("report.claims", [CLAIM | {"metric": "AP5"}], ["report.claims.0.metric = 'AP5'", "group/<class group>"]),
        ("report.claims", [CLAIM | {"metric": "val_loss", "split": "test"}], ["report.claims.0.split = 'test'", "val"]),
        ("expected", [EXPECTED | {"metric": "AP5"}], ["expected.0.metric = 'AP5'", "mIoU", "IoU/<class>"]),
        ("expected", [EXPECTED | {"metric": "latency_ms"}], ["expected.0.metric = 'latency_ms'"]),
        (
            "phase_defaults.fabric.model",
            {"architecture": "deeplabv3", "encoder": "resnet101"},
            ["phases.baseline.model", "encoder = 'resnet101'", "mobilenet_v3_large, resnet50"],
        ),
        ("surprise", 1, ["surprise: unknown key", "rebalance"]),
        ("phase_defaults", {"keras": {}}, ["phase_defaults", "fabric, ultralytics"]),
    ],
)
def test_refusals_name_key_value_and_choices(values, key, value, expected):
    put(values, key, value)
    with pytest.raises(UserError) as error:
        parse(values)
    message = str(error.value)
    assert message.startswith("params.yaml: ")
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "phase_defaults.ultralytics.hyperparameters.imgsz",
            200,
            "phases.yolo.hyperparameters.imgsz = 200: must be a multiple of 32, e.g. 192 or 224",
        ),
        (
            "phase_defaults.fabric.resize_range",
            [272, 240],
            "phases.mobilenet.resize_range = [272, 240]: the first number",
        ),
        ("phase_defaults.fabric.monitor", "AP5", "phases.mobilenet.monitor = 'AP5': no validation metric of detection"),
        (
            "phases.mobilenet.model",
            {"encoder": "resnet18"},
            "encoder = 'resnet18': fasterrcnn takes mobilenet_v3_large_fpn",
        ),
        ("report.claims", [CLAIM | {"metric": "mIoU"}], "report.claims.0.metric = 'mIoU': not a metric of detection"),
    ],
)
def test_detection_settings_that_cannot_train_are_refused_before_anything_runs(key, value, expected):
    values = read_yaml(STUDY.with_name("plates.yaml"))
    put(values, key, value)
    with pytest.raises(UserError) as error:
        parse(values)
    assert expected in str(error.value)


def test_a_focus_monitor_needs_focus_classes(values):
    put(values, "phase_defaults.fabric.monitor", "focus_mIoU")
    put(values, "report.claims", [])
    parse(values)
    put(values, "report.focus_classes", [])
    with pytest.raises(UserError, match=r"monitor = 'focus_mIoU': is the mean over report.focus_classes"):
        parse(values)


def test_the_schema_knows_what_is_measured_and_what_the_libraries_have():
    from retrace.config import metrics, phases
    from retrace.evaluation import detection
    from retrace.evaluation.scores import segmentation
    from retrace.models.detection import FASTER_RCNN
    from retrace.models.segmentation import DEEPLABV3
    from retrace.report import comparisons, inputs

    assert {task: set(names) for task, names in inputs.OVERALL.items()} == {
        task: set(names) for task, names in metrics.OVERALL.items()
    }
    measured = {*detection.COCO_SCORES, *detection.AT_CONFIDENCE, *detection.AT_BEST}
    assert {*metrics.OVERALL["detection"], *metrics.DETAILS["detection"]} == measured
    assert metrics.OVERALL["segmentation"] == segmentation.OVERALL
    assert metrics.PER_CLASS == {"segmentation": segmentation.PER_CLASS, "detection": detection.PER_CLASS}
    assert metrics.MONITORED["detection"][0] == detection.COCO_SCORES
    assert set(metrics.OF_THE_FILE) == set(comparisons.OF_THE_FILE)
    assert set(metrics.OF_THE_RUN) == {*comparisons.SPEED, *comparisons.NOT_RECORDED}
    assert metrics.VAL_LOSS == comparisons.VAL_LOSS
    assert {name: set(known) for name, known in phases.ENCODERS.items()} == {
        "deeplabv3": set(DEEPLABV3),
        "fasterrcnn": set(FASTER_RCNN),
    }


def test_a_cycle_of_phases_is_refused(values):
    put(values, "phases.baseline.init", "mae_ohem")
    put(values, "phases.mae_ohem.init", "baseline")
    with pytest.raises(UserError, match="a cycle .baseline -> mae_ohem -> baseline"):
        parse(values)


def test_every_problem_is_listed_at_once(values):
    put(values, "phases.baseline.epochs", 0)
    put(values, "seed", "x")
    with pytest.raises(UserError) as error:
        parse(values)
    assert "phases.baseline.epochs = 0" in str(error.value)
    assert "seed = 'x'" in str(error.value)


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "0.00001"])
def test_numbers_that_yaml_11_reads_as_text_stay_numbers(values, text):
    put(values, "phase_defaults.fabric.optimizer.lr", text)
    assert parse(values).phases["baseline"].optimizer.lr == 1e-5


def test_the_file_is_read_as_yaml_12(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("lr: 1e-05\nflag: on\n")
    assert read_yaml(path) == {"lr": 1e-5, "flag": "on"}


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "\t"])
def test_broken_yaml_is_one_clear_line(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"p\.yaml"):
        read_yaml(path)


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
