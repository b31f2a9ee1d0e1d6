"""`retrace predict` on images, folders and videos: four files per frame, honest about what could not be read."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from retrace.config.load import parse
from retrace.models.build import build
from retrace.models.weights import save_model
from tests.support.projects import environment, run, tiny_params, write_params


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder with one trained-looking phase: a tiny U-Net with random weights."""
    folder = tmp_path_factory.mktemp("predict")
    values = tiny_params("lanes")
    for phase in values["phases"].values():
        phase["model"] = {"architecture": "unet_classic", "encoder": None, "decoder_channels": None, "width": 2}
        phase["optimizer"] = {"encoder_lr": None}
    write_params(folder, values)
    params = parse(dict(values))
    model = params.phases["mae_ohem"].model
    network = build(model, params.classes)
    target = folder / "models" / "lanes" / "mae_ohem"
    target.mkdir(parents=True)
    save_model(target, network, model, "segmentation", params.classes, (64, 96), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return folder


def picture(seed):
    return np.random.default_rng(seed).integers(0, 255, (48, 80, 3), dtype=np.uint8)


def clip(path, frames=9):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (80, 48))
    for index in range(frames):
        writer.write(picture(index))
    writer.release()
    return path


def process(project, *arguments):
    """As a user starts it."""
    return run(project, "python", "-m", "retrace", "predict", *map(str, arguments), env=environment())


@pytest.fixture
def predict(retrace):
    return lambda project, *arguments: retrace(project, "predict", *arguments)


def test_an_image_gives_its_four_files(project, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    result = process(project, tmp_path / "a.png", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    mask = cv2.imread(str(tmp_path / "out" / "a_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 80)
    assert set(np.unique(mask)) <= {0, 1, 2}
    for kind in ("original", "visualization", "overlay"):
        assert cv2.imread(str(tmp_path / "out" / f"a_{kind}.jpg")).shape == (48, 80, 3)
    assert "1 frames, average" in result.stdout
    assert "decode" in result.stdout and "model" in result.stdout and "write" in result.stdout


def test_a_video_every_third_frame_and_an_annotated_clip(predict, project, tmp_path):
    result = predict(project, clip(tmp_path / "drive.mp4"), "--every", 3, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    masks = sorted(path.name for path in (tmp_path / "out").glob("*_mask.png"))
    assert masks == ["frame_000000_mask.png", "frame_000003_mask.png", "frame_000006_mask.png"]
    capture = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 3


def test_max_frames_stops_early(predict, project, tmp_path):
    result = predict(project, clip(tmp_path / "drive.mp4"), "--max-frames", 2, "-o", tmp_path / "out")
    assert result.returncode == 0
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 2


def test_a_damaged_image_is_named_and_the_others_are_kept(predict, project, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), picture(0))
    (folder / "b.png").write_bytes(b"not a picture")
    cv2.imwrite(str(folder / "c.png"), picture(2))
    result = predict(project, folder, "-o", tmp_path / "out")
    assert result.returncode == 1
    assert "b.png" in result.stderr and "Traceback" not in result.stderr
    assert (tmp_path / "out" / "a_mask.png").is_file()
    assert (tmp_path / "out" / "c_mask.png").is_file()


def test_a_clip_that_breaks_off_keeps_its_frames(predict, project, tmp_path):
    whole = clip(tmp_path / "whole.avi", 40)
    content = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 2 // 3])
    result = predict(project, tmp_path / "cut.avi", "-o", tmp_path / "out")
    done = len(list((tmp_path / "out").glob("*_mask.png")))
    assert 0 < done < 40
    assert result.returncode == 1
    assert "cut off or damaged" in result.stderr


def test_a_damaged_clip_is_said_by_us_alone(project, tmp_path):
    content = bytearray(clip(tmp_path / "whole.mp4", 40).read_bytes())
    content[2000:9000] = bytes(7000)
    (tmp_path / "bad.mp4").write_bytes(content)
    result = process(project, tmp_path / "bad.mp4", "-o", tmp_path / "out")
    assert not [line for line in result.stderr.splitlines() if " @ 0x" in line or line.startswith("[")]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("x.mp4", b"\0" * 500, "no decoder opens this video"),
        ("x.txt", b"hello", "neither an image nor a video"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(predict, project, tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    result = predict(project, tmp_path / name, "-o", tmp_path / "out")
    assert result.returncode == 1
    assert part in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_phase_and_missing_source(predict, project, tmp_path):
    result = predict(project, tmp_path / "none.jpg", "-o", tmp_path / "out")
    assert result.returncode == 1 and "no such file or folder" in result.stderr
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    result = predict(project, tmp_path / "a.png", "--phase", "best", "-o", tmp_path / "out")
    assert result.returncode == 1 and "allowed: baseline, mae_ohem" in result.stderr


def test_pictures_of_one_name_keep_their_results_apart(predict, project, tmp_path):
    names = ("a.jpg", "a.png", "A.bmp", "sub/b.jpg", "sub__b.jpg", "c.jpg", "d" * 240 + ".png")
    for seed, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), picture(seed))
    result = predict(project, tmp_path / "in", "-o", tmp_path / "all")
    assert result.returncode == 0, result.stderr
    made = {path.name for path in (tmp_path / "all").glob("*_mask.png")}
    assert len(made) == len(names)
    assert "c_mask.png" in made
    result = predict(project, tmp_path / "in", "--every", 2, "-o", tmp_path / "some")
    assert result.returncode == 0, result.stderr
    some = {path.name for path in (tmp_path / "some").glob("*_mask.png")}
    assert len(some) == 4 and some < made  # the same names, whatever else is taken


def test_a_second_run_replaces_the_first_and_nothing_else(predict, project, tmp_path):
    out = tmp_path / "out"
    assert predict(project, clip(tmp_path / "drive.mp4"), "-o", out).returncode == 0
    (out / "notes.txt").write_text("mine")
    result = predict(project, tmp_path / "drive.mp4", "--max-frames", 2, "-o", out)
    assert result.returncode == 0, result.stderr
    assert json.loads((out / "summary.json").read_text())["frames"] == 2
    assert len(list(out.glob("*_mask.png"))) == len(list(out.glob("*_overlay.jpg"))) == 2
    assert (out / "notes.txt").read_text() == "mine"


def test_folders_that_cannot_take_results_are_one_line(predict, project, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a_mask.png").write_bytes(b"mine")
    cases = {
        tmp_path / "file": "is a file; give a folder",
        tmp_path / "file/below": "cannot be written",
        Path("/proc/x"): "cannot be written",
        tmp_path / "photos": "did not write (a_mask.png)",
    }
    for out, text in cases.items():
        result = predict(project, tmp_path / "a.png", "-o", out)
        assert result.returncode == 1
        assert f"error: -o {out}: " in result.stderr and text in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "photos/a_mask.png").read_bytes() == b"mine"
    (tmp_path / "photos/summary.json").write_text("[3]")
    assert predict(project, tmp_path / "a.png", "-o", tmp_path / "photos").returncode == 1
    (tmp_path / "photos/summary.json").write_text('{"phase": "a", "frames": 1, "seconds": {}}')
    result = predict(project, tmp_path / "photos/a_mask.png", "-o", tmp_path / "photos")
    assert result.returncode == 1 and "earlier results there are replaced; give another folder" in result.stderr


def test_weights_for_other_classes_are_refused_before_anything_is_written(predict, project, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    shutil.copytree(project, tmp_path / "project")
    path = tmp_path / "project" / "models/lanes/mae_ohem/model.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"classes": ["Road", "White Solid", "White Dashed"]}))
    result = predict(tmp_path / "project", tmp_path / "a.png", "-o", tmp_path / "out")
    assert result.returncode == 1
    assert "models/lanes/mae_ohem: was trained for other classes: Road, White Solid, White Dashed (3)" in result.stderr
    assert "params.yaml has Background, White Solid, White Dashed (3)" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_dash_cam_clip(predict, project, tmp_path, real_data):
    source = real_data("carnd_video") / "test_videos" / "solidWhiteRight.mp4"
    result = predict(project, source, "--every", 50, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "out").glob("*_overlay.jpg"))
    assert names == [f"frame_{index:06d}_overlay.jpg" for index in range(0, 221, 50)]
    assert cv2.imread(str(tmp_path / "out" / names[0])).shape == (540, 960, 3)
