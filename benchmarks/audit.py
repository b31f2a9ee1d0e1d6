"""How long the audit of many images takes: `python -m benchmarks.audit [images] [processes]`.

Draws JPEG photographs (640x640, about 90 kB) into a temporary folder, lets `collect`'s own conversion check, hash and
copy them, and groups the hashes by near-duplicates as `rebalance` does. Prints seconds on the clock and of CPU time;
drawing is not counted. The bar: 10,000 images in at most 60 s on two cores.
"""

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from tabulate import tabulate

from retrace.data.duplicates import hash_array, near_duplicate_sets
from retrace.data.formats import Item
from retrace.data.formats.convert import Converted, Job, Refused, convert_all
from retrace.documents.manifest import Record
from retrace.progress import track

SIDE, QUALITY = 640, 88
DISTANCE = 3  # bits, rebalance.duplicate_distance


def draw(folder: Path, count: int) -> list[Path]:
    """`count` JPEG files, every one another picture: soft shapes with the grain of a sensor."""
    random = np.random.default_rng(0)
    grain = random.normal(0, 6, (SIDE, SIDE, 3))
    paths = []
    for index in track(range(count), "drawing", total=count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels = np.clip(soft + np.roll(grain, int(random.integers(SIDE)), axis=0), 0, 255)
        paths.append(folder / f"{index:05d}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1], quality=QUALITY)
    return paths


def hashed(paths: list[Path], folder: Path, processes: int) -> list[Record]:
    """What `collect` does with images: check, decode, hash and copy each."""
    (folder / "images").mkdir(parents=True)
    jobs = [Job(Item(path, path.name, "train"), path.stem, path.stem, "train", folder, ()) for path in paths]
    found: Iterable[Converted | Refused] = track(convert_all(jobs, processes), "hashing", total=len(jobs))
    return [result.record for result in found if isinstance(result, Converted)]


def cpu_seconds() -> float:
    """Of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(count: int, processes: int) -> None:
    """Measure and print."""
    rows: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="retrace_audit_") as folder:
        paths = draw(Path(folder), count)
        size = sum(path.stat().st_size for path in paths) / count
        clock, cpu = time.perf_counter(), cpu_seconds()
        records = hashed(paths, Path(folder, "raw"), processes)
        rows.append(("check, hash and copy", time.perf_counter() - clock, cpu_seconds() - cpu))
        assert len(records) == count
        clock, cpu = time.perf_counter(), cpu_seconds()
        sets = near_duplicate_sets(hash_array([record.phash for record in records]), DISTANCE)
        rows.append((f"group (distance {DISTANCE})", time.perf_counter() - clock, cpu_seconds() - cpu))
    rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores, {processes} processes")
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}, NumPy {np.__version__}")
    print(f"{count:,} JPEG files of {SIDE} x {SIDE}, {size / 1000:.0f} kB on average, {int(sets.max()) + 1:,} sets")
    print(tabulate(rows, headers=["step", "seconds", "CPU seconds"], floatfmt=".1f"))


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [10_000, os.cpu_count() or 1][len(given) :]))
