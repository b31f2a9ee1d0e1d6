"""Timing by turns, and results as files: what every benchmark shares."""

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from retrace.files import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "ultralytics", "faster-coco-eval", "dvc")
SHOWN = ("torch", "torchvision", "ultralytics")

Side = Callable[[], Any]


def alternate(sides: Mapping[str, Side], repetitions: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of every call: all sides in turn, again and again, so that a noisy machine disturbs them alike.

    warm_up: call each side once, untimed, first (caches, allocators, threads).
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    if warm_up:
        for side in sides.values():
            side()
    for repetition in range(repetitions):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
            print(f"  {repetition + 1}/{repetitions} {name}: {seconds[name][-1]:.3f} s", flush=True)
    return seconds


@contextlib.contextmanager
def own_process(build: Callable[..., Side], *given: Any) -> Iterator[Side]:
    """The side that `build(*given)` makes, in a process of its own: process-wide settings of one side stay with it.

    build, given: importable and picklable. The process waits without using the processor while other sides run.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, given), daemon=False)
    process.start()
    there.close()
    here.recv()  # built; an EOFError if it failed, after its traceback

    def side() -> None:
        here.send("run")
        here.recv()

    try:
        yield side
    finally:
        here.close()
        process.join()


def _serve(pipe: Any, build: Callable[..., Side], given: Sequence[Any]) -> None:
    side = build(*given)
    pipe.send("built")
    with contextlib.suppress(EOFError):
        while pipe.recv():
            side()
            pipe.send("done")


def rates(seconds: Mapping[str, Sequence[float]], items: int) -> dict[str, dict[str, float]]:
    """Items per second of each side: the median repetition, the slowest and the fastest."""
    return {
        name: {
            "median": items / statistics.median(values),
            "slowest": items / max(values),
            "fastest": items / min(values),
        }
        for name, values in seconds.items()
    }


def machine() -> dict[str, Any]:
    """Hardware and versions: a figure without them says nothing."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    """The model's name and the low-precision instructions that decide what bfloat16 can do."""
    path = Path("/proc/cpuinfo")
    rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in rows)}
    fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in named.get("flags", "").split()]
    return f"{named.get('model name', platform.machine())} ({', '.join(fast) or 'no wide vectors'})"


def _version(name: str) -> str:
    for distribution in (name, f"{name}-opencv-headless"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def arguments(description: str | None, repetitions: int = 5) -> argparse.ArgumentParser:
    """`--repetitions` and `--tiny`, which every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=repetitions, help="timed turns of every side")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    return parser


def save(name: str, tiny: bool, rows: list[dict[str, Any]], **more: Any) -> None:
    """benchmarks/results/<name>.json, from which docs/benchmarks.md is written; a tiny run leaves it alone."""
    print(*(f"{row}" for row in rows), sep="\n")
    if not tiny:
        write_json(RESULTS / f"{name}.json", {"machine": machine(), "rows": rows, **more})
