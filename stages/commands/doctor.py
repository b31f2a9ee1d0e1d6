"""`retrace doctor`: can this machine run the study in params.yaml? Each check: ok, warning or error, and a remedy."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages import environment
from stages.errors import UserError

if TYPE_CHECKING:
    from stages.params import Params

OK, WARNING, ERROR = "ok", "warning", "error"
GIB = 2**30
MIN_DRIVER = 580  # CUDA 13.0, which the locked torch wheels bring
MIN_CAPABILITY = (7, 5)  # Turing (T4, RTX 20) is the oldest architecture in those wheels


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    level: str
    found: str
    remedy: str = ""

    def lines(self, width: int) -> str:
        """The finding and, unless it is ok, its remedy, wrapped at `width` characters under their own column."""
        head = f"{self.level:<8} {self.check:<14} "
        parts = [head + self.found]
        if self.remedy and self.level != OK:
            parts.append(f"{'':<{len(head)}}-> {self.remedy}")
        wrap = textwrap.TextWrapper(
            width, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
        )
        return "\n".join(wrap.fill(part) for part in parts)


def line_width() -> int:
    """Characters a line may take: the terminal's, at most 120; one long line per finding in a pipe, for grep."""
    return min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 10_000


def examine() -> Iterator[Finding]:
    """Run every check in turn; a check never raises."""
    checks: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("python", _python),
        ("lock", _lock),
        ("params", _params),
        ("torch", _torch),
        ("dvc", _dvc),
        ("git", _git),
        ("disk", _disk),
        ("shared memory", _shared_memory),
        ("codecs", _codecs),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # a broken machine must not hide the other findings
            yield Finding(
                name, ERROR, f"{type(error).__name__}: {error}", "see the message; `make venv` rebuilds the environment"
            )


def _python() -> list[Finding]:
    version = sys.version_info
    found = f"Python {version[0]}.{version[1]}.{version[2]}"
    if version[:2] != (3, 11):  # the version that the lock is made for
        return [Finding("python", ERROR, found, "make PYTHON=/path/to/python3.11 venv")]
    return [Finding("python", OK, found)]


def _lock() -> list[Finding]:
    try:
        environment.require_matching_image()
    except UserError as error:
        return [Finding("lock", ERROR, str(error), "make image-cpu | make image-cuda")]
    lines = environment.differences()
    if lines:
        more = f" (+{len(lines) - 3} more)" if len(lines) > 3 else ""
        return [Finding("lock", ERROR, "; ".join(lines[:3]) + more, "rm -rf .venv && make venv")]
    return [Finding("lock", OK, f"every package as in {environment.LOCK} ({(environment.lock_hash() or '')[:12]})")]


def _parameters() -> "Params | None":
    from stages.params import load

    try:
        return load()
    except UserError:
        return None  # said by the check of the parameters


def _params() -> list[Finding]:
    from stages.params import load

    try:
        params = load()
    except UserError as error:
        return [Finding("params", ERROR, str(error).splitlines()[0], "edit params.yaml, or: retrace use <study>")]
    findings = [Finding("params", OK, f"study {params.study}, phase {params.phase}")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if params.runtime.threads > cores:
        remedy = "slower, same results; or set runtime.threads and rerun everything"
        findings.append(
            Finding("threads", WARNING, f"runtime.threads = {params.runtime.threads}, {cores} cores here", remedy)
        )
    root = Path(params.data.root)
    if not root.exists():
        findings.append(Finding("data", ERROR, f"{root} is missing", params.report.data_needed or "put the data there"))
    return findings


def _torch() -> list[Finding]:
    import torch

    built = torch.version.cuda
    findings = [Finding("torch", OK, f"torch {torch.__version__}" + (f", CUDA {built}" if built else ", CPU only"))]
    driver, params = _driver(), _parameters()
    wanted = params.machine.device if params else "auto"
    if torch.cuda.is_available():
        return findings + [_card(index, driver) for index in range(torch.cuda.device_count())]
    if wanted == "mps" and torch.backends.mps.is_available():
        findings.append(Finding("gpu", OK, "Apple silicon (mps)"))
    elif driver is not None and built:
        old = int(driver.split(".")[0]) < MIN_DRIVER
        remedy = f"CUDA {built} needs driver {MIN_DRIVER} or newer: update it" if old else "in Docker: add --gpus all"
        level = WARNING if wanted == "cpu" else ERROR
        findings.append(Finding("gpu", level, f"driver {driver}, but torch sees no GPU", remedy))
    elif driver is not None:
        remedy = "to use it: `make image-cuda`, or rm -rf .venv && make venv (without TORCH_INDEX_URL)"
        findings.append(Finding("gpu", WARNING, f"driver {driver}, but this torch is built for CPUs only", remedy))
    elif wanted in ("cuda", "mps"):
        remedy = "set machine.device: auto; in Docker with the CUDA image: add --gpus all"
        findings.append(Finding("gpu", ERROR, f"machine.device = {wanted}, but there is no such GPU", remedy))
    else:
        findings.append(Finding("gpu", OK, "none: training runs on the CPU (the demos need nothing else)"))
    return findings


def _card(index: int, driver: str | None) -> Finding:
    import torch

    card = torch.cuda.get_device_properties(index)
    name, capability = f"gpu {index}", (card.major, card.minor)
    found = f"{card.name}, {card.total_memory / GIB:.1f} GiB, sm_{card.major}{card.minor}, driver {driver or '?'}"
    if capability < MIN_CAPABILITY:
        return Finding(name, ERROR, found, "needs sm_75 or newer (T4, RTX 20 and later); set machine.device: cpu")
    free = torch.cuda.mem_get_info(index)[0] / GIB
    if free < card.total_memory / GIB / 2:
        remedy = "another process holds its memory: see nvidia-smi, or use another GPU (CUDA_VISIBLE_DEVICES)"
        return Finding(name, WARNING, f"{found}, {free:.1f} GiB of it free", remedy)
    return Finding(name, OK, found)


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    result = subprocess.run(query, capture_output=True, text=True, timeout=20)
    lines = result.stdout.split()
    return lines[0] if result.returncode == 0 and lines else None


def _dvc() -> list[Finding]:
    import dvc

    if not Path(".dvc").is_dir():
        return [Finding("dvc", ERROR, "no .dvc folder here", "run this in the project's folder")]
    on_path = shutil.which("dvc")
    if on_path is None:
        return [Finding("dvc", WARNING, f"DVC {dvc.__version__}, not on PATH", "source .venv/bin/activate")]
    return [Finding("dvc", OK, f"DVC {dvc.__version__}")]


def _git() -> list[Finding]:
    if shutil.which("git") is None:
        return [Finding("git", ERROR, "git is not installed", "apt-get install git")]
    inside = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    if inside.returncode:
        unsafe = "dubious ownership" in inside.stderr
        remedy = (
            'git config --global --add safe.directory "$PWD"'
            if unsafe
            else "git init && git commit: DVC needs a history"
        )
        return [Finding("git", ERROR, (inside.stderr.strip().splitlines() or ["no commit"])[0], remedy)]
    missing = [
        k for k in ("user.name", "user.email") if subprocess.run(["git", "config", k], capture_output=True).returncode
    ]
    if missing and not os.environ.get("GIT_AUTHOR_NAME"):
        remedy = 'git config user.name "You"; git config user.email you@example.org'
        return [Finding("git", WARNING, f"{' and '.join(missing)} not set: `dvc exp run` cannot commit", remedy)]
    return [Finding("git", OK, f"revision {inside.stdout[:12]}, identity set")]


def _disk() -> list[Finding]:
    free = shutil.disk_usage(".").free / GIB
    if free < 2:
        return [
            Finding(
                "disk", ERROR, f"{free:.1f} GiB free", "free some space: dvc gc -w, or move the cache (dvc cache dir)"
            )
        ]
    if free < 10:
        return [
            Finding(
                "disk", WARNING, f"{free:.1f} GiB free", "enough for the demos; real data needs about twice its size"
            )
        ]
    return [Finding("disk", OK, f"{free:.0f} GiB free")]


def _shared_memory() -> list[Finding]:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return [Finding("shared memory", OK, "not used on this system")]
    size, params = shutil.disk_usage(folder).total / GIB, _parameters()
    if size < 0.5 and params and not params.machine.workers:
        return [Finding("shared memory", OK, f"{size * 1024:.0f} MiB in /dev/shm (not used: machine.workers is 0)")]
    if size < 0.5:
        remedy = "docker run --shm-size 2g ..., or machine.workers: 0"
        return [Finding("shared memory", WARNING, f"{size * 1024:.0f} MiB in /dev/shm", remedy)]
    return [Finding("shared memory", OK, f"{size:.1f} GiB in /dev/shm")]


def _codecs() -> list[Finding]:
    import cv2
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "probe.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
        for value in (0, 128, 255):
            writer.write(np.full((48, 64, 3), value, np.uint8))
        writer.release()
        capture = cv2.VideoCapture(path)
        read = sum(1 for _ in range(3) if capture.read()[0])
        capture.release()
    if read != 3:
        remedy = "videos will not work; images will. Reinstall: rm -rf .venv && make venv"
        return [Finding("codecs", WARNING, "OpenCV cannot write and read an mp4", remedy)]
    return [Finding("codecs", OK, f"OpenCV {cv2.__version__} writes and reads mp4")]
