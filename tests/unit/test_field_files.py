"""Files as they arrive: masks of odd kinds, pictures that a transfer damaged, cut videos, links to folders."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from retrace.config.data import Unlabeled
from retrace.data.formats import unlabeled
from retrace.data.formats.damage import reason_of
from retrace.data.formats.listing import AnyCase, below, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.rawmask import read_raw_mask
from retrace.data.hashing import BadImage
from retrace.data.manifest import read_manifest
from retrace.errors import UserError
from stages import collect as stage
from tests.support.detection_sets import picture


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _grey_alpha_16(values, alpha):
    """A PNG of 16-bit grey with alpha, put together by the PNG specification."""
    rows = b"".join(b"\0" + b"".join(struct.pack(">HH", value, alpha) for value in row) for row in values)
    head = struct.pack(">IIBBBBB", len(values[0]), len(values), 16, 4, 0, 0, 0)
    parts = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_16_bit_grey_with_alpha_is_exact(tmp_path):
    values = [[0, 1, 255, 256], [257, 1000, 65534, 65535]]
    (tmp_path / "m.png").write_bytes(_grey_alpha_16(values, 65535))
    raw, colored = read_raw_mask(tmp_path / "m.png")
    assert raw.tolist() == values and not colored
    (tmp_path / "clear.png").write_bytes(_grey_alpha_16(values, 65534))
    with pytest.raises(BadImage) as caught:
        read_raw_mask(tmp_path / "clear.png")
    assert caught.value.kind == "transparent"


def test_a_picture_that_a_transfer_damaged_says_so(tmp_path):
    whole = picture(tmp_path / "p.png").read_bytes()
    detours = {
        "line ends converted": [whole.replace(b"\r\n", b"\n"), whole.replace(b"\n", b"\r\n")],
        "UTF-8": [whole.decode("utf-8", "replace").encode(), whole.decode("latin-1").encode()],
        "highest bit": [bytes(value & 127 for value in whole)],
        "git lfs pull": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"],
        "web site": [b"<!DOCTYPE html><html>403</html>", b"<HTML></HTML>"],
    }
    for said, contents in detours.items():
        for content in contents:
            (tmp_path / "q.png").write_bytes(content)
            assert said in reason_of(tmp_path / "q.png")
    assert reason_of(tmp_path / "p.png") == ""


def test_a_cut_video_says_how_many_frames_are_missing(tmp_path):
    clip = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    generator = np.random.default_rng(1)
    for _ in range(40):
        writer.write(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    (tmp_path / "cut.avi").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    for name, missing in (("whole.avi", False), ("cut.avi", True)):
        problems = Problems()
        items = unlabeled.read((Unlabeled(path=name),), tmp_path, problems, tmp_path / "frames" / name)
        assert [row.kind for row in problems.rows] == (["cut_video"] if missing else [])
        if missing:
            assert 0 < len(items) < 40
            assert f"{40 - len(items)} of the 40 frames" in problems.rows[0].detail
        else:
            assert len(items) == 40


def test_links_to_folders_inside_the_root_are_followed_and_others_refused_with_the_reason(tmp_path):
    root = tmp_path / "root"
    picture(root / "real/a.png")
    picture(tmp_path / "elsewhere/b.png")
    (root / "images").mkdir()
    (root / "images/inside").symlink_to(root / "real")
    (root / "images/outside").symlink_to(tmp_path / "elsewhere")
    (root / "images/around").symlink_to(root)
    problems = Problems()
    assert walk(root / "images", root, problems) == [root / "images/inside/a.png"]
    said = {row.path: row.detail for row in problems.rows}
    assert sorted(said) == ["images/around", "images/outside"]
    assert "outside data.root" in said["images/outside"] and "never end" in said["images/around"]
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link that leads out of data.root"):
        below(root, "linked", "data.source.images")
    with pytest.raises(UserError, match="leads out of data.root; give a path below it"):
        below(root, "../elsewhere", "data.source.images")


def test_two_names_that_differ_in_case_only_are_not_mixed_up(tmp_path):
    lower, upper = tmp_path / "a.png", tmp_path / "A.png"
    both = AnyCase([lower, upper])
    assert both.find(lower) == lower and both.find(upper) == upper
    assert both.find(tmp_path / "a.PNG") == tmp_path / "a.PNG"
    assert AnyCase([upper]).find(tmp_path / "a.PNG") == upper


def test_masks_of_any_case_are_found_and_named_by_their_own_path(dataset):
    for number in range(5):
        dataset.pair(f"a_{number}")
    (dataset.root / "masks/a_1.png").rename(dataset.root / "masks/A_1.PNG")
    damaged = dataset.root / "masks/a_2.png"
    damaged.write_bytes(damaged.read_bytes().replace(b"\r\n", b"\n"))
    dataset.write_params(on_error="skip")
    stage.main()
    manifest = read_manifest(Path("data/lanes/raw"))
    assert sorted(manifest.records) == ["images-a_0", "images-a_1", "images-a_3", "images-a_4"]
    table = Path("data/lanes/raw/problems.csv").read_text()
    assert "masks/a_2.png (mask of images/a_2.jpg)" in table and "line ends converted" in table
