"""Peak memory of every stage at demo size and with ten times the images: `python -m benchmarks.memory`.

One epoch a phase. Images that fit the decoded-image cache (`machine.cache_gib`) are meant to be held;
what else grows with the number of images is the manifest.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, arguments, save
from benchmarks.project import parameters, project
from retrace.files import read_json

PHASES = {"lanes": "baseline", "plates": "mobilenet"}
FACTORS = (1, 10)


def peak(folder: Path, *command: str) -> tuple[float, float]:
    """Run a stage; its peak resident memory in MiB and its seconds. Raises on failure."""
    start = time.perf_counter()
    log = folder / "benchmark.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(folder)}
        )
        _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def stages(study: str, factor: int, tiny: bool) -> list[dict[str, Any]]:
    """Peak memory of every stage of one study with `factor` times the images of its demo."""
    drawn = parameters(study, {})["data"]["synthetic"]
    counts = {key: drawn[key] * factor for key in ("train", "val", "test", "unlabeled") if drawn.get(key)}
    if tiny:
        counts = dict.fromkeys(counts, 8 * factor)  # fewer unlabelled images would not make up a video
    changes: dict[str, Any] = {"data": {"synthetic": counts}, "phase_defaults": {"fabric": {"epochs": 1}}}
    changes["rebalance"] = {"min_val_instances": 0, "min_test_instances": 0}
    if study == "lanes":
        changes["pretrain"] = {"mae": {"epochs": 1}}
    values = parameters(study, changes)
    phase = PHASES[study]
    commands = [["collect"], ["rebalance"], ["pretrain"], ["finetune", phase], ["evaluate", phase]]
    rows = []
    with project(values) as folder:
        for name, *rest in commands:
            mib, seconds = peak(folder, sys.executable, "-m", f"stages.{name}", *rest)
            rows.append(
                {"study": study, "stage": name, "images": sum(counts.values()), "peak_MiB": mib, "seconds": seconds}
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure the studies asked for and write benchmarks/results/memory.json, other rows kept."""
    parser = arguments(__doc__, repetitions=1)
    parser.add_argument("--study", nargs="*", default=list(PHASES), choices=list(PHASES))
    options = parser.parse_args()
    path = RESULTS / "memory.json"
    before = read_json(path)["rows"] if path.is_file() else []
    rows = [row for row in before if row["study"] not in options.study]
    rows += [row for study in options.study for factor in FACTORS for row in stages(study, factor, options.tiny)]
    save("memory", options.tiny, sorted(rows, key=lambda row: (row["study"], row["images"])))


if __name__ == "__main__":
    main()
