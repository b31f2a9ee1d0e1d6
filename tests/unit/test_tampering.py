"""`retrace verify --no-rerun` in a fresh clone: whatever one edits alone is found and named.

`lanes` is the study that dvc.lock holds; for `plates`, files.json and provenance.json are the record.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.two_studies import LOCKED, OTHER, complaints, make, read_lock, render_again, write_lock
from tests.support.verified import flip

pytestmark = pytest.mark.slow
Change = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("tampering") / "project"
    make(root)
    return root


@pytest.fixture
def project(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "project"))


def substitute(file: str, pattern: str, text: str) -> Change:
    """Replace the first place that a pattern matches."""

    def change(root: Path, study: str) -> None:
        path = _one(root, study, file)
        content = path.read_text()
        edited = re.sub(pattern, text, content, count=1)
        assert edited != content, f"{pattern!r} is not in {path}"
        path.write_text(edited)

    return change


def value(file: str, *keys: str | int, to: object) -> Change:
    """Set one value of a JSON or YAML file."""

    def change(root: Path, study: str) -> None:
        path = _one(root, study, file)
        content = yaml.safe_load(path.read_text())  # JSON is YAML
        _set(content, keys, to)
        path.write_text(json.dumps(content))

    return change


def bit(file: str) -> Change:
    return lambda root, study: flip(_one(root, study, file))


def removed(file: str) -> Change:
    return lambda root, study: _one(root, study, file).unlink()


def added(file: str) -> Change:
    return lambda root, study: (root / file.replace("@", study)).write_text("a better one")


def with_pages(change: Change) -> Change:
    """A change of report.json, with all pages laid out anew."""

    def both(root: Path, study: str) -> None:
        change(root, study)
        render_again(root, study)

    return both


def lock(*keys: str | int, to: object) -> Change:
    """Set one value below `stages` of dvc.lock."""

    def change(root: Path, study: str) -> None:
        content = read_lock(root)
        _set(content["stages"], keys, to)
        write_lock(root, content)

    return change


def lock_without(*keys: str | int) -> Change:
    """Leave out one entry below `stages` of dvc.lock."""

    def change(root: Path, study: str) -> None:
        content = read_lock(root)
        place = content["stages"]
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        write_lock(root, content)

    return change


def extra_dep(root: Path, study: str) -> None:
    """A dependency that the run did not have."""
    content = read_lock(root)
    content["stages"]["rebalance"]["deps"].append({"path": "data/lanes/other", "md5": "1" * 32})
    write_lock(root, content)


def _one(root: Path, study: str, pattern: str) -> Path:
    """The first file that a pattern names; `@` stands for the study."""
    return sorted(root.glob(pattern.replace("@", study)))[0]


def _set(content: Any, keys: tuple[str | int, ...], to: object) -> None:
    for key in keys[:-1]:
        content = content[key]
    before = content.get(keys[-1]) if isinstance(content, dict) else content[keys[-1]]
    assert before != to
    content[keys[-1]] = to


MD5 = "0123456789abcdef0123456789abcdef"
REPORT = "reports/@/"
WORDS = ("pages", 0, "title")

# by kind: the change, and what the complaint must name
ANY_STUDY: dict[str, tuple[Change, str]] = {
    "a word on the Markdown page": (substitute(f"{REPORT}report.md", "Summary", "Success"), "report.md"),
    "a number on the Markdown page": (substitute(f"{REPORT}report.md", r"\b0\.\d{3}\b", "0.999"), "report.md"),
    "a word on the HTML page": (substitute(f"{REPORT}report.html", "Summary", "Success"), "report.html"),
    "a number on the HTML page": (substitute(f"{REPORT}report.html", r">0\.\d{3}<", ">0.999<"), "report.html"),
    "a picture inside the HTML page": (
        substitute(f"{REPORT}report.html", "base64,/9j/4", "base64,/9j/5"), "report.html"),
    "a word in the guide": (
        substitute(f"{REPORT}REPRODUCTION_GUIDE.md", "(?m)^# .*$", "# Guide"), "REPRODUCTION_GUIDE.md"),
    "a command in the guide": (
        substitute(f"{REPORT}REPRODUCTION_GUIDE.md", "git clone|dvc|make", "curl"), "REPRODUCTION_GUIDE.md"),
    "a cell of a table": (substitute(f"{REPORT}tables/phases_*.csv", r"\d\.\d{3}", "9.999"), "tables/phases_"),
    "a table added": (added(f"{REPORT}tables/best.csv"), "tables/best.csv"),
    "a table removed": (removed(f"{REPORT}tables/*.csv"), "tables/"),
    "a curve": (bit(f"{REPORT}figures/training_curves.svg"), "figures/training_curves.svg"),
    "a figure removed": (removed(f"{REPORT}figures/*.svg"), "figures/"),
    "a photograph": (bit(f"{REPORT}figures/samples/*.jpg"), "figures/samples/"),
    "a photograph removed": (removed(f"{REPORT}figures/samples/*.jpg"), "figures/samples/"),
    "a photograph added": (added(f"{REPORT}figures/samples/best.jpg"), "figures/samples/best.jpg"),
    "a number in derived.json": (substitute(f"{REPORT}derived.json", r"\d\.\d{4,}", "0.98765"), "derived.json"),
    "a title in parameters.json": (
        value(f"{REPORT}parameters.json", "report", "title", to="Better"), "parameters.json"),
    "a seed in parameters.json": (value(f"{REPORT}parameters.json", "seed", to=99), "parameters.json"),
    "the seed in provenance.json": (value(f"{REPORT}provenance.json", "seed", to=99), "provenance.json: seed"),
    "the processor in provenance.json": (value(f"{REPORT}provenance.json", "cpu", to="another"), REPORT),
    "the commit in provenance.json": (value(f"{REPORT}provenance.json", "git", "commit", to="1" * 40), REPORT),
    "a package in provenance.json": (value(f"{REPORT}provenance.json", "packages", "numpy", to="9.9"), REPORT),
    "a duration in provenance.json": (value(f"{REPORT}provenance.json", "run", "seconds", to=1.25), REPORT),
    "the manifest in provenance.json": (value(f"{REPORT}provenance.json", "data", "sha256", to="a" * 64), REPORT),
    "a word of report.json": (value(f"{REPORT}report.json", *WORDS, to="Better"), REPORT),
    "a word of report.json with all pages": (with_pages(value(f"{REPORT}report.json", *WORDS, to="Better")), REPORT),
    "a number of report.json with all pages": (
        with_pages(value(f"{REPORT}report.json", "numbers", 5, "value", to=0.123456)), "report.json"),
    "report.json cut off": (lambda root, study: (root / f"reports/{study}/report.json").write_text("{"), "report.json"),
    "report.json removed": (removed(f"{REPORT}report.json"), "report.json"),
    "provenance.json removed": (removed(f"{REPORT}provenance.json"), "provenance.json"),
    "derived.json removed": (removed(f"{REPORT}derived.json"), "derived.json"),
    "files.json": (substitute(f"{REPORT}files.json", '": "[0-9a-f]{8}', '": "00000000'), REPORT),
    "files.json removed": (removed(f"{REPORT}files.json"), REPORT),
    "a score of a metrics file": (substitute("metrics/@/*.json", r'"value": 0\.\d+', '"value": 0.987'), "metrics/@/"),
    "a metrics file removed": (removed("metrics/@/*.json"), "metrics/@/"),
}  # fmt: skip
ONE_STUDY: dict[str, tuple[Change, str]] = {
    "params.yaml: the seed": (value("params.yaml", "seed", to=18), "params.yaml: seed: 18"),
    "params.yaml: epochs of a phase": (
        value("params.yaml", "phases", "baseline", "note", to="more"), "params.yaml: phases.baseline.note"),
    "params.yaml: threads": (value("params.yaml", "runtime", to={"threads": 3}), "params.yaml: runtime.threads"),
    "params.yaml: the title": (value("params.yaml", "report", "title", to="Better"), "params.yaml: report.title"),
    "params.yaml: the active phase": (value("params.yaml", "phase", to="baseline"), "params.yaml: phase"),
    "params.yaml: an expected value": (
        value("params.yaml", "expected", to=[{"metric": "mIoU", "split": "test", "value": 0.1, "tolerance": 0.1}]),
        "params.yaml: expected"),
    "dvc.lock: the seed of the report": (lock("report", "params", "params.yaml", "seed", to=9), "dvc.lock"),
    "dvc.lock: the seed of a training": (
        lock("finetune@baseline", "params", "params.yaml", "seed", to=9), "dvc.lock: finetune@baseline: seed"),
    "dvc.lock: a phase of an evaluation": (
        lock("evaluate@baseline", "params", "params.yaml", "phases.baseline", "note", to="x"),
        "dvc.lock: evaluate@baseline: phases.baseline.note"),
    "dvc.lock: without the report": (lock_without("report"), "report"),
    "dvc.lock: without a training": (lock_without("finetune@baseline"), "finetune@baseline"),
    "dvc.lock: without an evaluation": (lock_without("evaluate@colder"), "evaluate@colder"),
    "dvc.lock: an out of collect": (lock("collect", "outs", 0, "md5", to=f"{MD5}.dir"), "data/lanes/raw"),
    "dvc.lock: weights": (lock("finetune@baseline", "outs", 0, "md5", to=f"{MD5}.dir"), "models/lanes/baseline"),
    "dvc.lock: a dependency": (lock("finetune@baseline", "deps", 0, "md5", to=MD5), "finetune@baseline"),
    "dvc.lock: a dependency left out": (lock_without("finetune@baseline", "deps", 1), "finetune@baseline"),
    "dvc.lock: a dependency added": (extra_dep, "data/lanes/other"),
    "dvc.lock: removed": (removed("dvc.lock"), "dvc.lock"),
    "dvc.lock: cut off": (substitute("dvc.lock", "stages:", "stages: ["), "dvc.lock"),
    "metrics.json: a score": (substitute("metrics.json", r"0\.\d+", "0.99"), "metrics.json"),
    "metrics.json: removed": (removed("metrics.json"), "metrics.json"),
    "plots: a point": (substitute("plots/history.csv", r"0\.\d+", "0.0001"), "plots"),
    "plots: a file added": (added("plots/best.csv"), "plots"),
    "plots: a file removed": (removed("plots/confusion.csv"), "plots"),
}  # fmt: skip
CASES = [(kind, study, *row) for kind, row in ANY_STUDY.items() for study in (LOCKED, OTHER)]
CASES += [(kind, LOCKED, *row) for kind, row in ONE_STUDY.items()]


@pytest.mark.parametrize("study", [LOCKED, OTHER])
def test_nothing_is_wrong_with_what_nobody_edited(project, study):
    assert complaints(project, study) == []


def test_there_are_at_least_forty_kinds():
    assert len({*ANY_STUDY, *ONE_STUDY}) >= 40


@pytest.mark.parametrize(
    "study, change, named", [row[1:] for row in CASES], ids=[f"{row[1]}: {row[0]}" for row in CASES]
)
def test_what_was_edited_is_found_and_named(project, study, change, named):
    change(project, study)
    found = "\n".join(complaints(project, study))
    assert named.replace("@/", f"{study}/").rstrip("/") in found, found
