"""The stage as a user meets it: a manifest in, lists and a summary out, one clear message when it cannot be done."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from retrace.config.load import parse
from retrace.data.audit import box_sizes, find_leaks, images_per_split, split_counts, unreliable_classes
from retrace.data.hashing import inspect
from retrace.data.manifest import read_manifest
from retrace.data.splits import LISTS, read_list
from retrace.documents.manifest import Box, Record, write_records
from retrace.documents.splits import ClassCount
from retrace.errors import UserError
from retrace.files import read_json, sha256_of
from stages.rebalance import rebalance
from tests.support.projects import ROOT, tiny_params, write_params

CLASSES = ("Background", "White Solid", "White Dashed")


def image(image_id, split, counts=None, phash=None, group=None, sha256=None, boxes=()):
    """A record whose perceptual hash is far from all others unless one is given."""
    far = sha256_of_text(image_id)
    digest = sha256 or far
    labeled = split != "unlabeled"
    counts = counts if counts is not None else {"Background": 900}
    return Record(
        id=image_id,
        path=f"images/{image_id}.png",
        mask=f"masks/{image_id}.png" if labeled else None,
        sha256=digest,
        phash=phash or far[:16],
        width=64,
        height=64,
        group=group or image_id,
        split=split,
        source=f"images/{image_id}.png",
        counts=counts if labeled else {},
        boxes=boxes,
    )


def sha256_of_text(text):
    return hashlib.sha256(text.encode()).hexdigest()


def near(phash, *bits):
    return f"{int(phash, 16) ^ sum(1 << bit for bit in bits):016x}"


def setup(tmp_path, records, task="segmentation", **options):
    """Write the manifest and return what `rebalance` takes."""
    write_records(tmp_path / "raw" / "manifest.jsonl", records)
    defaults = {"min_val_instances": 0, "min_test_instances": 0, "min_pixels": 50, "classes": None}
    values = tiny_params("lanes", {"rebalance": {**defaults, "keep_groups": True, "duplicate_distance": 3, **options}})
    return parse(values).model_copy(update={"task": task}), tmp_path / "raw", tmp_path / "splits"


def plain(count, split):
    return [image(f"{split}{index:02}", split) for index in range(count)]


def lists(folder):
    return {name: read_list(folder, name) for name in LISTS}


def test_rare_class_reaches_its_minimum_and_every_move_says_why(tmp_path):
    dashed = {"Background": 900, "White Dashed": 50}
    records = [*plain(10, "train"), *plain(4, "val"), *plain(2, "test")]
    records += [image(f"dashed{i}", "train", dashed) for i in range(6)] + [image("rare", "val", dashed)]
    records += [image("faint", "train", {"Background": 900, "White Dashed": 49})]
    stage = setup(tmp_path, records, min_val_instances=3, classes=["White Dashed"])
    summary = rebalance(*stage).content()
    found = lists(tmp_path / "splits")
    moved = [move["id"] for move in summary["moves"]]
    assert len(moved) == 2
    assert all(image_id.startswith("dashed") for image_id in moved)
    assert {(m["from"], m["to"]) for m in summary["moves"]} == {("train", "val")}
    assert summary["moves"][0]["reason"] == "val needs 3 instances of 'White Dashed' and had 1"
    assert found["val"] == sorted([*found["val_as_given"], *moved])
    assert found["train"] == sorted(set(found["train_as_given"]) - set(moved))
    assert found["test"] == found["test_as_given"] == ["test00", "test01"]
    before, after = (summary["counts"][when]["val"]["classes"]["White Dashed"] for when in ("before", "after"))
    assert before == {"instances": 1, "images": 1, "pixels": 50}
    assert after == {"instances": 3, "images": 3, "pixels": 150}
    train = summary["counts"]["after"]["train"]
    assert train["classes"]["White Dashed"] == {"instances": 4, "images": 5, "pixels": 249}
    assert summary["minimum"] == {"val": 3, "test": 0}
    assert read_json(tmp_path / "splits" / "summary.json") == summary


def test_detection_counts_objects_and_takes_the_images_rich_in_them(tmp_path):
    records = [*plain(3, "train"), *plain(2, "val")]
    records += [image(f"one{i}", "train", {"White Dashed": 1}) for i in range(8)]
    records += [image(f"six{i}", "train", {"White Dashed": 6}) for i in range(4)] + [
        image("v", "val", {"White Dashed": 3})
    ]
    summary = rebalance(
        *setup(tmp_path, records, "detection", min_val_instances=18, classes=["White Dashed"])
    ).content()
    assert len(summary["moves"]) == 3
    after = summary["counts"]["after"]["val"]["classes"]["White Dashed"]
    assert after == {"instances": 21, "images": 4, "pixels": None}


def test_nothing_to_do_moves_nothing(tmp_path):
    summary = rebalance(*setup(tmp_path, [*plain(4, "train"), *plain(2, "val")], min_val_instances=0)).content()
    found = lists(tmp_path / "splits")
    assert summary["moves"] == summary["leaks"] == summary["left_out"] == []
    assert found["test"] == found["unlabeled"] == []
    assert all(found[name] == found[f"{name}_as_given"] for name in ("train", "val", "test"))


def test_leaks_are_reported_and_closed_with_the_fewest_moves(tmp_path):
    base = "00ff00ff00ff00ff"
    records = [*plain(5, "train"), *plain(3, "val"), *plain(3, "test")]
    records += [image(f"copy_{split[0]}", split, sha256="c" * 64, phash="f0" * 8) for split in ("train", "val")]
    # a chain: a and c are 4 bits apart, b stands between them
    records += [image("near_a", "train", phash=base), image("near_b", "train", phash=near(base, 1, 2))]
    records += [image("near_c", "test", phash=near(base, 1, 2, 3, 4))]
    records += [image("drive_1", "train", group="drive"), image("drive_2", "val", group="drive")]
    summary = rebalance(*setup(tmp_path, records)).content()
    assert summary["leaks"] == [
        {"kind": "exact", "ids": ["copy_t", "copy_v"], "splits": ["train", "val"], "distance": 0},
        {"kind": "near", "ids": ["near_a", "near_b", "near_c"], "splits": ["train", "test"], "distance": 2},
        {"kind": "group", "ids": ["drive_1", "drive_2"], "splits": ["train", "val"], "distance": None},
    ]
    assert summary["moves"] == [
        {"id": "copy_t", "from": "train", "to": "val", "reason": "exact copy of copy_v, which is in val"},
        {"id": "drive_1", "from": "train", "to": "val", "reason": "same group 'drive' as drive_2, which is in val"},
        {
            "id": "near_c",
            "from": "test",
            "to": "train",
            "reason": "near-duplicate (2 bits) of near_b, which is in train",
        },
    ]
    assert summary["duplicates"] == {"exact": 1, "near": 2, "groups": 1}


def test_groups_are_left_alone_on_request(tmp_path):
    records = [*plain(5, "train"), *plain(3, "val"), image("a", "train", group="g"), image("b", "val", group="g")]
    summary = rebalance(*setup(tmp_path, records, keep_groups=False)).content()
    assert summary["moves"] == []
    assert [leak["kind"] for leak in summary["leaks"]] == ["group"]


def test_companions_move_with_the_image_that_is_needed(tmp_path):
    records = [*plain(5, "train"), *plain(3, "val")]
    records += [image("s1", "train", {"White Solid": 400}, group="drive"), image("s2", "train", group="drive")]
    records += [image("s0", "train", {"White Solid": 400}, group="other"), image("s3", "train", group="other")]
    records += [image("s4", "train", group="other")]
    summary = rebalance(*setup(tmp_path, records, min_val_instances=1, classes=["White Solid"])).content()
    assert {move["id"]: move["reason"] for move in summary["moves"]} == {
        "s1": "val needs 1 instances of 'White Solid' and had 0",
        "s2": "same group 'drive' as s1, which val needs",
    }


def test_unlabeled_images_that_show_held_out_ones_are_left_out(tmp_path):
    base = "0123456789abcdef"
    records = [*plain(5, "train"), image("v", "val", phash=base), image("t", "train", phash="f" * 16)]
    records += [image("u_near", "unlabeled", phash=near(base, 0, 9, 30)), image("u_far", "unlabeled")]
    records += [
        image("u_train", "unlabeled", phash="f" * 16),
        image("u_beyond", "unlabeled", phash=near(base, 1, 2, 3, 4)),
    ]
    summary = rebalance(*setup(tmp_path, records)).content()
    assert [row["id"] for row in summary["left_out"]] == ["u_near"]
    assert "(3 bits) of v" in summary["left_out"][0]["reason"]
    assert read_list(tmp_path / "splits", "unlabeled") == ["u_beyond", "u_far", "u_train"]
    assert summary["leaks"] == [{"kind": "near", "ids": ["u_near", "v"], "splits": ["val", "unlabeled"], "distance": 3}]


def test_unlabeled_images_follow_the_final_split(tmp_path):
    solid = {"White Solid": 500}
    twin = "5555aaaa5555aaaa"
    records = [*plain(5, "train"), *plain(2, "val"), image("a", "train", solid, phash=twin, group="g")]
    records += [image("b", "train", solid, group="h"), image("h2", "train", group="h")]
    records += [image("u", "unlabeled", phash=twin)]
    summary = rebalance(*setup(tmp_path, records, min_val_instances=1, classes=["White Solid"])).content()
    assert [move["id"] for move in summary["moves"]] == ["a"]
    assert summary["leaks"] == []
    assert [row["id"] for row in summary["left_out"]] == ["u"]


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        (
            [image("s", "train", {"White Solid": 500})],
            {"min_val_instances": 1},
            ["White Solid", "0, 1 short", "train must keep one"],
        ),
        (
            [image("s", "train", {"White Solid": 500})],
            {"min_val_instances": 3},
            ["White Solid", "3 instances", "hold too few"],
        ),
        (
            [image(f"s{i}", "train", {"White Solid": 500}, group="drive") for i in range(6)],
            {"min_val_instances": 4},
            ["White Solid", "get 0, 4 short", "at most 0", "groups", "keep_groups: false"],
        ),
        (
            [image(f"s{i}", "train", {"White Solid": 500}) for i in range(5)],
            {"min_val_instances": 3, "min_test_instances": 3},
            ["val needs 3", "test needs 3", "can get 2, 1 short", "not together with the other minimums"],
        ),
    ],
)
def test_what_cannot_be_met_is_named_with_how_much_is_missing(tmp_path, records, options, said):
    records = [*plain(5, "train"), *plain(3, "val"), *plain(3, "test"), *records]
    with pytest.raises(UserError) as error:
        rebalance(*setup(tmp_path, records, classes=["White Solid"], **options))
    for words in said:
        assert words in str(error.value)
    assert not (tmp_path / "splits").exists()


def test_missing_splits(tmp_path):
    with pytest.raises(UserError, match="no image is in train"):
        rebalance(*setup(tmp_path, plain(3, "val")))
    with pytest.raises(UserError, match="no image is in val.*min_val_instances"):
        rebalance(*setup(tmp_path, plain(3, "train")))
    with pytest.raises(UserError, match=r"other00\.png: no split given \(2 images"):
        rebalance(*setup(tmp_path, [*plain(3, "train"), image("other00", None), image("other01", None)]))
    summary = rebalance(
        *setup(tmp_path, plain(6, "train"), min_val_instances=2, min_test_instances=1, classes=["Background"])
    ).content()
    assert [len(lists(tmp_path / "splits")[name]) for name in ("train", "val", "test")] == [3, 2, 1]
    assert len(summary["moves"]) == 3


def test_same_input_same_bytes_and_another_seed_another_choice(tmp_path):
    records = [*plain(60, "train"), *plain(2, "val")]
    contents = []
    for run, seed in enumerate((17, 17, 18)):
        params, raw, _ = setup(tmp_path, records, min_val_instances=12, classes=["Background"])
        rebalance(params.model_copy(update={"seed": seed}), raw, tmp_path / str(run))
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / str(run)).iterdir())})
    assert contents[0] == contents[1] != contents[2]
    assert set(contents[0]) == {"summary.json", *(f"{name}.txt" for name in LISTS)}


def stage_command(project):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.rebalance"]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


def test_the_entry_prints_a_table_or_one_error(tmp_path):
    solid = [image(f"s{i}", "train", {"Background": 500, "White Solid": 500}) for i in range(4)]
    records = [*plain(5, "train"), *plain(3, "val"), *plain(2, "test"), *solid]
    write_records(tmp_path / "data/lanes/raw" / "manifest.jsonl", records)
    options = {"min_val_instances": 2, "min_test_instances": 0, "classes": ["White Solid"]}
    write_params(tmp_path, tiny_params("lanes", {"rebalance": options}))
    done = stage_command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "4 -> 2" in done.stdout
    assert "2 images moved, 0 leaks" in done.stdout
    assert str(tmp_path) not in done.stdout
    before = sorted(path.read_bytes() for path in (tmp_path / "data/lanes/splits").iterdir())
    write_params(tmp_path, tiny_params("lanes", {"rebalance": {**options, "min_val_instances": 9}}))
    failed = stage_command(tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: rebalance: the minimums cannot be met\n  collect more images")
    assert "class 'White Solid': val needs 9" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert sorted(path.read_bytes() for path in (tmp_path / "data/lanes/splits").iterdir()) == before


def test_audit_counts_boxes_and_unreliable_classes():
    def box(label, width, height, crowd=False):
        return Box(label, (0.0, 0.0, width, height), crowd)

    records = [
        image("a", "train", {"A": 2, "B": 1}, boxes=(box(0, 8.0, 8.0), box(0, 31.9, 31.9), box(1, 600.0, 600.0))),
        image("b", "val", {"A": 1}, boxes=(box(0, 32.0, 32.0), box(0, 5.0, 5.0, crowd=True))),
        image("c", "unlabeled"),
    ]
    assert images_per_split(records) == {"train": 1, "val": 1, "test": 0, "unlabeled": 1}
    assert box_sizes(records, ["A", "B"]) == {"A": [0, 1, 1, 1, *[0] * 7], "B": [*[0] * 10, 1]}
    by_id = {record.id: record for record in records}
    counts = split_counts(by_id, {"train": ["a"], "val": ["b"], "test": []}, ["A", "B"], None)
    assert counts["train"].classes["A"] == ClassCount(instances=2, images=1, pixels=None)
    assert unreliable_classes(counts, 2) == {"train": ["B"], "val": ["A", "B"], "test": ["A", "B"]}


def test_real_leaks_of_a_published_export_are_found(real_data):
    root: Path = real_data("plates_coco")
    records, names = [], {}
    for folder, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        for path in sorted((root / folder).glob("*.jpg")):
            content = path.read_bytes()
            records.append(image(f"{split}-{path.name}", split, sha256=sha256_of(path), phash=inspect(content).phash))
            names.setdefault(content, set()).add(split)
    leaks = find_leaks(records, 3)
    exact = sorted(leak.splits for leak in leaks if leak.kind == "exact")
    order = ["train", "val", "test"]
    assert exact == sorted(sorted(splits, key=order.index) for splits in names.values() if len(splits) > 1)
    assert len(exact) == 13
    assert any("youtube-44" in image_id for leak in leaks if leak.kind == "near" for image_id in leak.ids)


def test_manifest_round_trip_feeds_the_stage(tmp_path):
    records = [image("a", "train", {"White Solid": 3}, boxes=(Box(1, (0.5, 1.0, 2.0, 3.0)),)), image("b", "val")]
    setup(tmp_path, records)
    assert list(read_manifest(tmp_path / "raw").records.values()) == records


def test_lists_in_which_nothing_can_be_scored_are_refused_before_training(tmp_path):
    empty = [image(f"e{i}", "val", {}) for i in range(6)]
    params, raw, splits = setup(tmp_path, [*plain(8, "train"), *empty, *plain(6, "test")])
    with pytest.raises(UserError, match="none of the 6 images in val") as refusal:
        rebalance(params, raw, splits)
    assert "White Solid" in str(refusal.value) and not splits.exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_too_few_independent_images_are_refused_unless_asked_for(tmp_path, split):
    """Eight images of one sequence are one unit, and with a copy of the only other one there are two."""
    drive = [image(f"d{i}", split, {"Background": 900}, group="drive") for i in range(8)]
    other = "test" if split == "val" else "val"
    records = [*plain(8, "train"), *plain(6, other), *drive, image("x0", split, {"Background": 900})]
    params, raw, splits = setup(tmp_path, records, min_units=5)
    with pytest.raises(UserError, match=f"{split} has 9 images, but only 2"):
        rebalance(params, raw, splits)
    assert not splits.exists()
    params, raw, splits = setup(tmp_path, records, min_units=2)
    rebalance(params, raw, splits)
    assert splits.exists()


def stairs(count, copies):
    """`copies` exports of each of `count` photographs, as Roboflow names them."""
    solid = {"Background": 500, "White Solid": 500}
    found = []
    for number in range(count):
        for copy in range(copies):
            record = image(f"s{number}_{copy}", "train", solid)
            found.append(replace(record, source=f"train/s{number}_jpg.rf.{sha256_of_text(record.id)[:32]}.jpg"))
    return found


def test_copies_made_by_augmentation_stay_in_train_and_a_minimum_counts_photographs(tmp_path):
    solid = {"Background": 500, "White Solid": 500}
    single = [image(f"single{i}", "train", solid) for i in range(4)]
    records = [*plain(5, "train"), *plain(5, "val"), *stairs(4, 3), *single]
    options = {"min_val_instances": 3, "classes": ["White Solid"]}
    summary = rebalance(*setup(tmp_path / "a", records, spare_train=True, **options))
    moved = [move.id for move in summary.moves]
    assert len(moved) == 3 and set(moved) <= {record.id for record in single}
    with pytest.raises(UserError, match="val needs 5 groups") as error:
        rebalance(*setup(tmp_path / "b", records, spare_train=True, **{**options, "min_val_instances": 5}))
    assert "spare_train: false" in str(error.value).splitlines()[1]
    assert len(rebalance(*setup(tmp_path / "c", records, **{**options, "min_val_instances": 5})).moves) == 5


def test_a_class_that_loses_more_than_a_third_of_its_groups_in_train_is_a_warning(tmp_path):
    solid = {"Background": 500, "White Solid": 500}
    records = [*plain(9, "train"), *plain(5, "val"), *(image(f"s{i}", "train", solid) for i in range(6))]
    for need, lost in ((2, []), (3, [("White Solid", 6, 3)])):
        summary = rebalance(*setup(tmp_path / str(need), records, min_val_instances=need, classes=["White Solid"]))
        assert [(loss.name, loss.before, loss.after) for loss in summary.losses] == lost
        assert ("losses" in read_json(tmp_path / str(need) / "splits" / "summary.json")) == bool(lost)


def test_train_keeps_its_minimum_or_says_why_not(tmp_path):
    solid = {"Background": 500, "White Solid": 500}
    records = [*plain(9, "train"), *plain(5, "val"), *(image(f"s{i}", "train", solid) for i in range(6))]
    options = {"classes": ["White Solid"], "min_val_instances": 3}
    assert len(rebalance(*setup(tmp_path / "a", records, min_train_instances=3, **options)).moves) == 3
    with pytest.raises(UserError, match="'White Solid'"):
        rebalance(*setup(tmp_path / "b", records, min_train_instances=4, **options))


def test_infeasible_minimums_say_the_remedy_first_and_at_most_ten_lines(tmp_path):
    classes = [f"class{i:02}" for i in range(20)]
    records = [image(f"{split}{i}", split, dict.fromkeys(classes, 100)) for split in ("train", "val") for i in range(3)]
    params, raw, splits = setup(tmp_path, records, min_val_instances=9)
    with pytest.raises(UserError) as error:
        rebalance(params.model_copy(update={"classes": tuple(classes)}), raw, splits)
    lines = str(error.value).splitlines()
    assert "collect more images" in lines[1]
    assert len(lines) == 2 + 10
    assert "11 more" in lines[-1]


def test_cut_clips_and_copies_are_suspected_though_no_group_rule_calls_them_leaks(tmp_path):
    named = [replace(image(f"f{i}", split), source=f"{split}/CAM1_MOV-{i}_jpg.rf.{i:032x}.jpg")
             for i, split in enumerate(["train", "train", "val"])]  # fmt: skip
    pair = [replace(image(f"p{split}", split), source=f"{split}/pic_jpg.rf.{number:032x}.jpg")
            for number, split in enumerate(["train", "val"])]  # fmt: skip
    summary = rebalance(*setup(tmp_path / "a", [*plain(5, "train"), *plain(5, "val"), *named, *pair]))
    assert summary.leaks == []
    found = {(one.kind, one.name): (one.ids, one.splits) for one in summary.suspected}
    assert found[("clip", "CAM1_MOV")] == (["f0", "f1", "f2"], ["train", "val"])
    assert found[("copies", "pic")] == (["ptrain", "pval"], ["train", "val"])
    together = [replace(record, group="g") for record in named]
    kept = rebalance(*setup(tmp_path / "b", [*plain(5, "train"), *plain(5, "val"), *together]))
    assert kept.suspected == []
