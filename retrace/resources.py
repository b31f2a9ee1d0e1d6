"""What a process may use of its machine: cores, memory, and what follows from them for loading images."""

import os
import re
from pathlib import Path

from retrace.config.machine import Machine

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # limits of a container, version 2
UNKNOWN_GIB = 6.0  # of memory, assumed where the system is silent
CACHE_SHARE = 1 / 3  # of the memory, for decoded images
MOST_WORKERS = 8  # more for one training process did not load faster


def cores() -> int:
    """CPU cores that this process may use: its affinity, or a container's limit where that is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(number) for number in (CGROUP / "cpu.max").read_text().split())
    except (OSError, ValueError):  # "max 100000" where there is no limit
        return count
    return max(1, min(count, quota // period))


def memory() -> tuple[float | None, float | None]:
    """(total, available) in GiB, or what a control group allows where that is less; None where the system is silent."""
    try:
        text = MEMINFO.read_text(encoding="utf-8")
        total, available = (
            int(re.search(rf"^{key}:\s*(\d+)", text, re.M)[1]) / 2**20  # type: ignore[index]
            for key in ("MemTotal", "MemAvailable")
        )
    except (OSError, TypeError):
        return None, None
    try:
        limit = int((CGROUP / "memory.max").read_text()) / GIB  # "max" where there is none
        used = int((CGROUP / "memory.current").read_text()) / GIB
    except (OSError, ValueError):
        return total, available
    return min(total, limit), max(min(available, limit - used), 0.0)


def loader_workers(machine: Machine, device: str) -> int:
    """`machine.workers`, or what the cores allow: on a GPU all but one for each training process, at most 8.

    On a CPU none: there the network takes far longer than its images, and every core is its own.
    device: kind of the device that trains or predicts, e.g. "cuda".
    """
    if machine.workers is not None:
        return machine.workers
    if device == "cpu":
        return 0
    return min(MOST_WORKERS, max(1, cores() // machine.devices - 1))


def cache_bytes(machine: Machine) -> int:
    """Bytes of decoded images that one training process may hold: its share of `machine.cache_gib`."""
    limit = machine.cache_gib
    if limit is None:
        limit = CACHE_SHARE * (memory()[0] or UNKNOWN_GIB)
    return int(limit * GIB) // machine.devices
