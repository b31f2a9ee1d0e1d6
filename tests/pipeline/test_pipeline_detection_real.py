"""Real images and boxes through all six stages: the worked examples for detection, with one short epoch."""

import csv
import json
import shutil
from collections import Counter

import pytest
from ruamel.yaml import YAML

from retrace.config import merge
from retrace.data.hashing import hash_distance
from tests.support.projects import ROOT, make_project, run, write_params

pytestmark = pytest.mark.slow

QUICK = {"evaluate": {"bootstrap": 100, "samples": 1, "batch_size": 2}, "runtime": {"threads": 1}}
YOLO = {"phase_defaults": {"ultralytics": {"hyperparameters": {"epochs": 1, "imgsz": 64, "batch": 16}}}}
FASTER_RCNN = {
    "phase_defaults": {
        "fabric": {
            "epochs": 1,
            "batch_size": 8,
            "input_size": [96, 96],
            "resize_range": [64, 96],
            "model": {"min_size": 96, "max_size": 96, "box_batch_size_per_image": 16, "rpn_post_nms_top_n_test": 20},
        }
    }
}
ALL_THREE = {
    "classes": ["car", "motorbike", "plate"],
    "data": {"source": {"classes": {"car": ["Mobil"], "motorbike": ["Motor"], "plate": ["Plat"]}}},
}
KEPT = {"data": {"source": {"empty_images": "keep"}}}


def reproduced(name, project, images, changes):
    """A project with the example's parameters, shortened, and its data where the example expects it, run to the end."""
    values = YAML(typ="safe", pure=True).load((ROOT / "docs" / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))
    make_project(project)
    write_params(project, merge(merge(values, QUICK), changes))
    shutil.copytree(images, project / values["data"]["root"])
    run(project, "dvc", "repro", check=True)
    return project


def read(project, path):
    return json.loads((project / path).read_text(encoding="utf-8"))


def records(project, study):
    lines = (project / f"data/{study}/raw/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def lists(project, study, suffix=""):
    folder = project / f"data/{study}/splits"
    return {split: (folder / f"{split}{suffix}.txt").read_text().split() for split in ("train", "val", "test")}


def check_report(project, study, phase):
    report = (project / f"reports/{study}/report.md").read_text(encoding="utf-8").replace("\\", "")  # its escapes
    assert (project / f"reports/{study}/report.html").stat().st_size > 10_000
    scores = read(project, f"metrics/{study}/{phase}.json")["splits"]
    used, given = lists(project, study), lists(project, study, "_as_given")
    expected = {"val": len(used["val"]), "test": len(used["test"]), "val_as_given": len(given["val"])}
    assert {split: row["images"] for split, row in scores.items()} == expected
    assert all(0 <= row["AP50"]["value"] <= 1 for row in scores.values())
    return report


def test_aquarium(tmp_path, real_data):
    project = reproduced("aquarium", tmp_path / "p", real_data("aquarium_yolo"), YOLO)
    report = check_report(project, "aquarium", "yolo")
    # two boxes without a size: their images are set aside, listed and spoken of
    problems = list(csv.DictReader((project / "data/aquarium/raw/problems.csv").open()))
    assert [(row["kind"], row["action"], row["path"].split("_jpeg")[0]) for row in problems] == [
        ("empty_box", "left out", "test/images/IMG_2423"),
        ("empty_box", "left out", "test/images/IMG_2570"),
    ]
    assert read(project, "data/aquarium/raw/dataset.json")["quarantined"] == 2
    assert "2 files were set aside" in report
    # starfish gets its minimum, in the lists themselves
    rows = records(project, "aquarium")
    starfish = {
        s: sum(rows[image_id]["counts"].get("starfish", 0) for image_id in ids)
        for s, ids in lists(project, "aquarium").items()
    }
    given = {
        s: sum(rows[image_id]["counts"].get("starfish", 0) for image_id in ids)
        for s, ids in lists(project, "aquarium", "_as_given").items()
    }
    assert given == {"train": 38, "val": 15, "test": 11}
    assert starfish["val"] >= 20
    assert starfish["test"] >= 15
    assert sum(starfish.values()) == 64
    # frames of a clip, which the export dealt out over the splits, are brought together
    summary = read(project, "data/aquarium/splits/summary.json")
    assert cut_clips(rows, lists(project, "aquarium")) == []
    cut = cut_clips(rows, lists(project, "aquarium", "_as_given"))
    assert len(cut) >= 10
    assert [leak["kind"] for leak in summary["leaks"]].count("group") == len(cut)
    assert "suspected" not in summary


def cut_clips(rows, ids_of):
    """Clips (`IMG_8497_MOV-0` to `-5`) with frames in several lists."""
    splits = {}
    for split, ids in ids_of.items():
        for image_id in ids:
            if "_MOV-" in rows[image_id]["source"]:
                clip = rows[image_id]["source"].rpartition("/")[2].split("_MOV-")[0]
                splits.setdefault(clip, set()).add(split)
    return sorted(clip for clip, found in splits.items() if len(found) > 1)


def exact_leaks(rows):
    """Sets of byte-identical images in more than one given split."""
    copies = {}
    for row in rows.values():
        copies.setdefault(row["sha256"], []).append(row)
    return [sorted(row["id"] for row in same) for same in copies.values() if len({row["split"] for row in same}) > 1]


@pytest.mark.parametrize("changes", [KEPT, merge(ALL_THREE, KEPT)], ids=["plates", "all three"])
def test_plates_coco(tmp_path, real_data, changes):
    project = reproduced("plates_coco", tmp_path / "p", real_data("plates_coco"), merge(changes, FASTER_RCNN))
    report = check_report(project, "plates_coco", "mobilenet")
    rows = records(project, "plates_coco")
    assert len(rows) == 205 + 89 + 59
    totals = Counter()
    for row in rows.values():
        totals.update(row["counts"])
    all_three = {"plate": 153, "motorbike": 70, "car": 175}
    assert totals == (all_three if "classes" in changes else {"plate": 153})

    leaks = read(project, "data/plates_coco/splits/summary.json")["leaks"]
    found = [leak["ids"] for leak in leaks if leak["kind"] == "exact"]
    assert sorted(found) == sorted(exact_leaks(rows))
    assert len(found) == 13
    assert sum(leak["kind"] == "group" for leak in leaks) == 33
    assert all(leak["ids"][0] in report for leak in leaks)  # by name
    assert all(image_id in report for ids in found for image_id in ids)

    where = {image_id: split for split, ids in lists(project, "plates_coco").items() for image_id in ids}
    together = [leak["ids"] for leak in leaks] + [
        [a["id"], b["id"]] for a in rows.values() for b in rows.values() if hash_distance(a["phash"], b["phash"]) <= 3
    ]
    assert all(
        len({where[image_id] for image_id in ids}) == 1 for ids in together
    )  # no leak in the lists that are used


def test_plates_alone_without_the_images_that_have_none(tmp_path, real_data):
    project = reproduced("plates_coco", tmp_path / "p", real_data("plates_coco"), FASTER_RCNN)
    check_report(project, "plates_coco", "mobilenet")
    rows = records(project, "plates_coco")
    assert len(rows) == 152  # of 353; 153 plates
    assert all(row["counts"]["plate"] for row in rows.values())
