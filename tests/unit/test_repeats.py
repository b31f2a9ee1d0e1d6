"""Phases with several seeds: names of the trainings, statistics over seeds, and what the report says of them."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from retrace.config.load import load, parse
from retrace.config.trainings import stage_of
from retrace.documents.derived import Derived
from retrace.documents.scores import read_scores
from retrace.errors import UserError
from retrace.files import write_json
from retrace.report.conclusion import conclusion
from retrace.report.inputs import read_inputs
from retrace.statistics import repeats
from stages import evaluate, finetune
from stages import report as stage
from tests.support.fixtures_metrics import LANES, build

PLAIN = json.loads(json.dumps(LANES))  # as read from a file: keys are text
REPEATED = {**PLAIN, "repeats": {"phases": ["baseline", "mae_ohem"], "seeds": [18, 19]}}


def test_the_first_training_of_a_phase_keeps_its_name_and_every_repeat_has_its_seed():
    params = parse(REPEATED)
    assert list(params.trainings) == [
        "baseline", "baseline-18", "baseline-19", "mae_ohem", "mae_ohem-18", "mae_ohem-19", "colder",
    ]  # fmt: skip
    assert [one.seed for one in params.trainings_of("mae_ohem").values()] == [17, 18, 19]
    assert stage_of("finetune", "colder") == "finetune@colder"
    assert stage_of("evaluate", "baseline-18") == "evaluate_repeat@baseline-18"
    assert list(parse(PLAIN).trainings) == list(PLAIN["phases"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phases": [], "seeds": [18]}, r"repeats.phases.*allowed: baseline"),
        ({"phases": ["nothing"], "seeds": [18]}, r"repeats.phases = 'nothing'.*no such phase"),
        ({"phases": ["baseline"], "seeds": [17, 18]}, r"repeats.seeds.*baseline is trained with seed 17 anyway"),
        ({"phases": ["baseline"], "seeds": [18, 18]}, r"repeats.seeds.*twice"),
        ({"phases": ["baseline", "baseline"], "seeds": [18]}, r"repeats.phases.*twice"),
        ({"phases": ["baseline"], "seeds": [-1]}, r"repeats.seeds"),
    ],
)
def test_repeats_that_cannot_be_are_refused_with_the_key(changes, said):
    with pytest.raises(UserError, match=said):
        parse({**PLAIN, "repeats": changes})


def test_a_phase_with_a_seed_of_its_own_is_repeated_with_others_only():
    phases = {**PLAIN["phases"], "baseline": {**PLAIN["phases"]["baseline"], "seed": 5}}
    values = {**PLAIN, "phases": phases, "repeats": {"phases": ["baseline"], "seeds": [17]}}
    assert [one.seed for one in parse(values).trainings_of("baseline").values()] == [5, 17]
    with pytest.raises(UserError, match="seed 5 anyway"):
        parse({**values, "repeats": {"phases": ["baseline"], "seeds": [5]}})


@pytest.mark.parametrize("main", [finetune.main, evaluate.main])
def test_a_training_that_is_none_is_refused_by_the_stages(main, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text(json.dumps(REPEATED))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main("mae_ohem-99")
    assert stopped.value.code == 1 and "mae_ohem-18" in capsys.readouterr().err


def spread_only(scores):
    """Draws without any spread over units."""
    return np.tile(scores, (200, 1))


def test_with_no_spread_over_units_the_interval_is_the_t_interval_of_the_seeds():
    scores = np.array([0.70, 0.72, 0.77])
    found = repeats.mean((scores, spread_only(scores)), units=40)
    half = t.ppf(0.975, 2) * scores.std(ddof=1) / 3**0.5
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half))
    assert found.value == pytest.approx(scores.mean())
    assert repeats.spread(scores) == pytest.approx(scores.std(ddof=1))
    assert repeats.spread(scores[:1]) is None and repeats.spread(np.array([0.5, np.nan])) is None


def simulated(random, shift=0.0, seeds=3, units=40, spread=0.01):
    """Two phases on the same units, with trainings that differ by `spread`."""
    shared, weights = random.normal(0, 0.1, units), random.multinomial(units, [1 / units] * units, size=200) / units
    phases = []
    for offset in (0.0, shift):
        rows = offset + shared + random.normal(0, spread, (seeds, 1)) + random.normal(0, 0.05, (seeds, units))
        phases.append((rows.mean(1), weights @ rows.T))
    return phases


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.05, 0.5])
def test_the_p_value_is_in_step_with_the_interval(shift):
    for seed in range(20):
        first, second = simulated(np.random.default_rng(seed), shift)
        found = repeats.difference(second, first, units=40)
        assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)
        assert found.value == pytest.approx(second[0].mean() - first[0].mean())
        back = repeats.difference(first, second, units=40)
        assert (back.value, back.low, back.p) == pytest.approx((-found.value, -found.high, found.p))


def test_few_units_undefined_scores_and_equal_scores_give_no_interval():
    first, second = simulated(np.random.default_rng(0))
    assert repeats.difference(second, first, units=4).low is None
    alike = np.full(3, 0.5)
    assert repeats.mean((alike, spread_only(alike)), units=40).low is None
    undefined = (np.array([0.5, np.nan, 0.5]), first[1])
    assert repeats.difference(undefined, first, units=40).value is None
    half = first[1].copy()
    half[: len(half) * 2 // 3] = np.nan
    found = repeats.mean((first[0], half), units=40)
    assert found.low is None and found.usable == pytest.approx(1 / 3, abs=0.01)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.lists(st.integers(0, 9), min_size=2, max_size=6))
def test_how_often_one_beats_the_other_is_the_share_of_pairs(first, second):
    found = repeats.superiority(np.array(first, dtype=float), np.array(second, dtype=float))
    pairs = [(a > b) + 0.5 * (a == b) for a in first for b in second]
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    back = repeats.superiority(np.array(second, dtype=float), np.array(first, dtype=float))
    assert (back.low, back.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


def test_the_interval_of_how_often_one_beats_the_other_holds_the_truth():
    truth, held, times = float(norm.cdf(0.8 / 2**0.5)), 0, 400
    for number in range(times):
        random = np.random.default_rng(number)
        found = repeats.superiority(random.normal(0.8, 1, 5), random.normal(0, 1, 5))
        held += found.low <= truth <= found.high
    assert 0.93 <= held / times <= 1


def test_three_trainings_that_all_beat_three_others_prove_little():
    found = repeats.superiority(np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0]))
    assert found.value == found.high == 1 and found.low < 0.6


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeated")
    build(folder, "segmentation", REPEATED)
    with contextlib.chdir(folder):
        stage.report(load())
    return folder


def test_derived_json_has_means_and_differences_of_the_metrics_files(reported):
    found = Derived.read(reported / "reports/lanes/derived.json").seeds
    assert found is not None and list(found.phases) == ["baseline", "mae_ohem"]
    scores = {}
    for phase in ("baseline", "mae_ohem"):
        files = [reported / f"metrics/lanes/{phase}{end}.json" for end in ("", "-18", "-19")]
        scores[phase] = [read_scores(file).metric("mIoU", "test").value for file in files]
        row = found.phases[phase].scores["test"]["mIoU"]
        assert row.values == pytest.approx(scores[phase])
        assert row.mean.value == pytest.approx(np.mean(scores[phase]))
        assert row.spread == pytest.approx(np.std(scores[phase], ddof=1))
        assert row.mean.low < row.mean.value < row.mean.high and row.mean.n == 20
    against = found.comparisons["mae_ohem"]
    assert against.origin == "baseline" and "baseline" not in found.comparisons
    one = against.splits["test"]
    assert one.difference.value == pytest.approx(np.mean(scores["mae_ohem"]) - np.mean(scores["baseline"]))
    assert one.difference.verdict == "better" and one.superiority.value == 1


def test_metrics_json_has_the_mean_over_seeds_of_the_active_phase(reported):
    files = [reported / f"metrics/lanes/mae_ohem{end}.json" for end in ("", "-18", "-19")]
    mean = np.mean([read_scores(file).metric("mIoU", "test").value for file in files])
    assert json.loads((reported / "metrics.json").read_text())["test_mIoU"] == pytest.approx(mean)


def test_the_pages_have_the_table_over_seeds_and_say_what_later_phases_start_from(reported, monkeypatch):
    monkeypatch.chdir(reported)
    text = (reported / "reports/lanes/tables/seeds_mIoU.csv").read_text()
    rows = [line.split(",")[0] for line in text.splitlines()]
    assert rows[1:] == ["baseline", "mae_ohem"] and "[17, 18, 19]" in text and "(these weights)" not in text
    page = (reported / "reports/lanes/report.md").read_text()
    assert "colder from mae_ohem with seed 17" in page and "better (these weights)" in page
    lines = conclusion(read_inputs(load()), Derived.read(Path("reports/lanes/derived.json")))
    assert any(line.startswith("over 3 seeds: mean ") and line.endswith(", better") for line in lines)


def test_plan_takes_the_spread_over_seeds_from_the_repeats(reported, monkeypatch):
    from retrace.cli.plan import seeds

    monkeypatch.chdir(reported)
    phases = Derived.read(Path("reports/lanes/derived.json")).seeds.phases
    spreads = [row.scores["test"]["mIoU"].spread for row in phases.values()]
    spread, runs, needed = seeds(0.01, "mIoU")
    assert spread == pytest.approx(np.mean(np.square(spreads)) ** 0.5) and runs == 6 and needed >= 2


def test_why_traces_a_mean_over_seeds_to_all_its_weights(reported, monkeypatch):
    from retrace.provenance.verify.trace import find

    monkeypatch.chdir(reported)
    key = "seeds.phases.mae_ohem.scores.test.mIoU.mean.value"
    (match,) = [row for row in find(f"reports/lanes/derived.json:{key}", "lanes") if row.key == key]
    assert match.phases == ("mae_ohem", "mae_ohem-18", "mae_ohem-19")


def test_a_repeat_that_was_not_scored_is_named_with_its_stage(tmp_path, monkeypatch):
    build(tmp_path, "segmentation", REPEATED)
    (tmp_path / "metrics/lanes/mae_ohem-19.json").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"mae_ohem-19 .*`dvc repro evaluate_repeat@mae_ohem-19`"):
        read_inputs(load())


def test_a_repeat_that_was_taken_out_is_left_over(tmp_path, monkeypatch):
    values = build(tmp_path, "segmentation", REPEATED)
    monkeypatch.chdir(tmp_path)
    write_json(Path("params.yaml"), {**values, "repeats": {"phases": ["baseline", "mae_ohem"], "seeds": [18]}})
    inputs = read_inputs(load())
    assert list(inputs.repeats) == ["baseline-18", "mae_ohem-18"]
    assert {"baseline-19", "mae_ohem-19"} <= set(inputs.leftover)


def test_without_repeats_nothing_is_said_over_seeds(tmp_path, monkeypatch):
    build(tmp_path, "segmentation")
    monkeypatch.chdir(tmp_path)
    stage.report(load())
    assert "seeds" not in json.loads(Path("reports/lanes/derived.json").read_text())
    assert not list(Path("reports/lanes/tables").glob("seeds_*"))
