"""`retrace predict`: run a phase's shipped weights on an image, a folder or a video; four files per frame.

Frame by frame, so that a clip of any length fits in memory and an interruption keeps what is done:
`<name>_original.jpg`, `<name>_mask.png` (8-bit class index), `<name>_visualization.jpg` (class colors) and
`<name>_overlay.jpg`; for a detector `<name>_boxes.json` stands for the mask and both pictures show the boxes. A video
also gives `annotated.mp4`. A second run into the same folder replaces what the first one wrote.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from retrace.allocator import advice_when_out_of_memory
from retrace.config.schema import Params
from retrace.data.formats.unlabeled import quiet_videos
from retrace.data.palette import paint, palette
from retrace.documents.prediction import SUMMARY, Prediction
from retrace.errors import UserError
from retrace.evaluation.pictures import Drawn, with_boxes
from retrace.files import write_bytes, write_json
from retrace.models.inference import inference_precision
from retrace.models.predict import Detections, choose_device, load_predictor, require_same_classes
from retrace.progress import bars

NO_ROOM = "predict takes one image at a time: set machine.device: cpu, or close what else uses the GPU"
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm"}
OWN = ("*_original.jpg", "*_mask.png", "*_boxes.json", "*_visualization.jpg", "*_overlay.jpg", "annotated.mp4")
LONGEST = 200  # bytes of a frame's name: file systems stop at 255 with suffixes and temporary names
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass
class Run:
    """Result of a prediction run: seconds per part, frames written, and files that could not be read."""

    frames: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "model": 0.0, "write": 0.0})
    problems: list[str] = field(default_factory=list)

    def timed(self, part: str, started: float) -> None:
        """Add the time since `started` to a part."""
        self.seconds[part] += time.perf_counter() - started

    def summary(self) -> str:
        """One line: average FPS, overall and per part."""
        if not self.frames:
            return "0 frames"
        total = sum(self.seconds.values())
        parts = ", ".join(f"{part} {self.frames / max(spent, 1e-9):.1f}" for part, spent in self.seconds.items())
        return f"{self.frames} frames, average {self.frames / max(total, 1e-9):.2f} FPS (by part: {parts})"


def predict(params: Params, source: Path, phase: str | None, every: int, limit: int | None, out: Path) -> Run:
    """Predict every k-th image or frame of `source` into `out`; raises `UserError` after the last readable one."""
    name = phase or params.phase
    if name not in params.trainings:
        raise UserError(f"--phase {name}: no such phase or repeat; allowed: {', '.join(params.trainings)}")
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; give an image, a folder of images or a video")
    if every < 1 or (limit is not None and limit < 1):
        raise UserError("--every and --max-frames must be 1 or more")
    shipped = Path("models") / params.study / name
    device = choose_device(params.machine.device)
    predictor = load_predictor(shipped, device, inference_precision(params.machine, device.type))
    require_same_classes(predictor, params, shipped)
    run, video = Run(), None
    frames, total, rate = _open(source, every, run)
    _make_ready(out, source)
    _summarize(out, name, run)
    total = min(total, limit) if limit is not None else total
    try:
        with bars() as progress:
            bar = progress.add_task("predict", total=total or None, info="")
            for stem, image in _limited(frames, limit, run):
                started = time.perf_counter()
                with advice_when_out_of_memory(NO_ROOM):
                    (result,) = predictor.predict([image])
                run.timed("model", started)
                started = time.perf_counter()
                overlay = _write(out, stem, image, result, params)
                if rate is not None:
                    video = video or _writer(out / "annotated.mp4", rate / every, overlay)
                    video.write(cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
                run.timed("write", started)
                run.frames += 1
                progress.update(bar, advance=1, info=f"{run.frames / max(sum(run.seconds.values()), 1e-9):.1f} FPS")
    finally:
        if video is not None:
            video.release()
        _summarize(out, name, run)
    return run


def _make_ready(out: Path, source: Path) -> None:
    """An empty folder: a new one, or one that `predict` filled before, without what it wrote there."""
    if out.exists() and not out.is_dir():
        raise UserError(f"-o {out}: is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in out.iterdir())
        if there and not _is_ours(out):
            shown = ", ".join(there[:3]) + ", ..." * (len(there) > 3)
            raise UserError(
                f"-o {out}: holds files that `retrace predict` did not write ({shown}); give a new or an empty folder"
            )
        if there and source.resolve().is_relative_to(out.resolve()):
            raise UserError(f"-o {out}: holds {source}, and earlier results there are replaced; give another folder")
        for pattern in OWN:
            for path in out.glob(pattern):
                path.unlink()
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror}); give a writable folder") from None


def _is_ours(out: Path) -> bool:
    try:
        Prediction.read(out / SUMMARY)
    except UserError:
        return False
    return True


def _summarize(out: Path, phase: str, run: Run) -> None:
    # written first and last: it marks a folder as ours
    found = Prediction(phase=phase, frames=run.frames, seconds=run.seconds, problems=run.problems)
    found.write(out / SUMMARY)


def _limited(frames: Iterator[tuple[str, np.ndarray]], limit: int | None, run: Run) -> Iterator[tuple[str, np.ndarray]]:
    while limit is None or run.frames < limit:
        started = time.perf_counter()
        frame = next(frames, None)
        run.timed("decode", started)
        if frame is None:
            return
        yield frame


def _open(source: Path, every: int, run: Run) -> tuple[Iterator[tuple[str, np.ndarray]], int, float | None]:
    """(frames as (name, RGB uint8 [H, W, 3]), how many are expected, frame rate of a video or None)."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGES)
        if not files:
            raise UserError(f"{source}: no images in this folder; readable endings: {', '.join(sorted(IMAGES))}")
        named = list(_names(files, source).items())[::every]
        return _images(named, run), len(named), None
    if source.suffix.lower() in IMAGES:
        return _images(list(_names([source], source.parent).items()), run), 1, None
    if source.suffix.lower() not in VIDEOS:
        allowed = ", ".join(sorted(IMAGES | VIDEOS))
        raise UserError(f"{source}: neither an image nor a video; readable endings: {allowed}")
    quiet_videos()
    capture = cv2.VideoCapture(str(source))
    if not capture.isOpened():
        raise UserError(
            f"{source}: no decoder opens this video; convert it: ffmpeg -i {source.name} -c:v libx264 out.mp4"
        )
    count, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS) or 25.0
    return _video(capture, source, every, count, run), -(-count // every), rate


def _names(files: list[Path], folder: Path) -> dict[Path, str]:
    """A name for each image: its path below `folder` with `__` for `/`, without suffix.

    Where two end up alike (also where case does not count) or a name is too long, 8 hex digits of the path's sha256 are
    appended. Every image of the folder counts, so that a name does not depend on --every.
    """
    below = {path: path.relative_to(folder) for path in files}
    plain = {path: "__".join(part.with_suffix("").parts) for path, part in below.items()}
    taken = Counter(name.lower() for name in plain.values())
    names = {}
    for path, name in plain.items():
        if taken[name.lower()] > 1 or len(os.fsencode(name)) > LONGEST:
            digest = hashlib.sha256(os.fsencode(below[path].as_posix())).hexdigest()[:8]
            name = f"{os.fsencode(name)[:LONGEST].decode('utf-8', 'ignore')}__{digest}"
        names[path] = name
    return names


def _images(named: list[tuple[Path, str]], run: Run) -> Iterator[tuple[str, np.ndarray]]:
    for path, name in named:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            run.problems.append(f"{path}: not a readable image (empty, cut off or another format)")
            continue
        yield name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _video(capture, source: Path, every: int, count: int, run: Run) -> Iterator[tuple[str, np.ndarray]]:
    index = 0
    try:
        while capture.grab():
            if index % every == 0:
                decoded, image = capture.retrieve()
                if not decoded or image is None:
                    run.problems.append(f"{source}: frame {index} is damaged and was left out")
                else:
                    yield f"frame_{index:06d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            index += 1
    finally:
        capture.release()
    if index == 0:
        run.problems.append(f"{source}: the file opens, but no frame could be decoded")
    elif count > 0 and index < count - 1:  # containers are known to overstate their length by one
        run.problems.append(
            f"{source}: decoding stopped after frame {index} of {count}; the file is cut off or damaged there"
        )


def _writer(path: Path, rate: float, frame: np.ndarray) -> cv2.VideoWriter:
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), max(rate, 1.0), (width, height))
    if not writer.isOpened():
        raise UserError(
            f"{path}: OpenCV has no mp4 encoder here; the pictures of the frames are kept, but there is no video"
        )
    return writer


def _write(out: Path, stem: str, image: np.ndarray, result, params: Params) -> np.ndarray:
    """Write the files of one frame; returns the overlay, RGB uint8 [H, W, 3]."""
    colors = palette(params.classes, params.report.colors)
    if params.task == "segmentation":
        _save(out / f"{stem}_mask.png", result, [])
        painted = paint(result, colors)
        overlay = cv2.addWeighted(image, 0.5, painted, 0.5, 0)
    else:
        rows = _rows(result, params)
        write_json(out / f"{stem}_boxes.json", rows)
        painted = _draw(np.zeros_like(image), rows, params, colors)
        overlay = _draw(image, rows, params, colors)
    _save(out / f"{stem}_original.jpg", image, JPEG)
    _save(out / f"{stem}_visualization.jpg", painted, JPEG)
    _save(out / f"{stem}_overlay.jpg", overlay, JPEG)
    return overlay


def _rows(found: Detections, params: Params) -> list[dict[str, Any]]:
    """The detections at or above the reported confidence, as they are written to `_boxes.json`."""
    return [
        {
            "class": params.classes[int(label)],
            "score": round(float(score), 6),
            "xyxy": [round(float(edge), 3) for edge in box],
        }
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
        if score >= params.evaluate.confidence
    ]


def _draw(image: np.ndarray, rows: list[dict[str, Any]], params: Params, colors: np.ndarray) -> np.ndarray:
    """A copy of `image`, RGB uint8 [H, W, 3], with the detections; lines and text grow with the image."""
    boxes: list[Drawn] = []
    for row in rows:
        left, top, right, bottom = row["xyxy"]
        red, green, blue = (int(part) for part in colors[params.classes.index(row["class"])])
        caption = f"{row['class']} {row['score']:.2f}"
        boxes.append(Drawn((left, top, right - left, bottom - top), caption, color=(red, green, blue)))
    size = image.shape[0] / 720
    line, text = max(1, round(2 * size)), max(10, round(18 * size))
    return np.asarray(with_boxes(Image.fromarray(image), boxes, line=line, text=text))


def _save(path: Path, image: np.ndarray, options: list[int]) -> None:
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    encoded, content = cv2.imencode(path.suffix, pixels, options)
    assert encoded, path
    write_bytes(path, content.tobytes())
