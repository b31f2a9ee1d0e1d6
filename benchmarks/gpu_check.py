"""Check what a GPU makes of the kit: layers, memory, bits, waits, mixed precision, scores, workers, speed.

    python benchmarks/gpu_check.py --output gpu.jsonl              # all parts, all studies, at most 10 minutes
    python benchmarks/gpu_check.py --parts ops memory --study plates lanes --budget 300
    python benchmarks/gpu_check.py --device cpu --study lanes      # tiny sizes: does the check itself work?

It runs on a bare machine with PyTorch, torchvision, timm and Lightning; packages that are missing there are taken from
`.gpu-wheels/`, which `make gpu-wheels` fills. First it prints which versions are not those of the lock. Then it prints
one JSON line per check as the check ends: `part`, `name`, `state` (passed, failed, or skipped with `why`), figures.
Exit code 1 if a check failed. Nothing is downloaded; the starting weights are random.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / ".gpu-wheels"
BUDGET = 570  # seconds


def main() -> None:
    """Make the checks; `--output` keeps the lines."""
    from benchmarks.gpu.parts import PARTS
    from benchmarks.gpu.settings import STUDIES
    from benchmarks.gpu.trainings import Clock, Study
    from benchmarks.gpu.wheels import versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=6, help="batches per epoch, two epochs per training")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds; checks that do not fit are skipped")
    parser.add_argument("--output", type=Path, help="also write the lines to this file")
    options = parser.parse_args()
    if options.device == "cuda" and not found_device():
        return
    lines = Lines(options.output)
    lines.add(describe(options.device) | {"differs_from_lock": versions(), "steps": options.steps})
    clock = Clock(options.budget)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        studies = []
        for name in options.study:
            studies.append(Study(name, Path(folder) / name, options.device, options.steps, clock))
        for part in options.parts:
            for name, check in PARTS[part](studies, options.device):
                lines.add({"part": part, "name": name} | outcome(check, clock))
    lines.end()


def outcome(check: Callable[[], dict[str, Any]], clock: Any) -> dict[str, Any]:
    """Make one check: its state, its figures, and how long it took."""
    from benchmarks.gpu.trainings import CheckFailed, Unavailable

    if not clock.left:
        return {"state": "skipped", "why": "the time is up"}
    began = time.monotonic()
    try:
        found = {"state": "passed", **check()}
    except CheckFailed as error:
        found = {"state": "failed", "why": str(error)}
    except Unavailable as error:
        found = {"state": "skipped", "why": str(error)}
    return found | {"took_seconds": round(time.monotonic() - began, 2)}


class Lines:
    """The JSON lines, printed and kept as they come."""

    def __init__(self, path: Path | None):
        self._path = path.resolve() if path else None
        self._states: list[str] = []
        if self._path:
            self._path.write_text("", encoding="utf-8")

    def add(self, line: dict[str, Any]) -> None:
        """Print a line."""
        text = json.dumps(line)
        print(text, flush=True)
        self._states.append(line.get("state", ""))
        if self._path:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(text + "\n")

    def end(self) -> None:
        """Print how many checks passed; exit with 1 if one failed."""
        counts = {state: self._states.count(state) for state in ("passed", "failed", "skipped")}
        print(", ".join(f"{count} {state}" for state, count in counts.items()), file=sys.stderr)
        if counts["failed"]:
            raise SystemExit(1)


def found_device() -> bool:
    """Whether torch has a CUDA device; if not, say so. Exits with the cause if there is one that torch cannot use."""
    import torch

    if torch.cuda.is_available():
        return True
    from retrace.nvidia import hindrance

    found = hindrance()
    if found and not found.deliberate:
        raise SystemExit(f"error: nothing was checked: torch cannot use this machine's device: {found.cause}")
    print("skipped: no CUDA device here; nothing was checked (--device cpu tries the check itself)")
    return False


def describe(device: str) -> dict[str, Any]:
    """The machine."""
    import torch

    found: dict[str, Any] = {"device": device, "torch": torch.__version__, "python": sys.version.split()[0]}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "capability": f"{properties.major}.{properties.minor}"}
        found |= {"memory_gib": round(properties.total_memory / 2**30, 2), "cuda": torch.version.cuda}
        found |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cuda.matmul.allow_tf32}
    return found


def carry() -> None:
    """Put carried packages on the path, of this process and of those that it starts, before the kit is imported."""
    from benchmarks.gpu.wheels import install

    if WHEELS.is_dir():
        site = tempfile.mkdtemp(prefix="gpu-check-site-")
        install(WHEELS, Path(site))
        given = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([site, *([given] if given else [])])
        sys.path.insert(0, site)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    carry()
    main()
