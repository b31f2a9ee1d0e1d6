"""Unlabelled folders, globs and videos: which files and frames are taken, and what is said about the others."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from retrace.data.manifest import read_manifest
from retrace.files import read_json
from stages import collect as stage

RAW = Path("data/lanes/raw")


@pytest.fixture
def labelled(dataset):
    for number in range(3):
        dataset.pair(f"a_{number}")
    return dataset


def video(path, frames=10, size=(64, 48)):
    """An mp4 whose frame i is grey of value 20 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 20 * number, np.uint8))
    writer.release()


def collected(dataset, *unlabeled, **data):
    """The unlabelled records, in id order."""
    dataset.write_params(unlabeled=list(unlabeled), **data)
    stage.main()
    return [r for r in read_manifest(RAW).records.values() if r.split == "unlabeled"]


def test_every_kth_image_of_folders_and_globs(labelled):
    for number in range(7):
        labelled.image(f"pool/deep/{number}.jpg")
        labelled.image(f"more/cam{number % 2}/{number}.png")
    records = collected(labelled, {"path": "pool", "every": 3}, {"path": "more/cam1/*.png"}, {"path": "more/**/0.png"})
    assert sorted(record.source for record in records) == [
        "more/cam0/0.png", "more/cam1/1.png", "more/cam1/3.png", "more/cam1/5.png",
        "pool/deep/0.jpg", "pool/deep/3.jpg", "pool/deep/6.jpg",
    ]  # fmt: skip
    assert all(record.mask is None and not record.counts for record in records)
    header = read_json(RAW / "dataset.json")["sources"]
    assert {"name": "pool", "split": "unlabeled", "images": 3, "labelled": 0} in header


def test_an_optional_one_may_be_missing_and_that_is_said(labelled, capsys):
    labelled.image("pool/0.jpg")
    gone = [{"path": path, "optional": True} for path in ("drive.mp4", "clips/*.mp4", "pool/*.mp4")]
    records = collected(labelled, {"path": "pool", "optional": True}, *gone)
    assert [record.source for record in records] == ["pool/0.jpg"]
    with open(RAW / "problems.csv", encoding="utf-8") as stream:
        rows = [(row["kind"], row["path"], row["action"]) for row in csv.DictReader(stream)]
    assert rows == [("optional_missing", path, "kept") for path in ("clips", "drive.mp4", "pool/*.mp4")]
    with pytest.raises(SystemExit):
        collected(labelled, {"path": "drive.mp4"})
    assert "missing: drive.mp4" in capsys.readouterr().err


def test_every_kth_frame_of_a_video_is_the_right_frame(labelled):
    video(labelled.root / "drive.mp4")
    records = collected(labelled, {"path": "drive.mp4", "every": 4})
    assert [record.source for record in records] == [f"drive.mp4/{n:06d}.jpg" for n in (0, 4, 8)]
    assert {record.group for record in records} == {"drive.mp4"}
    for record, number in zip(records, (0, 4, 8), strict=True):
        assert abs(cv2.imread(str(RAW / record.path)).mean() - 20 * number) < 6
    first = (RAW / records[1].path).read_bytes()
    collected(labelled, {"path": "drive.mp4", "every": 4})
    assert (RAW / records[1].path).read_bytes() == first
    assert not [path for path in Path(".retrace").rglob("*.jpg")]


def test_absolute_paths_do_not_reach_the_manifest(labelled, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("secret") / "drives"
    video(elsewhere / "v.mp4")
    cv2.imwrite(str(elsewhere / "one.png"), np.zeros((8, 8, 3), np.uint8))
    records = collected(labelled, {"path": str(elsewhere), "every": 9})
    assert [record.source for record in records] == [
        "drives/one.png",
        "drives/v.mp4/000000.jpg",
        "drives/v.mp4/000009.jpg",
    ]
    assert "secret" not in "".join(path.read_text() for path in RAW.glob("*.*"))


def test_an_image_named_twice_or_labelled_is_taken_once_and_said(labelled):
    labelled.image("pool/x.jpg")
    records = collected(labelled, {"path": "pool"}, {"path": "pool/*.jpg"}, {"path": "images"})
    assert [record.source for record in records] == ["pool/x.jpg"]
    rows = list(csv.DictReader((RAW / "problems.csv").open()))
    assert [(row["kind"], row["action"]) for row in rows] == [("already_labelled", "kept")] * 3 + [
        ("listed_twice", "kept")
    ]
    assert read_json(RAW / "dataset.json")["quarantined"] == 0


def bad_files(dataset):
    video(dataset.root / "pool/whole.mp4")
    whole = (dataset.root / "pool/whole.mp4").read_bytes()
    (dataset.root / "pool/cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index, at the end, is gone
    (dataset.root / "pool/text.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (dataset.root / "pool/empty.avi").write_bytes(b"")
    (dataset.root / "pool/notes.md").write_text("x")
    (dataset.root / "pool/broken.jpg").write_bytes(b"\xff\xd8\xff")
    dataset.image("pool/good.jpg")


def test_unreadable_videos_and_files_are_problems(labelled, capsys):
    bad_files(labelled)
    with pytest.raises(SystemExit):
        collected(labelled, {"path": "pool"})
    message = capsys.readouterr().err
    with open("logs/lanes/problems.csv", encoding="utf-8") as stream:
        rows = sorted((row["kind"], row["path"]) for row in csv.DictReader(stream))
    assert [path for kind, path in rows if kind == "unreadable_video"] == [
        "pool/cut.mp4",
        "pool/empty.avi",
        "pool/text.mp4",
    ]
    assert ("not_an_image", "pool/notes.md") in rows
    assert "pool/broken.jpg" in [path for _, path in rows]
    assert len(rows) == 5
    assert "Traceback" not in message
    records = collected(labelled, {"path": "pool"}, on_error="skip")
    frames = [f"pool/whole.mp4/{number:06d}.jpg" for number in range(10)]
    assert [r.source for r in records] == ["pool/good.jpg", *frames]


@pytest.mark.parametrize("path", ["nowhere", "nowhere.mp4", "pool/*.jpg", "../up"])
def test_a_source_that_is_not_there_stops(labelled, capsys, path):
    with pytest.raises(SystemExit):
        collected(labelled, {"path": path}, on_error="skip")
    assert path.split("/")[0] in capsys.readouterr().err
    assert not RAW.exists()
