"""The command `retrace score` on 5,000 images with two files of predictions: `python -m benchmarks.scoring`.

Seconds are those of the whole command, which starts Python, reads and checks three JSON files, matches, draws 1,000
resamples of both files and of the floor, and prints the tables. Processor time is that of all its threads.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import arguments, save

CLASSES = ("car", "bus", "person", "bike")
SIZE = (640, 480)
NOISE = {"a": 0.12, "b": 0.09}  # of a box's size: how far the detections of each file are off
MISSED = 0.2


def write(folder: Path, images: int, seed: int) -> dict[str, int]:
    """A COCO truth with about 4 objects an image and two files of results with about 7; returns how many there are."""
    random = np.random.default_rng(seed)
    truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    truth["categories"] = [{"id": place + 1, "name": name} for place, name in enumerate(CLASSES)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in NOISE}
    for image in range(1, images + 1):
        name = f"{image:06d}.jpg"
        truth["images"].append({"id": image, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for _ in range(random.integers(1, 8)):
            size = np.exp(random.normal(3.7, 0.7)) * np.exp(random.normal(0, 0.3, 2))
            box = np.concatenate([random.uniform(0, 400, 2), size]).round(2)
            category = int(random.integers(1, len(CLASSES) + 1))
            row = {"image_id": image, "category_id": category, "bbox": box.tolist(), "area": float(box[2] * box[3])}
            truth["annotations"].append(row | {"id": len(truth["annotations"]) + 1, "iscrowd": 0})
            for file, noise in NOISE.items():
                if random.random() > MISSED:
                    near = (box + random.normal(0, noise, 4) * np.tile(size, 2)).round(2)
                    results[file].append(_result(image, category, near, random.beta(4, 2)))
        for mine in results.values():
            for _ in range(random.integers(0, 8)):
                far = np.concatenate([random.uniform(0, 400, 2), random.uniform(10, 90, 2)]).round(2)
                mine.append(_result(image, int(random.integers(1, len(CLASSES) + 1)), far, random.beta(1, 4)))
    (folder / "truth.json").write_text(json.dumps(truth))
    for file, mine in results.items():
        (folder / f"{file}.json").write_text(json.dumps(mine))
    return {"objects": len(truth["annotations"]), **{file: len(mine) for file, mine in results.items()}}


def _result(image: int, category: int, box: np.ndarray, score: float) -> dict[str, Any]:
    box = np.concatenate([box[:2], box[2:].clip(1)])
    return {"image_id": image, "category_id": category, "bbox": box.tolist(), "score": round(score, 4)}


def run(folder: Path, resamples: int) -> tuple[float, float]:
    """Seconds of the clock and of the processors that one call of the command takes."""
    command = ["-m", "retrace", "score", *(str(folder / f"{name}.json") for name in ("truth", *NOISE))]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command, "--resamples", str(resamples)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def main() -> None:
    """Time it and write benchmarks/results/scoring.json."""
    options = arguments(__doc__, repetitions=3).parse_args()
    images, resamples = (50, 100) if options.tiny else (5000, 1000)
    with tempfile.TemporaryDirectory() as folder:
        counts = write(Path(folder), images, 0)
        times = [run(Path(folder), resamples) for _ in range(options.repetitions)]
    row = {
        "images": images,
        "resamples": resamples,
        **counts,
        "seconds": min(seconds for seconds, _ in times),
        "processor_seconds": min(used for _, used in times),
    }
    save("scoring", options.tiny, [row], repetitions=options.repetitions)


if __name__ == "__main__":
    main()
