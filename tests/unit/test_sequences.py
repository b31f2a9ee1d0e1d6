"""What is suspected to belong together: by names, and by pictures that are drawn or mirrored here."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from retrace.data.hashing import perceptual_hash
from retrace.data.names import numbered, photographs
from retrace.data.sequences import SIMILAR_BITS, clips, cut, mirrored, similar, suspicions
from retrace.documents.manifest import Record


def scene(seed):
    """A smooth random picture: unlike all others, like its neighbors when it is shifted a little."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 60), dtype=np.uint8)
    return Image.fromarray(pixels).resize((1200, 480), Image.Resampling.BICUBIC)


def record(name, picture, split="train"):
    size = picture.size
    return Record(name, name, None, name, perceptual_hash(picture), *size, name, split, name)


TURNS = [ImageOps.mirror, ImageOps.flip, *(lambda picture, k=k: picture.transpose(k) for k in range(2, 7))]


@pytest.mark.parametrize("turn", TURNS)
def test_mirrored_and_rotated_copies_are_found_and_nothing_else(turn):
    pictures = [scene(seed).crop((0, 0, 480, 480)).filter(ImageFilter.GaussianBlur(2)) for seed in range(40)]
    records = [record(f"a{i:02}", picture) for i, picture in enumerate(pictures)]
    assert mirrored(records) == []
    flipped = [record(f"b{i:02}", turn(pictures[i])) for i in range(10)]
    pairs = mirrored([*records, *flipped])
    assert set(pairs) <= {(f"a{i:02}", f"b{i:02}") for i in range(10)}
    assert len(pairs) >= 8  # a coefficient near the median may turn more bits than are allowed


def test_real_photographs_have_mirror_images_that_are_found(real_data):
    files = sorted(real_data("aquarium_yolo").glob("*/images/*.jpg"))[::20]
    both = []
    for index, file in enumerate(files):
        with Image.open(file) as picture:
            both += [record(f"a{index}", picture), record(f"b{index}", ImageOps.mirror(picture))]
    pairs = mirrored(both)
    assert set(pairs) <= {(f"a{i}", f"b{i}") for i in range(len(files))}
    assert len(pairs) >= 0.75 * len(files)


def test_similar_pictures_are_named_where_nothing_else_names_them():
    """Shifted views of one scene, no near-duplicates, in two splits; compared pair by pair."""
    views = [scene(1).crop((12 * i, 0, 12 * i + 480, 480)) for i in range(3)]
    records = [
        record(name, view, split) for name, view, split in zip("abc", views, ("train", "train", "val"), strict=True)
    ]
    records += [record(f"other{seed}", scene(seed).crop((0, 0, 480, 480))) for seed in range(2, 30)]
    close = {
        frozenset((one.id, other.id))
        for one, other in itertools.combinations(records, 2)
        if (int(one.phash, 16) ^ int(other.phash, 16)).bit_count() <= SIMILAR_BITS
    }
    assert close and set.union(*map(set, close)) <= set("abc")
    found = [one for one in suspicions(records) if one.kind == "similar"]
    assert [one.ids for one in found] == similar(records)
    assert {image for one in found for image in one.ids} == set.union(*map(set, close))
    split = {one.id: one.split for one in records}
    assert bool(cut(found, split)) == any("c" in pair for pair in close)
    numbered = [record(f"frame_{i}", view) for i, view in enumerate(views)]
    assert [one.kind for one in suspicions(numbered)] == ["clip"]


@pytest.mark.parametrize("moving", [True, False])
def test_numbered_pictures_are_a_clip_where_neighbors_resemble_each_other(moving):
    wide = scene(1)
    frames = [wide.crop((20 * i, 0, 20 * i + 480, 480)) if moving else scene(i + 2) for i in range(30)]
    records = [record(f"IMG_{2000 + i}", frame.resize((96, 96))) for i, frame in enumerate(frames)]
    assert list(clips(records)) == (["IMG"] if moving else [])


def test_a_name_that_says_video_needs_no_resemblance():
    records = [record(f"train/IMG_8497_MOV-{i}_jpg.rf.{i:032x}.jpg", scene(i)) for i in range(2)]
    records += [record(f"test/IMG_8497_MOV-5_jpg.rf.{9:032x}.jpg", scene(7), "test")]
    assert {name: len(ids) for name, ids in clips(records).items()} == {"IMG_8497_MOV": 3}
    split = {one.id: one.split for one in records}
    assert [one.name for one in cut(suspicions(records), split)] == ["IMG_8497_MOV"]


@pytest.mark.parametrize(
    ("names", "photographs_of"),
    [
        (["train/images/a_jpg.rf.0123456789abcdef.jpg", "valid/images/a_jpg.rf.fedcba9876543210.jpg"], ["a", "a"]),
        (["a.jpg", "a_aug1.jpg", "a_flip.jpg", "a-hflip2.jpg"], ["a"] * 4),
        (["a.jpg", "a (1).jpg", "a copy 2.jpg"], ["a"] * 3),
        (["car (1).jpg", "car (2).jpg"], ["car (1)", "car (2)"]),  # how Windows names a selection of files
        (["field/corn_crop_1.png", "field/corn_crop_2.png"], ["field/corn_crop_1", "field/corn_crop_2"]),
        (["day1/0001.png", "day2/0001.png"], ["day1/0001", "day2/0001"]),
    ],
)
def test_copies_have_the_name_of_their_photograph(names, photographs_of):
    assert photographs(names) == photographs_of


def test_running_numbers():
    found = numbered("valid/frame_0014_jpg.rf.d3059b108d1e5c0bed6002590b9ae5d8.jpg")
    assert (found.key, found.number, found.video) == ("frame", 14, True)
    assert numbered("a/b.png") is None
    keys = {numbered(f"{folder}/IMG_{i}.jpg").key for folder, i in itertools.product(("train", "test"), range(3))}
    assert keys == {"IMG"}
