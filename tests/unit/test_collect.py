"""`collect` from source files to data/<study>/raw: what is kept, converted and refused, and how it is said."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrace.data.formats import convert
from retrace.data.manifest import read_manifest
from retrace.files import read_json
from stages import collect as stage
from tests.support.projects import ROOT

RAW = Path("data/lanes/raw")


def collected(dataset, **data):
    """Run the stage's entry; the manifest it wrote."""
    dataset.write_params(**data)
    stage.main()
    return read_manifest(RAW)


def refused(dataset, capsys, **data):
    """Run the stage, which must stop with exit code 1 and leave no out; its message and its problems table."""
    dataset.write_params(**data)
    with pytest.raises(SystemExit) as stop:
        stage.main()
    assert stop.value.code == 1
    assert not RAW.exists()
    assert not list(Path("data").rglob("*.partial")) if Path("data").exists() else True
    table = Path("logs/lanes/problems.csv")
    rows = list(csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []
    return capsys.readouterr().err, rows


def kinds(rows):
    return sorted({(row["kind"], row["path"]) for row in rows})


@pytest.fixture
def good(dataset):
    """Five good pairs."""
    for number in range(5):
        dataset.pair(f"a_{number}")
    return dataset


def test_images_are_verbatim_and_masks_are_class_indices(good):
    good.mask("masks/a_0.png", [0, 0, 1, 255])
    manifest = collected(good)
    assert list(manifest.records) == [f"images-a_{n}" for n in range(5)]
    record = manifest.records["images-a_0"]
    original = (good.root / "images/a_0.jpg").read_bytes()
    assert manifest.image(record.id).read_bytes() == original
    assert record.sha256 == hashlib.sha256(original).hexdigest()
    assert record.mask_sha256 == hashlib.sha256(manifest.mask(record.id).read_bytes()).hexdigest()
    assert (record.width, record.height, record.source) == (20, 16, "images/a_0.jpg")
    assert record.counts == {"road": 160, "lane": 80}
    mask = Image.open(manifest.mask(record.id))
    assert mask.mode == "L"
    assert np.asarray(mask)[0, :4].tolist() == [0, 0, 1, 255]
    assert sorted(r.split for r in manifest.records.values()) == ["test", "train", "train", "train", "val"]
    assert read_json(RAW / "dataset.json")["sources"][0] == {
        "name": "images",
        "split": "test",
        "images": 1,
        "labelled": 1,
    }
    assert (RAW / "problems.csv").read_text() == "kind,path,detail,action\n"


def test_the_image_is_a_copy_and_not_a_link(good):
    manifest = collected(good)
    copy = manifest.image("images-a_1")
    assert not copy.is_symlink()
    assert copy.stat().st_nlink == 1


def test_two_runs_write_the_same_bytes_whatever_the_number_of_processes(good, monkeypatch):
    monkeypatch.setattr(convert, "WORTH_A_POOL", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    collected(good)
    first = {path.name: path.read_bytes() for path in sorted(RAW.rglob("*")) if path.is_file()}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    collected(good)
    assert {path.name: path.read_bytes() for path in sorted(RAW.rglob("*")) if path.is_file()} == first


@pytest.mark.parametrize(
    ("dtype", "raw", "suffix"),
    [
        (np.uint8, (7, 200), "png"),
        (np.uint16, (7100, 10000), "png"),
        (np.uint16, (100, 65535), "tif"),
        (np.int32, (1, 80000), "tif"),
    ],
)
def test_ids_of_any_width_are_mapped(good, dtype, raw, suffix):
    for number in range(5):
        (good.root / f"masks/a_{number}.png").unlink()
        good.mask(f"masks/a_{number}.{suffix}", raw, dtype=dtype)
    values = {"road": [raw[0]], "lane": [raw[1]]}
    manifest = collected(good, source={"values": values, "mask_name": f"{{stem}}.{suffix}"})
    assert np.asarray(Image.open(manifest.mask("images-a_0")))[0, :4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_masks_of_few_bits_keep_their_stored_values(good, bits):
    import cv2

    values = np.tile(np.arange(20, dtype=np.uint8) % 2, (16, 1))
    for number in range(5):
        path = good.root / f"masks/a_{number}.png"
        if bits == 1:
            cv2.imwrite(str(path), values * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
        else:
            path.write_bytes(_grey_png(values, bits))
    manifest = collected(good)
    assert np.asarray(Image.open(manifest.mask("images-a_0")))[0, :4].tolist() == [0, 1, 0, 1]


def _grey_png(values, bits):
    """A grey PNG of 2 or 4 bits per sample, by the book (Pillow and OpenCV do not write them)."""
    import struct
    import zlib

    height, width = values.shape
    samples = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(height, width * bits)
    rows = np.packbits(samples, axis=1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(body))]
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + written


def test_colors_from_rgb_and_from_palettes(good):
    rgb = np.zeros((16, 20, 3), np.uint8)
    rgb[:, ::2] = (128, 64, 128)
    picture = Image.fromarray(rgb)
    for number in range(5):
        good.save(f"masks/a_{number}.png", picture if number else picture.convert("P", palette=Image.Palette.ADAPTIVE))
    manifest = collected(good, source={"values": {"road": ["#804080"], "lane": ["#000000"]}, "ignore": []})
    for number in range(5):
        assert np.asarray(Image.open(manifest.mask(f"images-a_{number}")))[0, :4].tolist() == [0, 1, 0, 1]


def test_every_accepted_kind_of_picture(dataset):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    pictures = {
        "grey.png": noise.convert("L"),
        "palette.png": noise.convert("P"),
        "one_bit.png": noise.convert("1"),
        "opaque.png": noise.convert("RGBA"),
        "plain.bmp": noise,
        "plain.tif": noise,
        "plain.webp": noise,
        "UPPER.JPG": noise,
    }
    for name, picture in pictures.items():
        dataset.save(f"images/{name}", picture)
        dataset.mask(f"masks/{Path(name).stem + '_' + Path(name).suffix[1:]}.png")
    for name in pictures:  # one mask each, although three images are called plain
        path = dataset.root / "images" / name
        path.rename(path.with_name(f"{path.stem}_{path.suffix[1:]}{path.suffix}"))
    manifest = collected(dataset)
    assert len(manifest.records) == len(pictures)
    assert manifest.records["images-UPPER_JPG"].path == "images/images-UPPER_JPG.jpg"


def _jpeg(picture, **options):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def _bad_inputs(dataset):
    """One of every kind of bad file beside good ones: {path below the root: kind of problem}."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = noise.convert("RGBA")
    transparent.putpixel((3, 3), (1, 2, 3, 0))
    contents = {
        "zero.jpg": (b"", "empty_file"),
        "text.jpg": (b"not a picture at all", "not_an_image"),
        "cut.jpg": (_jpeg(noise.resize((200, 160)))[:-900], "truncated"),
        "turned.jpg": (_jpeg(noise, exif=exif), "exif_rotated"),
        "print.jpg": (_jpeg(noise.convert("CMYK")), "color_mode"),
    }
    expected = {}
    for name, (content, kind) in contents.items():
        dataset.mask(f"masks/{Path(name).stem}.png")
        (dataset.root / "images" / name).write_bytes(content)
        expected[f"images/{name}"] = kind
    deep = Image.fromarray(np.full((16, 20), 40000, np.uint16))
    for name, picture, kind in (("deep.png", deep, "more_than_8_bits"), ("clear.png", transparent, "transparent")):
        dataset.save(f"images/{name}", picture)
        dataset.mask(f"masks/{Path(name).stem}.png")
        expected[f"images/{name}"] = kind
    dataset.image("images/alone.jpg")
    dataset.mask("masks/widow.png")
    dataset.image("images/wide.jpg", size=(24, 16))
    dataset.mask("masks/wide.png")
    dataset.image("images/odd.jpg")
    dataset.mask("masks/odd.png", [0, 1, 0, 77])
    dataset.pair("twin")
    dataset.image("images/twin.png")
    (dataset.root / "images/readme.txt").write_text("hello")
    (dataset.root / "images/away.jpg").symlink_to("/etc/hostname")
    (dataset.root / "images/gone.jpg").symlink_to("nowhere.jpg")
    return expected | {
        "images/alone.jpg": "missing_mask",
        "masks/widow.png": "mask_without_image",
        "masks/wide.png (mask of images/wide.jpg)": "size_mismatch",
        "masks/odd.png (mask of images/odd.jpg)": "unknown_value",
        "images/twin.jpg": "same_name",
        "images/twin.png": "same_name",
        "images/readme.txt": "not_an_image",
        "images/away.jpg": "link_out",
        "images/gone.jpg": "unreadable",
    }


def test_all_problems_are_found_in_one_pass(good, capsys):
    expected = _bad_inputs(good)
    message, rows = refused(good, capsys)
    assert kinds(rows) == sorted((kind, path) for path, kind in expected.items())
    assert {row["action"] for row in rows} == {"left out"}
    assert f"{len(expected)} problems found" in message
    assert "Traceback" not in message
    for kind in set(expected.values()):
        assert f"{kind}: " in message
    odd = next(row for row in rows if row["kind"] == "unknown_value")
    assert odd["detail"].startswith("raw value 77 (80 px) not in the map; known: 0, 1, 255")


def test_skip_leaves_the_bad_ones_out_and_counts_them(good):
    expected = _bad_inputs(good)
    manifest = collected(good, on_error="skip")
    assert list(manifest.records) == [f"images-a_{n}" for n in range(5)]
    assert read_json(RAW / "dataset.json")["quarantined"] == len(expected)
    assert read_json(RAW / "dataset.json")["problems"]["same_name"] == 2
    with open(RAW / "problems.csv", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == len(expected)
    assert len(list((RAW / "images").iterdir())) == len(list((RAW / "masks").iterdir())) == 5


def test_a_problem_leaves_the_previous_out_alone(good, capsys):
    collected(good)
    (good.root / "images/a_0.jpg").write_bytes(b"")
    with pytest.raises(SystemExit):
        stage.main()
    assert len(read_manifest(RAW).records) == 5


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"images": "pictures"}, "missing_folder: 1\n    pictures: no such folder; . holds: images/, masks/"),
        ({"images": "../elsewhere"}, "leads out of data.root"),
        ({"image_pattern": "*.gif"}, "no file in it matches '*.gif'; it holds: a_0.jpg, a_1.jpg"),
        ({"values": {"road": [0]}}, "data.source.values: 'lane' has no raw value"),
        ({"values": {"road": [0, 1], "lane": [1]}}, "raw value 1 stands for both 'road' and 'lane'"),
        ({"values": {"road": [0], "lane": ["#ffffff"]}}, "mix numbers and '#rrggbb' colors"),
        ({"split": {"by": "folder", "folders": {"train": "train"}}}, "needs {split} in images and in masks"),
        ({"split": {"by": "list", "lists": {"train": "train.txt"}}}, "train.txt: no such list file"),
    ],
)
def test_wrong_settings_stop_even_where_bad_files_are_skipped(good, capsys, source, said):
    message, _ = refused(good, capsys, source=source, on_error="skip")
    assert said in message


def test_an_empty_folder_and_a_missing_root(dataset, capsys):
    for name in ("images", "masks"):
        (dataset.root / name).mkdir()
    message, rows = refused(dataset, capsys)
    assert kinds(rows) == [("empty_folder", "images"), ("empty_folder", "masks")]
    shutil.rmtree(dataset.root)
    message, _ = refused(dataset, capsys)
    assert "data.root = 'input': no such folder or archive" in message


def test_all_images_bad_is_not_an_empty_data_set(dataset, capsys):
    for number in range(3):
        dataset.pair(f"a_{number}")
        (dataset.root / f"images/a_{number}.jpg").write_bytes(b"x")
    message, _ = refused(dataset, capsys, on_error="skip")
    assert "no usable labelled image" in message


def test_a_mask_of_colors_where_ids_are_expected_is_named(good, capsys):
    good.save("masks/a_3.png", Image.fromarray(np.full((16, 20, 3), (128, 64, 128), np.uint8)))
    message, _ = refused(good, capsys)
    assert (
        "masks/a_3.png (mask of images/a_3.jpg): the mask holds RGB colors, but data.source.values lists numbers"
        in message
    )


def test_names_of_every_alphabet_get_their_own_plain_id(dataset):
    stems = ["straße", "Straße", "дорога", "道路", "café", "cafe", "a b", "a_b", "-", "x" * 200]
    for stem in stems:
        dataset.pair(stem)
    manifest = collected(dataset)
    assert len({image_id.lower() for image_id in manifest.records}) == len(stems)
    assert all(
        set(image_id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        for image_id in manifest.records
    )
    assert {r.source for r in manifest.records.values()} == {f"images/{stem}.jpg" for stem in stems}
    assert max(map(len, manifest.records)) <= 140


def test_groups_come_from_the_path_and_stay_together(dataset, capsys):
    for sequence in ("s1", "s2", "s3", "s4"):
        for number in range(3):
            dataset.pair(f"{sequence}_{number}")
    manifest = collected(dataset, group="([^/]+)_[0-9]+")
    by_group = {}
    for record in manifest.records.values():
        by_group.setdefault(record.group, set()).add(record.split)
    assert sorted(by_group) == ["s1", "s2", "s3", "s4"]
    assert all(len(splits) == 1 for splits in by_group.values())
    assert {split for splits in by_group.values() for split in splits} == {"train", "val", "test"}
    shutil.rmtree("data")
    message, _ = refused(dataset, capsys, group="(kitti)")
    assert "matches no labelled image" in message


def test_the_stage_command_exits_1_with_one_message_and_no_traceback(good):
    good.write_params()
    (good.root / "images/a_0.jpg").write_bytes(b"")
    command = [sys.executable, "-m", "stages.collect"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: data: 1 problem found, so no data set was written\n  empty_file: 1\n")
    assert json.loads(Path("logs/lanes/collect.json").read_text())["status"] == "FAILED"


def test_a_full_disk_is_said_and_leaves_nothing(good, capsys, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    message, _ = refused(good, capsys)
    assert "data/lanes/raw: could not be written" in message
    assert "No space left on device" in message


def test_a_source_for_the_other_task_is_refused(good, capsys):
    message, _ = refused(good, capsys, source={"kind": "voc", "split": {"by": "ratio", "val": 0.2, "test": 0.2}})
    assert "data.source.kind = 'voc'" in message and "allowed: masks, bdd100k, yolo" in message


@pytest.mark.slow
def test_camvid_is_collected_in_full(dataset, real_data):
    classes = [
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"
    ]  # fmt: skip
    dataset.changes = {"classes": classes}
    manifest = collected(
        dataset,
        root=str(real_data("camvid")),
        group="([^/]+)_[^_/]+$",
        source={
            "images": "{split}",
            "masks": "{split}annot",
            "values": {name: [index] for index, name in enumerate(classes)},
            "ignore": [11],
            "split": {"by": "folder", "folders": {"train": "train", "val": "val"}},
        },
        unlabeled=[{"path": str(real_data("carnd_video") / "test_videos"), "every": 60}],
    )
    splits = [record.split for record in manifest.records.values()]
    assert (splits.count("train"), splits.count("val"), splits.count("unlabeled")) == (123, 34, 4)
    assert {r.group for r in manifest.records.values() if r.split == "val"} == {"0016E5"}
    record = next(r for r in manifest.records.values() if r.split == "val")
    raw = np.asarray(Image.open(real_data("camvid") / record.source.replace("val/", "valannot/")))
    mask = np.asarray(Image.open(manifest.mask(record.id)))
    np.testing.assert_array_equal(mask, np.where(raw == 11, 255, raw))
    assert record.counts["Road"] == int((raw == 3).sum())


def test_the_lists_of_another_machine_are_understood(dataset, real_data):
    manifest = collected(
        dataset,
        root=str(real_data("lanenet_sample") / "data/training_data_example"),
        source={
            "images": "image",
            "masks": "gt_binary_image",
            "values": {"road": [0], "lane": [255]},
            "ignore": [],
            "split": {"by": "list", "lists": {"train": "train.txt", "val": "val.txt"}},
        },
    )
    assert [r.split for r in manifest.records.values()].count("train") == 4
    assert all(record.counts["lane"] > 1000 for record in manifest.records.values())
