"""Wall time of the pipeline itself: `python -m benchmarks.pipeline [--study S ...] [--keep FOLDER]`.

Per study: a clone of the committed project with an empty cache runs its demo once (`cold`), then `dvc repro` again with
nothing to do (`no-op`, median). What the journals say of training and evaluation is taken off the cold time; the rest
is data, interpreter starts, imports and DVC. `--keep` leaves the clones there, results and cache included.
`--large`: 20,000 images are collected once, then `dvc repro` has nothing to do.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import RESULTS, arguments, save
from benchmarks.project import ROOT, parameters, project, run
from retrace.files import read_json

STUDIES = ("lanes", "offroad", "bdd100k", "slopes", "plates")
LEARNING = ("pretrain", "finetune", "evaluate")
LARGE = 20_000


@contextlib.contextmanager
def clone(keep: Path | None, study: str) -> Iterator[Path]:
    """A clone of the committed project with nothing in its cache."""
    base = keep or Path(tempfile.mkdtemp(prefix="retrace-benchmark-"))
    folder = base / study
    try:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        yield folder
    finally:
        if keep is None:
            shutil.rmtree(base, ignore_errors=True)


def learning_seconds(folder: Path, study: str) -> float:
    """What the journals of one run say of pre-training, training and evaluation together."""
    entries = [read_json(path) for path in sorted((folder / "logs" / study).rglob("*.json"))]
    return sum(entry["seconds"] for entry in entries if entry.get("stage") in LEARNING)


def cold(study: str, repetitions: int, keep: Path | None, tiny: bool) -> dict[str, Any]:
    """One study's demo from nothing, then with nothing to do."""
    with clone(keep, study) as folder:
        run(folder, sys.executable, "-m", "retrace", "use", study, "--demo", "--force")
        load = os.getloadavg()[0]
        start = time.perf_counter()
        run(folder, "dvc", "repro", *(["collect"] if tiny else []))
        seconds = time.perf_counter() - start
        learning = learning_seconds(folder, study)
        again = []
        for _ in range(repetitions):
            start = time.perf_counter()
            run(folder, "dvc", "repro", *(["collect"] if tiny else []))
            again.append(time.perf_counter() - start)
        row = {"study": study, "cold_s": seconds, "learning_s": learning, "noop_s": statistics.median(again)}
        row |= {"outside": 1 - learning / seconds, "load": load}
        row["cache_MiB"] = _size(folder / ".dvc" / "cache") / 2**20
        print(json.dumps(row), flush=True)
        return row


def large(count: int, repetitions: int) -> dict[str, Any]:
    """`dvc repro` with nothing to do when the data set has `count` images (most of them unlabeled)."""
    with tempfile.TemporaryDirectory(prefix="retrace-benchmark-") as name:
        random = np.random.default_rng(0)
        for index in range(count):
            pixels = np.asarray(Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((96, 64)))
            Image.fromarray(pixels).save(Path(name) / f"{index:05d}.jpg")
        drawn = {"height": 64, "width": 96, "train": 8, "val": 4, "test": 4, "unlabeled": 8}
        values = parameters(
            "lanes",
            {
                "data": {"synthetic": drawn, "unlabeled": [{"path": name, "every": 1}]},
                "rebalance": {"min_val_instances": 0, "min_test_instances": 0, "min_pixels": 5},
                "pretrain": {"method": "none"},
                "phase_defaults": {"fabric": {"input_size": [64, 96], "epochs": 1}},
                "phases": {"mae_ohem": {"init": "none"}},
            },
        )
        with project(values, git=True) as folder:
            first, *again = (_timed(folder) for _ in range(1 + repetitions))
    return {"images": count, "cold_s": first, "noop_s": statistics.median(again)}


def _timed(folder: Path) -> float:
    start = time.perf_counter()
    run(folder, "dvc", "repro")
    return time.perf_counter() - start


def _size(folder: Path) -> int:
    """Bytes on disk of the files below `folder`."""
    return sum(os.lstat(path).st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Time the studies asked for and write benchmarks/results/pipeline.json, other studies' rows kept."""
    parser = arguments(__doc__)
    parser.add_argument("--study", nargs="*", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--keep", type=Path, help="an empty or new folder that gets the clones")
    parser.add_argument("--large", action="store_true", help="the 20,000-image no-op, too")
    options = parser.parse_args()
    path = RESULTS / "pipeline.json"
    before = read_json(path) if path.is_file() else {"rows": []}
    rows = {row["study"]: row for row in before["rows"]}
    rows |= {study: cold(study, options.repetitions, options.keep, options.tiny) for study in options.study}
    more = {"large": before.get("large")}
    if options.large:
        more = {"large": large(100 if options.tiny else LARGE, options.repetitions)}
    save("pipeline", options.tiny, [rows[study] for study in STUDIES if study in rows], **more)


if __name__ == "__main__":
    main()
