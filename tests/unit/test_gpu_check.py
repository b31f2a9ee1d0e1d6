"""benchmarks/gpu_check.py: its settings, order and table; the trainings themselves are its own business."""

import runpy

import pytest

from retrace.config.load import parse
from tests.support.projects import ROOT

CHECK = runpy.run_path(str(ROOT / "benchmarks" / "gpu_check.py"))


def test_price_is_the_second_epochs_or_else_the_whole_stages():
    row = {"deterministic_epoch": 3.0, "free_epoch": 2.0, "deterministic_seconds": 30.0, "free_seconds": 29.0}
    assert CHECK["price"](row) == ("3.0", "2.0", "1.50x")
    yolo = row | {"deterministic_epoch": None, "free_epoch": None, "free_seconds": 24.0}
    assert CHECK["price"](yolo) == ("30.0 (whole stage)", "24.0 (whole stage)", "1.25x")
    assert CHECK["price"]({"deterministic_seconds": None}) == ("-", "-", "-")


def test_the_table_has_a_row_for_every_phase_and_says_what_differs(capsys):
    rows = [
        {
            "study": "plates",
            "phase": "yolo",
            "same": True,
            "error": None,
            "deterministic_seconds": 4,
            "free_seconds": 2,
        },
        {"study": "plates", "phase": "mobilenet", "same": False, "error": "differ: weights.safetensors"},
    ]
    CHECK["show"]({"device": "x"}, rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "| plates | yolo | yes | 4 (whole stage) | 2 (whole stage) | 2.00x |"
    assert lines[-1] == "| plates | mobilenet | NO: differ: weights.safetensors | - | - | - |"


def test_phases_come_after_those_they_start_from():
    phases = {"c": {"init": "b"}, "b": {"init": "a"}, "a": {"init": "none"}, "d": {"init": "pretrain"}}
    order = CHECK["ordered"](phases)
    assert sorted(order) == sorted(phases) and order.index("a") < order.index("b") < order.index("c")


@pytest.mark.parametrize("study", CHECK["STUDIES"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_settings_are_valid_parameters_with_two_epochs_and_nothing_to_download(study, device):
    params = parse(CHECK["settings"](study, device, steps=3))
    assert params.machine.device == device and params.pretrain.method in ("mae", "none") and params.data.url is None
    for phase in params.phases.values():
        epochs = phase.hyperparameters.epochs if phase.engine == "ultralytics" else phase.epochs
        assert epochs == 2
