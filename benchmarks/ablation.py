"""Time and disk of `retrace ablate`: `python -m benchmarks.ablation`.

`--folder DIR`: the ablation of a finished, committed project. Without it, the off-road study at 64 x 96 pixels runs
once, then three factors with two seeds, 16 experiments. Disk is what all files below the project take, each inode
counted once: data that experiments copied would show.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import arguments, save
from benchmarks.project import parameters, project, run
from retrace.files import read_json

SMALL: dict[str, Any] = {
    "data": {"synthetic": {"height": 64, "width": 96, "train": 10, "val": 5, "test": 5}},
    "rebalance": {"min_val_instances": 0, "min_pixels": 5},
    "phase_defaults": {"fabric": {"input_size": [64, 96], "epochs": 1}},
    "phases": {"baseline": {"epochs": 1}, "aggressive": {"epochs": 1, "augment": {"crop": 48}}},
    "evaluate": {"bootstrap": 100},
    "ablation": {"factors": {"crop": {"on": {"augment.crop": 48}}}},
}
FACTORS = ("dice", "crop", "augmentation")


def disk(folder: Path) -> float:
    """MiB that the files below `folder` occupy, hard links counted once."""
    seen: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            info = os.lstat(os.path.join(root, name))
            seen[info.st_ino] = info.st_blocks * 512
    return sum(seen.values()) / 2**20


def measure(folder: Path) -> dict[str, Any]:
    """Run `retrace ablate` there."""
    before = disk(folder)
    start = time.perf_counter()
    print(run(folder, sys.executable, "-m", "retrace", "ablate"))
    seconds = time.perf_counter() - start
    found = next(iter(sorted((folder / "reports").glob("*-ablation/ablation.json"))))
    experiments = len(read_json(found)["runs"])
    data = sum(disk(path) for path in sorted((folder / "data").glob("*/raw")))
    models = [path for path in sorted((folder / "models").glob("*/*")) if path.is_dir()]
    return {
        "experiments": experiments,
        "seconds": seconds,
        "grown_MiB": disk(folder) - before,
        "data_MiB": data,
        "model_MiB": max(disk(path) for path in models),
    }


def small() -> dict[str, Any]:
    """The 16 experiments on a throw-away project."""
    values = parameters("offroad", SMALL)
    values["ablation"]["factors"] = {name: values["ablation"]["factors"][name] for name in FACTORS}
    with project(values, git=True) as folder:
        run(folder, "dvc", "repro")
        run(folder, "git", "add", "-A")
        run(folder, "git", "commit", "-qm", "a run")
        return measure(folder)


def main() -> None:
    """Measure and write benchmarks/results/ablation.json."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="a finished, committed project; its experiments are kept")
    options = parser.parse_args()
    row = measure(options.folder) if options.folder else small()
    save("ablation", options.tiny, [row])


if __name__ == "__main__":
    main()
