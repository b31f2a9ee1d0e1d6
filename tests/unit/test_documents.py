"""The files that stages write: read as they were written, and a damaged one is one message."""

import json
from pathlib import Path

import pytest

from retrace.config.metrics import CLASS, METRICS, SPLIT, names
from retrace.documents.base import Document
from retrace.documents.derived import Derived
from retrace.documents.manifest import Box, Record, read_records, write_records
from retrace.documents.pages import FORMATS, page
from retrace.documents.provenance import Provenance
from retrace.documents.samples import read_samples, write_samples
from retrace.documents.scores import read_scores
from retrace.documents.splits import SplitSummary
from retrace.documents.start import Start
from retrace.documents.training import Training
from retrace.errors import UserError
from retrace.report.comparison.documents import fill
from tests.support.fixtures_metrics import build
from tests.support.projects import ROOT


@pytest.fixture(scope="module", params=["segmentation", "detection"])
def finished(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return root, build(root, request.param)["study"]


def again(document: Document, folder: Path) -> str:
    document.write(folder / "again.json")
    return (folder / "again.json").read_text()


def test_what_is_read_is_written_with_the_same_bytes(finished, tmp_path):
    root, study = finished
    for path in (root / "metrics" / study).glob("*.json"):
        if path.stem != "gone":
            assert again(read_scores(path), tmp_path) == path.read_text()
    for path in (root / "metrics" / study).glob("*/samples.json"):
        write_samples(tmp_path / "again.json", read_samples(path))
        assert (tmp_path / "again.json").read_text() == path.read_text()
    for path in (root / "models" / study).glob("*/start.json"):
        assert again(Start.read(path), tmp_path) == path.read_text()
    for path in (root / "models" / study).glob("*/train.json"):
        assert again(Training.read(path), tmp_path) == path.read_text()
    path = root / "data" / study / "splits" / "summary.json"
    assert again(SplitSummary.read(path), tmp_path) == path.read_text()


OPTIONAL = ("mean_boundary_F1", "boundary_F1", "AP50_as_logged")  # measured only where a study asks for them


def test_every_declared_metric_is_found_by_its_name(finished):
    root, study = finished
    path = next(path for path in sorted((root / "metrics" / study).glob("*.json")) if path.stem != "gone")
    scores, content = read_scores(path), json.loads(path.read_text())
    split = content["splits"]["test"]
    for name in names(scores.task, SPLIT):
        if name in OPTIONAL:
            continue
        written = split[name]
        assert scores.metric(name, "test").value == written["value"]
    for name in names(scores.task, CLASS):
        for label in content["classes"]:
            if name not in OPTIONAL:
                written = split["per_class"][label][name]
                assert scores.metric(f"{name}/{label}", "test").value == written["value"]
    assert scores.metric("bytes", "test").value == content["weights"]["bytes"]
    assert scores.metric("mIoU/no such class", "test").value is None
    assert scores.metric(METRICS[scores.task][0].name, "no such split").value is None


def test_keys_of_another_version_are_kept(finished, tmp_path):
    root, study = finished
    path = root / "data" / study / "splits" / "summary.json"
    content = json.loads(path.read_text()) | {"later": [1]}
    text = json.dumps(content)
    assert json.loads(again(SplitSummary.parse(text, "summary.json"), tmp_path)) == content


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda text: text.replace('"images": 20', '"images": "20"'), "splits.test.images"),
        (lambda text: text.replace('"min_reliable"', '"min"'), "min_reliable"),
        (lambda text: text[:100], "JSON"),
    ],
)
def test_a_damaged_file_is_one_message_with_place_and_remedy(tmp_path, edit, place):
    build(tmp_path)
    path = tmp_path / "metrics/lanes/baseline.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(UserError) as error:
        read_scores(path)
    text = str(error.value)
    assert place in text and path.as_posix() in text and "`dvc repro evaluate@baseline`" in text
    assert "\n" not in text


def test_a_missing_file_is_one_message(tmp_path):
    for kind in (Derived, Provenance):
        with pytest.raises(UserError, match="no such file"):
            kind.read(tmp_path / "x.json")


def test_a_manifest_reads_as_written_and_a_damaged_row_is_named(tmp_path):
    box = Box(1, (0.5, 1.0, 2.0, 3.0))
    known = {"path": "images/a.png", "mask": None, "sha256": "0" * 64, "phash": "0" * 16}
    known |= {"width": 4, "height": 3, "group": "a", "split": "train", "source": "a"}
    records = [Record(id=name, boxes=(box,), counts={"x": 1}, **known) for name in ("a", "b")]
    path = tmp_path / "manifest.jsonl"
    write_records(path, reversed(records))
    assert list(read_records(path)) == records
    path.write_text(path.read_text().replace('"id":"b"', '"id":2'))
    with pytest.raises(UserError, match=r"line 2: damaged: id: .*`dvc repro collect`"):
        list(read_records(path))


def test_the_page_of_formats_is_that_of_the_models():
    path = ROOT / "docs" / "formats.md"
    text = path.read_text(encoding="utf-8")
    assert fill(path, text, {}) == text
    for name in FORMATS:
        assert f"<!-- retrace:format {name} begin -->\n\n{page(name)}\n" in text
