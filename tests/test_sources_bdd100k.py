"""The official BDD100K layout, and the two kinds of labels that must not be taken for train ids."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import collect as stage
from stages.dataset.manifest import read_manifest
from stages.files import read_json
from stages.sources.bdd100k import TRAIN_IDS

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


def test_colored_labels_are_refused_in_one_line(bdd, capsys):
    message = refused(bdd, capsys, masks="bdd100k/labels/sem_seg/color_labels")
    assert message.count("\n") == 1
    assert "holds colored pictures for people" in message
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


def test_unpaired_files_and_an_archive_left_packed(bdd, capsys):
    (bdd.root / MASKS / "train/00000001.png").unlink()
    bdd.mask(f"{MASKS}/val/ffffffff.png")
    message = refused(bdd, capsys)
    assert "missing_mask: 1" in message
    assert "mask_without_image: 1" in message
    for path in sorted((bdd.root / MASKS).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (bdd.root / "bdd100k_sem_seg_labels_trainval.zip").write_bytes(b"PK")
    assert "unpack bdd100k_sem_seg_labels_trainval.zip" in refused(bdd, capsys)
