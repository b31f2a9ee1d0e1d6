"""The pieces under `collect`: hashes and the image policy, ids, list files, and dealing groups into splits."""

import io
import re
import struct

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from retrace.config.data import SplitByRatio
from retrace.data.formats import Codes
from retrace.data.formats.convert import ids
from retrace.data.formats.listing import deal, read_lists
from retrace.data.formats.problems import Problems
from retrace.data.formats.rawmask import encode_mask, to_classes
from retrace.data.hashing import BadImage, decode_rgb, hash_distance, inspect
from retrace.errors import UserError


def scene(seed, size=(640, 360)):
    """A smooth random picture, as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("seed", range(8))
def test_copies_in_other_formats_and_sizes_hash_alike_and_other_scenes_do_not(seed):
    original = inspect(encoded(scene(seed), "PNG")).phash
    assert original == str(imagehash.phash(scene(seed)))
    for content in (
        encoded(scene(seed), "JPEG", quality=85),
        encoded(scene(seed), "WEBP", quality=85),
        encoded(scene(seed).resize((320, 180)), "JPEG", quality=90),
        encoded(scene(seed).convert("RGBA"), "PNG"),
    ):
        assert hash_distance(inspect(content).phash, original) <= 3
    assert hash_distance(inspect(encoded(scene(seed + 100), "PNG")).phash, original) > 12


def test_a_sixteen_bit_color_picture_is_named(tmp_path):
    import cv2

    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.full((4, 4, 3), 300, np.uint16))
    with pytest.raises(BadImage) as error:
        decode_rgb(path.read_bytes())
    assert error.value.kind == "more_than_8_bits"


def test_a_truncated_png_and_one_whose_orientation_stands_behind_the_pixels():
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = encoded(scene(1), "PNG", exif=exif)
    for content, kind in ((whole, "exif_rotated"), (encoded(scene(1), "PNG")[:-5000], "truncated")):
        with pytest.raises(BadImage) as error:
            inspect(content)
        assert error.value.kind == kind


def exif_orientation(stated):
    """EXIF of one tag, 0x0112: an int as a short number, a str as text of one character."""
    if isinstance(stated, int):
        entry = struct.pack(">HHIHH", 0x0112, 3, 1, stated, 0)
    else:
        entry = struct.pack(">HHI4s", 0x0112, 2, 2, stated.encode())
    return b"Exif\0\0MM" + struct.pack(">HIH", 42, 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("stated", [0, 1, 9, 255, 65535, "x", "6"])
def test_an_orientation_that_no_reader_turns_by_means_upright(stated):
    content = encoded(scene(1), "JPEG", exif=exif_orientation(stated))
    assert Image.open(io.BytesIO(content)).getexif()[0x0112] == stated
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))  # another reader
    assert np.array_equal(decode_rgb(content), np.asarray(turned))


@pytest.mark.parametrize("stated", range(2, 9))
def test_an_orientation_that_readers_turn_by_is_refused(stated):
    with pytest.raises(BadImage, match=f"EXIF orientation {stated}"):
        decode_rgb(encoded(scene(1), "JPEG", exif=exif_orientation(stated)))


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1), unique=True)
)
def test_ids_are_plain_unique_and_independent_of_order(names):
    made = ids(names)
    assert len({image_id.lower() for image_id in made}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", image_id) and len(image_id) < 140 for image_id in made)
    assert dict(zip(reversed(names), ids(names[::-1]), strict=True)) == dict(zip(names, made, strict=True))


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers(1, 30), min_size=3, max_size=40), st.sampled_from([0.0, 0.1, 0.3])
)
def test_dealing_keeps_groups_whole_and_comes_near_the_shares(groups, share):
    rule = SplitByRatio(by="ratio", val=0.2, test=share)
    dealt = deal(groups, rule)
    assert dealt.keys() == groups.keys()
    assert deal(dict(reversed(groups.items())), rule) == dealt
    used = set(dealt.values())
    assert "val" in used and "train" in used and ("test" in used) == (share > 0)
    total, largest = sum(groups.values()), max(groups.values())
    for split, part in (("val", 0.2), ("test", share)):
        assert abs(sum(n for g, n in groups.items() if dealt[g] == split) - part * total) <= largest


def test_single_images_are_dealt_exactly():
    dealt = deal({f"image_{n}": 1 for n in range(100)}, SplitByRatio(by="ratio", val=0.15, test=0.05))
    counts = [list(dealt.values()).count(split) for split in ("train", "val", "test")]
    assert counts == [80, 15, 5]


def test_too_few_groups_are_said():
    with pytest.raises(UserError, match="2 groups of images cannot fill train, val and test"):
        deal({"a": 5, "b": 5}, SplitByRatio(by="ratio", val=0.2, test=0.2))


def test_lists_are_read_generously_and_their_faults_named(tmp_path):
    names = [f"images/{name}" for name in ("a.jpg", "b.jpg", "c d.jpg", "sub/e.jpg", "f.jpg")]
    lines = "images/a.jpg masks/a.png\nb\n/home/x/set/images/c d.jpg\n\nsub/e.jpg,1,2\n"
    (tmp_path / "train.txt").write_text("\ufeff" + lines, encoding="utf-8")
    (tmp_path / "val.txt").write_text("b.jpg\r\nimages/nowhere.jpg\n./f.jpg\n", encoding="utf-8")
    problems = Problems()
    given_split = read_lists(tmp_path, {"train": "train.txt", "val": "val.txt"}, names, "images", problems)
    assert given_split == {**dict.fromkeys(names[:4], "train"), "images/f.jpg": "val"}
    assert sorted((row.kind, row.path) for row in problems.rows) == [
        ("listed_missing", "val.txt"),
        ("listed_twice", "images/b.jpg"),
    ]


@settings(deadline=None, max_examples=20)  # each one fills a table of 2^24 entries
@given(st.integers(0, 2**32))
def test_mapping_equals_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 2**24, 6).astype(np.int32)
    codes = Codes(tuple((int(value), index) for index, value in enumerate(dict.fromkeys(raw.tolist()))), colors=True)
    picture = rng.choice(raw, (5, 7))
    expected = [[dict(codes.classes)[int(value)] for value in row] for row in picture]
    assert to_classes(picture, True, codes).tolist() == expected
    assert np.asarray(Image.open(io.BytesIO(encode_mask(np.uint8(expected))))).tolist() == expected


@pytest.mark.parametrize("value", [-1, 2, 70000, 2**31 - 1])
def test_values_outside_the_map_never_wrap_around(value):
    codes = Codes(((0, 0), (1, 1)))
    with pytest.raises(BadImage, match=f"raw value {value} "):
        to_classes(np.array([[0, 1, value]], np.int32), False, codes)
