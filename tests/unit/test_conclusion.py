"""What `dvc repro` ends with: the report's headline, verdict and targets in a few lines, and where the report is."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from retrace.config.load import load
from retrace.documents.derived import Judged
from retrace.report.conclusion import conclusion
from retrace.report.inputs import read_inputs
from stages import report as stage
from tests.support.fixtures_documents import derived
from tests.support.fixtures_metrics import LANES, PLATES, build

TASKS = {"segmentation": LANES, "detection": PLATES}


@pytest.mark.parametrize("task", TASKS)
def test_the_stage_ends_with_what_its_report_says(tmp_path, monkeypatch, capsys, task):
    monkeypatch.chdir(tmp_path)
    study = build(tmp_path, task)["study"]
    stage.main()
    shown = capsys.readouterr().out.splitlines()
    report = (tmp_path / "reports" / study / "report.md").read_text(encoding="utf-8")
    written = json.loads((tmp_path / "reports" / study / "derived.json").read_text(encoding="utf-8"))
    assert shown[-1] == f"reports/{study}/report.html" and (tmp_path / shown[-1]).is_file()
    score = next(line for line in shown if " images" in line)
    number = re.search(r"\S+ \[\S+, \S+\]", score)
    assert number and number[0] in report and score.startswith(TASKS[task]["phase"])
    rows = written["final"] or written["comparisons"]
    words = {row["verdict"] for row in _rows(rows) if row["verdict"]}
    verdict = next(line for line in shown if "against" in line)
    assert any(verdict.endswith((word, f"{word} (these weights)")) for word in words)
    change = re.search(r"[+-]\S+ \[\S+, \S+\]", verdict)
    assert change and change[0] in report


def _rows(node):
    if isinstance(node, dict):
        if "verdict" in node:
            yield node
        for value in node.values():
            yield from _rows(value)


def test_a_stream_that_cannot_write_a_name_ends_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(tmp_path, "segmentation")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(stage, "report", lambda params: read_inputs(params))
    monkeypatch.setattr(stage.Derived, "read", lambda path: None)
    monkeypatch.setattr(stage, "conclusion", lambda inputs, derived: ["Fußgänger", "0.5"])
    stage.main()
    stream.flush()
    assert stream.buffer.getvalue().split()[-2:] == [b"Fu\\xdfg\\xe4nger", b"0.5"]


def test_targets_are_counted_by_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claims = [
        {"label": name, "kind": kind, "metric": "mIoU", "split": "test", "low": low, "phase": phase}
        for name, kind, low, phase in (
            ("easy", "target", 0.01, None),
            ("hard", "target", 0.99, "mae_ohem"),
            ("of another phase", "target", 0.99, "baseline"),
            ("no target", "published", 0.99, None),
        )
    ]
    build(tmp_path, "segmentation", {**LANES, "report": {**LANES["report"], "real_data": True, "claims": claims}})
    inputs = read_inputs(load())
    statuses = ["met", "not met", "not met", "not met"]
    judged = [Judged(phase="mae_ohem", split="test", status=status, why="") for status in statuses]
    first = derived(claims=judged)
    shown = conclusion(inputs, first)
    assert shown[-2] == "targets: 1 met, 1 not met"
    assert not any("demo" in line or "against" in line for line in shown)
    inputs.params.report.claims[1].__dict__["kind"] = "published"
    assert conclusion(inputs, first)[-2] == "targets: 1 met"


def test_a_study_without_targets_says_nothing_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(tmp_path, "segmentation", {**LANES, "report": {**LANES["report"], "claims": []}})
    shown = conclusion(read_inputs(load()), derived())
    assert len(shown) == 2 and Path(shown[-1]).parts == ("reports", "lanes", "report.html")
