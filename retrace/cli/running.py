"""Detect a running pipeline: DVC's lock files name its process, each stage's journal that of the stage.

A killed process leaves lock files and journals behind, so each named process is checked to exist.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from retrace.documents.run_log import RunLog
from retrace.documents.status import Status
from retrace.errors import UserError
from retrace.files import LOGS

DVC_LOCKS = (Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock"))  # of the project; of the paths of the stage that runs
PIPELINE = {"repro", "run"}  # `dvc repro`, `dvc exp run`
SILENT = 600  # seconds without a sign of life from another machine (validation on much data stays below)
SLACK = 60  # seconds by which clocks may differ


@dataclass(frozen=True)
class Stage:
    """A stage at work. phase: None for a stage that runs once a study."""

    name: str
    phase: str | None
    seconds: float
    host: str


def running_stages(study: str) -> list[Stage]:
    """The stages of the study that are at work, by their journals."""
    found = []
    for entry in journals(study):
        if entry.status == "RUNNING" and is_alive(entry, entry.started):
            found.append(Stage(entry.stage, entry.phase, age(entry.started), entry.host))
    return found


def journals(study: str) -> list[RunLog]:
    """Every stage's journal, the latest started last."""
    found = []
    for path in sorted((LOGS / study).glob("*.json")) + sorted((LOGS / study).glob("*/*.json")):
        try:
            found.append(RunLog.read(path))
        except UserError:  # written by something else
            continue
    return sorted(found, key=lambda entry: entry.started)


def is_alive(entry: RunLog | Status, updated: str) -> bool:
    """Whether the process that wrote a run log or status still runs.

    updated: its last sign of life, ISO 8601; all that is known of another
    machine or a container.
    """
    if entry.host != os.uname().nodename:
        return age(updated) < SILENT
    return _exists(entry.pid, datetime.fromisoformat(entry.started).timestamp()) is not None


def pipelines() -> set[int]:
    """Process ids of the `dvc repro` and `dvc exp run` that are at work on this project on this machine."""
    found = set()
    for path in DVC_LOCKS:
        try:
            text, changed = path.read_text(encoding="utf-8"), path.stat().st_mtime
        except OSError:
            continue
        for pid in _named(text):
            process = _exists(pid, changed)
            if process is not None and _is_pipeline(process):
                found.add(pid)
    return found


def _named(text: str) -> set[int]:
    """The process ids in one of DVC's lock files: a number, or JSON with "pid" wherever in it."""
    try:
        node = json.loads(text)
    except ValueError:  # empty, or being written
        return set()
    return {node} if isinstance(node, int) else set(_pids(node))


def _pids(node: Any) -> list[int]:
    if isinstance(node, dict) and isinstance(node.get("pid"), int):
        return [node["pid"]]
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [pid for part in inside for pid in _pids(part)]


def _exists(pid: int, seen: float) -> psutil.Process | None:
    """The process, if it is the one that had this id at the time `seen` (seconds since 1970) and has not ended."""
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE or process.create_time() > seen + SLACK
    except psutil.Error:
        return None
    return None if ended else process


def _is_pipeline(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(word).name == "dvc" for word in words) and bool(PIPELINE & set(words))


def age(moment: str) -> float:
    """Seconds since an ISO 8601 time."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
