"""`retrace ablate`: sentences and pages from known results."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from retrace.config import read_yaml
from retrace.config.load import load
from retrace.files import write_json
from retrace.report.numbers import Ledger, plain
from retrace.sweeps.attribution import attribute, sentence
from retrace.sweeps.design import experiments
from retrace.sweeps.results import Results, made_by
from tests.support.fixtures_ablate import UPSTREAM, commit, enter_copy, make
from tests.support.fixtures_documents import ablation
from tests.support.verified import recheck


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return make(tmp_path_factory.mktemp("names") / "project")


@pytest.fixture
def project(kept, tmp_path, monkeypatch):
    return enter_copy(kept, tmp_path, monkeypatch)


def told(label, row, most, interactions=None, images=40):
    names = {"f": label, "g": "zoom", "h": "flip"}
    found = ablation(
        units=images,
        factors={name: {"label": text} for name, text in names.items()},
        effects={"f": {"mIoU": row}},
        interactions={pair: {"mIoU": effect} for pair, effect in (interactions or {}).items()},
        most={"f": most},
    )
    ledger = Ledger()
    ledger.add("x.json", found.content())
    return plain(sentence(ledger, "x.json", found, "f"))


def test_sentences_say_what_the_numbers_say():
    sure = {"value": -0.019, "low": -0.026, "high": -0.012}
    most = {"costs": {"name": "IoU/Sky", "value": -0.042, "low": -0.06, "high": -0.024}}
    assert told("random crop", sure, most) == (
        "random crop: -1.9 mIoU points [-2.6, -1.2], costs Sky most (-4.2 [-6.0, -2.4])"
    )
    unsure = {"value": 0.002, "low": -0.005, "high": 0.009}
    assert told("Dice", unsure, {}) == "Dice: +0.2 mIoU points [-0.5, +0.9], no measurable effect"
    one_image = {"value": 0.002, "low": None, "high": None}
    assert (
        told("Dice", one_image, {}, images=1)
        == "Dice: +0.2 mIoU points, without an interval (too few independent images)"
    )
    alike = {"value": 0.0, "low": None, "high": None}
    assert told("Dice", alike, {}) == "Dice: +0.0 mIoU points, without an interval (all runs score alike)"


def test_sentences_say_which_other_change_an_effect_depends_on():
    unsure, sure = {"value": 0.002, "low": -0.005, "high": 0.009}, {"value": -0.03, "low": -0.04, "high": -0.02}
    pairs = {"f x g": sure, "f x h": unsure, "g x h": sure}
    assert told("Dice", sure, {}, pairs) == (
        "Dice: -3.0 mIoU points [-4.0, -2.0], depends on zoom (interaction -3.0 [-4.0, -2.0])"
    )
    assert ", no measurable effect on average, depends on zoom (" in told("Dice", unsure, {}, pairs)
    both = told("Dice", sure, {}, {"f x g": sure, "h x f": sure})
    assert both.endswith("zoom (interaction -3.0 [-4.0, -2.0]) and flip (interaction -3.0 [-4.0, -2.0])")


def test_a_bound_beside_zero_is_not_printed_as_zero():
    assert told("Dice", {"value": 0.002, "low": 0.0002, "high": 0.004}, {}) == (
        "Dice: +0.20 mIoU points [+0.02, +0.40]"
    )
    assert "[+0.004, +0.400]" in told("Dice", {"value": 0.002, "low": 0.00004, "high": 0.004}, {})
    assert "[-0.01, +0.40], no measurable" in told("Dice", {"value": 0.002, "low": -0.00006, "high": 0.004}, {})


def simulated(params, design="full", images=30):
    """Results in which the random crop costs 5 points everywhere, and 20 on Sky; nothing else has an effect."""
    planned = experiments(design, params, read_yaml(Path("params.yaml")))
    random = np.random.default_rng(1)
    crop = np.array([list(params.ablation.factors).index("crop")])
    on = np.array([e.cell for e in planned])[:, crop[0]]
    weights = random.multinomial(images, np.full(images, 1 / images), 200) / images
    scores, draws = {}, {}
    for name in ["mIoU", "focus_mIoU", *(f"IoU/{c}" for c in params.classes)]:
        per_image = 0.6 + random.normal(0, 0.1, (images, 1)) + random.normal(0, 0.01, (images, len(planned)))
        per_image = per_image - on * (0.2 if name.endswith("Sky") else 0.05)
        scores[name], draws[name] = per_image.mean(0), weights @ per_image
    commits = tuple(f"{index:040d}" for index in range(len(planned)))
    made = tuple({"models/offroad/aggressive": f"{index:032x}.dir"} for index in range(len(planned)))
    return planned, Results(tuple(planned), commits, made, "test", images, images, "image", scores, draws)


@pytest.mark.parametrize("design", ["full", "one-at-a-time", "leave-one-out"])
def test_the_pages_say_what_was_measured_and_every_number_can_be_derived_again(project, monkeypatch, design):
    from retrace.sweeps import report

    params = load()
    planned, results = simulated(params, design)
    monkeypatch.setattr(report, "read_results", lambda *_: results)
    lines = report.write_report(params, design, planned)
    folder = Path("reports/offroad-ablation")
    found = json.loads((folder / "ablation.json").read_text())
    assert found == attribute(params, design, results).content()
    assert found["effects"]["crop"]["mIoU"]["high"] < -0.03
    assert found["most"]["crop"]["costs"]["name"] == "IoU/Sky"
    assert len(found["interactions"]) == (6 if design == "full" else 0)
    read = {f"{path}/manifest.jsonl" if path.endswith("/raw") else path: md5 for path, md5 in UPSTREAM.items()}
    assert found["made_from"].items() >= read.items() and "stages/finetune.py" in found["made_from"]
    assert found["runs"][3]["made"] == {"models/offroad/aggressive": f"{3:032x}.dir"}
    page = (folder / "ablation.md").read_text()
    assert "dvc exp show" in page
    assert found["effects"]["crop"]["mIoU"]["value"] == pytest.approx(-0.05, abs=0.01)
    assert all(f"{e.seed} | {e.training_seed} |" in re.sub(" +", " ", page) for e in planned)
    assert "costs Sky most" in page and found["sentences"]["crop"] in lines
    assert lines[-1] == "reports/offroad-ablation/ablation.html"
    html = (folder / "ablation.html").read_text()
    assert "<svg" in html and "Demo data" in html and "://" not in html.split("<svg")[0]
    assert (folder / "figures" / "effects.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "tables" / "runs.csv").read_text().splitlines()) == len(planned) + 1
    assert recheck(folder) == []
    found["effects"]["crop"]["mIoU"]["value"] += 0.01
    write_json(folder / "ablation.json", found)
    assert any("effects.crop.mIoU.value" in line for line in recheck(folder))


def test_what_an_experiment_made_is_read_from_its_own_lock(project):
    outs = {"finetune": ["models/offroad/aggressive"], "evaluate": ["metrics/offroad/aggressive", "m.json"]}
    stages = {f"{k}@aggressive": {"outs": [{"path": p, "md5": f"{p}!"} for p in v]} for k, v in outs.items()}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    commit(project)
    assert made_by("HEAD", "aggressive") == {p: f"{p}!" for paths in outs.values() for p in paths}
