"""`retrace plan` against simulated studies: what it asks for does detect the difference."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from retrace.cli.app import app
from retrace.statistics.verdicts import seeds_needed
from stages import report as stage
from tests.support.fixtures_documents import ablation
from tests.support.fixtures_metrics import build


@pytest.fixture
def lanes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(tmp_path, "segmentation")
    (tmp_path / "dvc.yaml").touch()
    stage.main()
    return tmp_path


def planned(*options):
    result = CliRunner().invoke(app, ["plan", *options], env={"COLUMNS": "80"})
    return result.exit_code, result.output


def test_a_smaller_difference_needs_more_images(lanes):
    derived = json.loads(Path("reports/lanes/derived.json").read_text())
    row = derived["comparisons"]["mae_ohem"]["test"]["mIoU"]
    code, shown = planned("--detect", f"{row['detectable'] / 2}")
    assert code == 0 and "mae_ohem against baseline" in shown and f"{row['detectable']:.3f}" in shown
    line = next(line for line in shown.splitlines() if "mae_ohem against" in line)
    wanted = int(line.split()[-2].replace(",", ""))
    assert 3.5 * row["n"] < wanted < 4.5 * row["n"]
    assert all(len(line) <= 80 for line in shown.splitlines()) and "Seeds: unknown" in shown


def test_seeds_come_from_the_ablation(lanes):
    folder = Path("reports/lanes-ablation")
    folder.mkdir()
    known = {"name": "r", "commit": "0", "seed": 1, "training_seed": 1}
    runs = [
        {**known, "levels": {"a": level}, "scores": {"mIoU": score}}
        for level, scores in (("off", (0.50, 0.52)), ("on", (0.60, 0.62)))
        for score in scores
    ]
    ablation(runs=runs).write(folder / "ablation.json")
    code, shown = planned("--detect", "0.02")
    assert code == 0 and f"Seeds: {seeds_needed(math.sqrt(0.0002), 0.02)} of each phase" in shown


@pytest.mark.parametrize("options", [("--detect", "0"), ("--detect", "0.01", "--metric", "nothing")])
def test_wrong_input_ends_in_one_line(lanes, options):
    code, shown = planned(*options)
    assert code == 1 and shown.count("\n") <= 1


@pytest.mark.parametrize("wanted", [0.5, 1.0, 2.0])
def test_that_many_seeds_detect_the_difference(wanted):
    count = seeds_needed(1.0, wanted)
    random = np.random.default_rng(count)
    first, second = (random.normal(shift, 1.0, (4000, count)) for shift in (0.0, wanted))
    found = stats.ttest_ind(second, first, axis=1)
    assert ((found.pvalue <= 0.05) & (found.statistic > 0)).mean() >= 0.78
    fewer = stats.ttest_ind(second[:, :-1], first[:, :-1], axis=1) if count > 2 else None
    assert fewer is None or ((fewer.pvalue <= 0.05) & (fewer.statistic > 0)).mean() < 0.82
