"""How hashing, near-duplicate grouping and the split grow with the data: `python -m benchmarks.data`.

Hashing: generated JPEG photographs are read, decoded and hashed as `collect` does. Grouping and split: generated
perceptual hashes and class counts of 1,000, 10,000 and 100,000 images, a twentieth of them near-duplicates; peak memory
is the process's, measured in a process of its own.
"""

import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import arguments, save
from retrace.data.duplicates import join, near_duplicate_sets
from retrace.data.hashing import inspect
from retrace.data.rebalancing import Problem, assign

COUNTS = (1_000, 10_000, 100_000)
CLASSES = 19
DISTANCE = 3


def generated(count: int, seed: int) -> tuple[np.ndarray, Problem]:
    """Hashes uint64 [n] and the split problem they come with: 80/10/10 as given, a rare class short in val."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    twins = random.choice(count, count // 20, replace=False)
    hashes[twins] = hashes[random.integers(0, count, len(twins))] ^ (
        np.uint64(1) << random.integers(0, 64, len(twins)).astype(np.uint64)
    )
    given = random.choice(3, count, p=(0.8, 0.1, 0.1))
    rates = np.geomspace(3, 0.02, CLASSES)
    instances = random.poisson(rates, (count, CLASSES))
    minimum = np.full((2, CLASSES), max(1, count // 400), dtype=np.int64)
    unit = np.arange(count, dtype=np.int64)
    return hashes, Problem(given, unit, instances.astype(np.int64), minimum)


def one(count: int) -> dict[str, float]:
    """Seconds of grouping and of the split for one count, and this process's peak memory in MiB."""
    hashes, problem = generated(count, 0)
    start = time.perf_counter()
    near = near_duplicate_sets(hashes, DISTANCE)
    grouped = time.perf_counter()
    units = join(problem.unit, near)
    order = np.random.default_rng(1).permutation(int(units.max()) + 1).astype(np.int64)
    assign(Problem(problem.given, units, problem.instances, problem.minimum), order)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"group_s": grouped - start, "split_s": done - grouped, "peak_MiB": peak}


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of 640 x 480 with structure at several scales."""
    random = np.random.default_rng(3)
    paths = []
    for index in range(count):
        layers = [
            Image.fromarray(random.integers(0, 256, (n, n * 4 // 3, 3), dtype=np.uint8)).resize((640, 480))
            for n in (3, 12, 48)
        ]
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(np.mean([np.asarray(layer) for layer in layers], axis=0).astype(np.uint8)).save(
            path, quality=90
        )
        paths.append(path)
    return paths


def hashing(count: int, repetitions: int) -> float:
    """Median milliseconds per photograph on one core."""
    with tempfile.TemporaryDirectory() as name:
        paths = photographs(Path(name), count)
        seconds = []
        for _ in range(repetitions):
            start = time.perf_counter()
            for path in paths:
                inspect(path.read_bytes())
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds) / count


def grown(rows: list[dict[str, Any]], key: str) -> list[float]:
    """For each step of `rows`: its growth over that of n log n; at most 1 means no worse."""
    steps = []
    for small, large in pairwise(rows):
        expected = large["images"] * math.log(large["images"]) / (small["images"] * math.log(small["images"]))
        steps.append(large[key] / small[key] / expected)
    return steps


def main() -> None:
    """Time all and write benchmarks/results/data.json; `--one N` is the process of one count."""
    parser = arguments(__doc__)
    parser.add_argument("--one", type=int, help="measure one count here and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    rows: list[dict[str, Any]] = []
    for count in COUNTS[:1] if options.tiny else COUNTS:
        command = [sys.executable, "-m", "benchmarks.data", "--one", str(count)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(options.repetitions)
        ]
        rows.append({"images": count} | {key: statistics.median(run[key] for run in runs) for key in runs[0]})
    milliseconds = hashing(20 if options.tiny else 400, options.repetitions)
    growth = {key: grown(rows, key) for key in ("group_s", "split_s")}
    save("data", options.tiny, rows, growth=growth, hash_ms=milliseconds, repetitions=options.repetitions)


if __name__ == "__main__":
    main()
