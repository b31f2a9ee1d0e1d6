"""Estimated time of an ablation, from the journals of the last run of the phase's stages."""

import json
import os
import time
from pathlib import Path

from retrace.provenance.run_log import journal_path

OVERHEAD = 10.0  # seconds that DVC and Git take for an experiment besides its stages, about


def seconds_each(study: str, phase: str, root: Path = Path()) -> float | None:
    """Seconds of one experiment: the last finetune, evaluate and report, with DVC's own share; None without a log."""
    paths = [*(journal_path(study, stage, phase) for stage in ("finetune", "evaluate")), journal_path(study, "report")]
    try:
        rows = [json.loads((root / path).read_text(encoding="utf-8")) for path in paths]
    except (OSError, ValueError):
        return None
    if any(row.get("status") != "SUCCESS" for row in rows):
        return None
    return sum(row["seconds"] for row in rows) + OVERHEAD


def room(study: str, phase: str, threads: int, device: str, root: Path = Path()) -> int | None:
    """How many experiments this machine's cores have room for; None where they do not train on a CPU, or unknown.

    device: machine.device; `auto` is what the last run of the phase took.
    """
    if device == "auto":
        try:
            path = root / journal_path(study, "finetune", phase)
            device = json.loads(path.read_text(encoding="utf-8")).get("device") or ""
        except (OSError, ValueError):
            return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads) if device == "cpu" else None


def announce(todo: int, existing: int, each: float | None, jobs: int | None, room: int | None = None) -> str:
    """One or two lines: the number of experiments, how many exist, the time for the rest and when it will be done.

    jobs: at a time; None: not known. room: how many the cores have room for: more of them slow each other down.
    """
    line = f"{todo + existing} experiments, {existing} of them exist for these inputs, {todo} to run"
    if not todo:
        return line
    if each is None:
        return f"{line}; their time is unknown, because there is no log of the last run of this phase here"
    whole = each * todo
    start = f"{line}\nabout {_duration(each)} each by the last run of this phase: {_duration(whole)} of computing"
    if jobs is None:
        return f"{start}, as many at a time as the cluster has room for"
    wall = each * -(-todo // min(jobs, room or jobs))
    crowded = room is not None and jobs > room
    at_once = f"{jobs} at a time" + (f" (the cores have room for {room})" if crowded else "")
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + wall))
    return f"{start}, {_duration(wall)} with {at_once}, done at about {end}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
