"""benchmarks/gpu_check.py: settings, order, budget, environment, lines and tables; trainings are a slow test."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.gpu import ops, wheels
from benchmarks.gpu.inside import Variant
from benchmarks.gpu.parts import PARTS, numbers
from benchmarks.gpu.settings import STUDIES, ordered, settings
from benchmarks.gpu.table import read, tables
from benchmarks.gpu.trainings import CheckFailed, Clock, Run, Unavailable, difference, environment, hashes
from benchmarks.gpu_check import outcome
from retrace.config.load import parse
from tests.support.projects import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu_check.py"


def test_phases_come_after_those_they_start_from():
    phases = {"c": {"init": "b"}, "b": {"init": "a"}, "a": {"init": "none"}, "d": {"init": "pretrain"}}
    order = ordered(phases)
    assert sorted(order) == sorted(phases) and order.index("a") < order.index("b") < order.index("c")


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_settings_are_valid_parameters_with_two_epochs_and_nothing_to_download(study, device):
    params = parse(settings(study, device, steps=3))
    assert params.machine.device == device and params.pretrain.method in ("mae", "none") and params.data.url is None
    for phase in params.phases.values():
        epochs = phase.hyperparameters.epochs if phase.engine == "ultralytics" else phase.epochs
        assert epochs == 2


def test_what_the_caller_has_on_the_path_stays_on_it(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/carried/site")
    assert environment()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/carried/site"]
    monkeypatch.delenv("PYTHONPATH")
    assert environment()["PYTHONPATH"] == str(ROOT)


def test_a_check_fails_is_skipped_or_gives_its_figures():
    def failing():
        raise CheckFailed("two runs differ")

    def elsewhere():
        raise Unavailable("no device")

    clock = Clock(60)
    assert outcome(lambda: {"files": 4}, clock)["state"] == "passed"
    assert outcome(failing, clock) | {"took_seconds": 0} == {
        "state": "failed",
        "why": "two runs differ",
        "took_seconds": 0,
    }
    assert outcome(elsewhere, clock)["state"] == "skipped"
    assert outcome(failing, Clock(0)) == {"state": "skipped", "why": "the time is up"}


@pytest.mark.parametrize("operation", ops.operations(tiny=True), ids=lambda operation: operation.name)
def test_an_operation_agrees_with_the_library_in_float64(operation):
    found = ops.check(operation, torch.float32, "channels_last", "cpu")
    assert found["relative_error"] < 1e-4


def test_an_operation_that_differs_between_two_runs_or_from_the_library_is_found():
    calls = iter(range(100))
    draw = ops.operations(tiny=True)[2].draw
    with pytest.raises(AssertionError, match="two runs differ"):
        ops.check(
            ops.Operation("x", draw, lambda given: given["x"] * (1 + next(calls))), torch.float32, "contiguous", "cpu"
        )
    wrong = ops.Operation("x", draw, lambda given: given["x"] * 1.1, lambda given: given["x"])
    with pytest.raises(AssertionError, match="relative error 0.1"):
        ops.check(wrong, torch.float32, "contiguous", "cpu")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_first_tensor_that_differs_is_named(tmp_path):
    runs = []
    for name, bias in (("a", 0.0), ("b", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        save_file(
            {"first.weight": torch.ones(3), "second.bias": torch.tensor([1.0, bias])}, folder / "weights.safetensors"
        )
        runs.append(Run(0, "", 1.0, {}, folder, hashes(folder)))
    assert difference(runs[0], runs[0]) is None
    found = difference(*runs)
    assert "weights.safetensors" in found and "second.bias: 1 of 2 numbers, by up to 0.5" in found


def test_every_value_of_a_document_is_compared_by_its_path():
    split = {"mIoU": {"value": 0.5, "n": 3}, "per_class": {"road": {"IoU": {"value": 0.25}, "F1": {"value": None}}}}
    assert numbers({"test": split}) == {"/test/mIoU": 0.5, "/test/per_class/road/IoU": 0.25}


def test_versions_that_differ_from_the_lock_are_told(monkeypatch):
    assert wheels.versions() == {}  # this environment is made from the lock
    own = wheels.locked() | {"torch": "1.0", "pydantic": "9.9"}
    monkeypatch.setattr(wheels, "locked", lambda: own)
    assert set(wheels.versions()) == {"torch", "pydantic"} and wheels.versions()["torch"][0] == "1.0"


def test_carried_wheels_are_installed_beside_the_others(tmp_path, monkeypatch):
    """A stand-in wheel for a package of the list; what is there already is not installed again."""
    carried, site = tmp_path / "carried", tmp_path / "site"
    carried.mkdir()
    for name in ("ruamel_yaml", "pydantic"):
        with zipfile.ZipFile(carried / f"{name}-0.1-py3-none-any.whl", "w") as wheel:
            info = f"{name}-0.1.dist-info"
            wheel.writestr(f"{name}_here.py", "")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setattr(wheels, "versions", lambda: {"ruamel-yaml": ("0.1", None), "pydantic": ("0.1", "0.2")})
    assert wheels.install(carried, site) == ["ruamel-yaml"]
    assert (site / "ruamel_yaml_here.py").is_file() and not (site / "pydantic_here.py").exists()


def test_tables_are_made_from_the_lines(tmp_path):
    lines = [
        {"device": "Tesla T4", "torch": "2.14.1", "memory_gib": 14.6, "capability": "7.5", "cuda": "13.0"},
        {"part": "ops", "name": "dice", "state": "failed", "why": "two runs differ"},
        {
            "part": "memory",
            "name": "plates resnet50, 7.5 GiB",
            "state": "passed",
            "batch": 4,
            "accumulate": 4,
            "peak_gib": 6.9,
        },
        {"part": "rate", "name": "lanes baseline", "state": "skipped", "why": "the time is up"},
    ]
    path = tmp_path / "gpu.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = tables(*read(path))
    assert "Tesla T4" in found and "- ops, dice: two runs differ" in found
    assert "| plates resnet50 | 4 x 4 (6.9 GiB)" in found and "loader alone" not in found


def test_without_a_device_it_says_so_and_ends_well(tmp_path):
    command = [sys.executable, str(SCRIPT), "--parts", "ops"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=hidden, capture_output=True, text=True)
    assert done.returncode == 0 and "nothing was checked" in done.stdout


@pytest.mark.slow
def test_the_check_itself_works_on_a_cpu(tmp_path):
    output = tmp_path / "gpu.jsonl"
    parts = [part for part in PARTS if part != "ops"]
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--study", "bdd100k", "--steps", "2"]
    done = subprocess.run([*command, "--parts", *parts, "--output", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    machine, checks = read(output)
    assert machine["device"] == "cpu"
    states = {part: {line["state"] for line in checks if line["part"] == part} for part in parts}
    for part in ("bits", "evaluate", "workers", "rate"):
        assert states[part] == {"passed"}
    for line in checks:
        if line["part"] == "evaluate":
            assert line["scores"] > 10 and line["largest_difference"] == 0.0


def test_variants_are_read_as_they_are_written():
    variant = Variant(limit_gib=7.5, kill=True)
    assert Variant.parse(variant.text()) == variant
