"""The official BDD100K layout, and the two kinds of labels that must not be taken for train ids."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrace.data.formats.bdd100k import TRAIN_IDS
from retrace.data.manifest import read_manifest
from retrace.files import read_json
from stages import collect as stage

RAW = Path("data/lanes/raw")
IMAGES, MASKS = "bdd100k/images/10k", "bdd100k/labels/sem_seg/masks"


@pytest.fixture
def bdd(dataset):
    """Three train and two val pairs in the official layout, and one test image."""
    dataset.changes = {"classes": list(TRAIN_IDS)}
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            dataset.image(f"{IMAGES}/{split}/{number:08x}.jpg")
            dataset.mask(f"{MASKS}/{split}/{number:08x}.png", [*range(19), 255])
    dataset.image(f"{IMAGES}/test/deadbeef.jpg")
    return dataset


def run(dataset, **source):
    dataset.write_params(source={"kind": "bdd100k", **source})
    stage.main()
    return read_manifest(RAW)


def refused(dataset, capsys, **source):
    with pytest.raises(SystemExit):
        run(dataset, **source)
    assert not RAW.exists()
    return capsys.readouterr().err


def test_train_ids_are_the_classes_and_255_is_ignored(bdd):
    manifest = run(bdd)
    assert [r.split for r in manifest.records.values()] == ["unlabeled", "train", "train", "train", "val", "val"]
    record = manifest.records["bdd100k-images-10k-train-00000000"]
    assert list(record.counts) == list(TRAIN_IDS)
    assert np.asarray(Image.open(manifest.mask(record.id)))[0].tolist() == [*range(19), 255]
    assert read_json(RAW / "dataset.json")["problems"] == {"no_test_masks": 1}
    assert read_json(RAW / "dataset.json")["quarantined"] == 0


def test_classes_in_another_order_keep_their_meaning(bdd):
    bdd.changes = {"classes": list(reversed(TRAIN_IDS))}
    manifest = run(bdd)
    record = manifest.records["bdd100k-images-10k-val-00000001"]
    assert np.asarray(Image.open(manifest.mask(record.id)))[0].tolist() == [*range(18, -1, -1), 255]


def test_other_classes_are_refused(bdd, capsys):
    bdd.changes = {"classes": ["road", "sky"]}
    assert "'sidewalk' is missing" in refused(bdd, capsys)


def test_colored_labels_are_refused_in_one_message(bdd, capsys):
    message = refused(bdd, capsys, masks="bdd100k/labels/sem_seg/color_labels")
    assert "holds colored pictures for people" in message.splitlines()[0]
    assert "missing: bdd100k/labels/sem_seg/color_labels" in message  # the folder is not there either
    bdd.save(f"{MASKS}/train/00000000.png", Image.fromarray(np.full((16, 20, 4), (128, 64, 128, 255), np.uint8)))
    message = refused(bdd, capsys)
    assert message.count("\n") == 1
    assert "a colored mask (color_labels or colormaps)" in message


def test_label_ids_are_refused_in_one_line(bdd, capsys):
    for number in range(3):
        bdd.mask(f"{MASKS}/train/{number:08x}.png", [7, 8, 11, 23, 26])
    message = refused(bdd, capsys)
    assert message.count("\n") == 1
    assert "value 23: a label-id mask, not train ids" in message


def test_bitmasks_are_refused_in_one_line_but_one_stray_transparent_mask_is_a_row(bdd, capsys):
    bits = Image.fromarray(np.full((16, 20, 4), (7, 0, 0, 3), np.uint8))
    bdd.save(f"{MASKS}/train/00000000.png", bits)
    message = refused(bdd, capsys)
    assert "transparent: 1" in message
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            bdd.save(f"{MASKS}/{split}/{number:08x}.png", bits)
    message = refused(bdd, capsys)
    assert message.count("\n") == 1
    assert "an RGBA mask (bitmasks of instance or panoptic segmentation)" in message


def test_unpaired_files(bdd, capsys):
    (bdd.root / MASKS / "train/00000001.png").unlink()
    bdd.mask(f"{MASKS}/val/ffffffff.png")
    message = refused(bdd, capsys)
    assert "missing_mask: 1" in message
    assert "mask_without_image: 1" in message


def pack(root, folder, name):
    """Move a folder of the root into a zip there, under its official path."""
    with zipfile.ZipFile(root / name, "w") as packed:
        for path in sorted((root / folder).rglob("*.*")):
            packed.write(path, path.relative_to(root))
    shutil.rmtree(root / folder)


@pytest.mark.parametrize("images_zip", ["bdd100k_images_10k.zip", "10k_images.zip"])
def test_the_official_zips_give_the_same_data_set_as_their_content(bdd, images_zip):
    run(bdd)
    expected = (RAW / "manifest.jsonl").read_bytes()
    pack(bdd.root, MASKS, "bdd100k_sem_seg_labels_trainval.zip")
    run(bdd)  # one of them unpacked by hand
    assert (RAW / "manifest.jsonl").read_bytes() == expected
    pack(bdd.root, "bdd100k", images_zip)
    assert sorted(path.name for path in bdd.root.iterdir()) == sorted(
        [images_zip, "bdd100k_sem_seg_labels_trainval.zip"]
    )
    run(bdd)
    assert (RAW / "manifest.jsonl").read_bytes() == expected


def test_missing_zips_are_named_and_hostile_ones_refused(bdd, capsys):
    shutil.rmtree(bdd.root / MASKS)
    message = refused(bdd, capsys)
    assert "missing_folder: 1" in message
    assert "unpack bdd100k_sem_seg_labels_trainval.zip in data.root" in message
    with zipfile.ZipFile(bdd.root / "bdd100k_sem_seg_labels_trainval.zip", "w") as packed:
        packed.writestr("../../evil.png", b"x")
    assert "leads out of the folder" in refused(bdd, capsys)
    with zipfile.ZipFile(bdd.root / "bdd100k_sem_seg_labels_trainval.zip", "w") as packed:
        packed.writestr("sem_seg/masks/train/a.png", b"x")
    assert "masks/train: no such folder" in refused(bdd, capsys)
    (bdd.root / "bdd100k_sem_seg_labels_trainval.zip").write_bytes(b"PK")
    assert "cannot be unpacked" in refused(bdd, capsys)
    pack(bdd.root, IMAGES, "10k_images_train.zip")
    (bdd.root / "10k_images_val.zip").write_bytes(b"PK")
    (bdd.root / "bdd100k_sem_seg_labels_trainval.zip").unlink()
    message = refused(bdd, capsys)
    assert "2 zips could hold it (10k_images_train.zip, 10k_images_val.zip): unpack bdd100k_images_10k.zip" in message
    assert "missing_folder: 2" in message
