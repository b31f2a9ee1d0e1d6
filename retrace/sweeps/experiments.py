"""Run the experiments of an ablation with `dvc exp run`, one after the other or through DVC's queue.

Only the ablated phase's own stages run (`--single-item`); that all others are up to date is checked first. A finished
experiment is fetched into the user's repository at once: an interrupted sweep loses at most the one that was running.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from retrace.compat.dvc import queue_states
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.files import LOGS
from retrace.programs import DVC, environment, git, last_line
from retrace.progress import bars
from retrace.sweeps.design import Experiment
from retrace.sweeps.git import find
from retrace.sweeps.workspace import Workspace

POLL = 0.5  # seconds


def targets(phase: str) -> tuple[str, str, str]:
    """The stages of one experiment, in their order."""
    return f"finetune@{phase}", f"evaluate@{phase}", "report"


def command(experiment: Experiment, phase: str, *options: str) -> list[str]:
    """The `dvc exp run` of an experiment."""
    sets = [part for override in experiment.overrides() for part in ("-S", override)]
    return ["exp", "run", "--single-item", "-n", experiment.name, *options, *sets, *targets(phase)]


def upstream(params: Params) -> list[str]:
    """The stages that the ablated phase starts from: data, split, starting weights and the phases before it.

    Where a factor sets `init`, the phases of both its levels count.
    """
    assert params.ablation is not None
    levels = [level for factor in params.ablation.factors.values() for level in (factor.off, factor.on)]
    waiting = [level["init"] for level in levels if "init" in level] or [params.phases[params.ablation.phase].init]
    found = ["collect", "rebalance", "pretrain"]
    while waiting:
        phase = waiting.pop()
        if phase in params.phases and f"finetune@{phase}" not in found:
            found.append(f"finetune@{phase}")
            waiting.append(params.phases[phase].init)
    return found


def check_upstream(workspace: Workspace, params: Params) -> None:
    """Raise `UserError` when a stage that the ablated phase starts from would have to run again.

    Other stages do not matter: a phase that the ablated one does not start from may be out of date.
    """
    found = json.loads(workspace.dvc("status", "--json", *upstream(params)))
    stale = []
    for stage, problems in found.items():
        changes = {key: value for problem in problems if isinstance(problem, dict) for key, value in problem.items()}
        # the source of `collect` is not in a clone; what was read from it is in the cache
        deps = {path: what for path, what in changes.get("changed deps", {}).items() if what != "deleted"}
        if deps or changes.get("changed outs") or "changed command" in problems:
            stale.append(stage)
    if stale:
        raise UserError(
            f"{', '.join(sorted(stale))}: not up to date at the last commit, and an ablation does not run the "
            "stages before its phase; run `dvc repro`, commit dvc.lock and the results, then `retrace ablate`"
        )


@contextmanager
def exclusive(workspace: Workspace) -> Iterator[None]:
    """One ablation of a study at a time. What a killed one left running is waited for: its result counts."""
    import fcntl

    workspace.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(workspace.folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another `retrace ablate` is running in {workspace.folder}; wait for it or stop it"
            ) from None
        if running := left_running(workspace.folder):
            numbers = ", ".join(str(number) for number in running)
            print(
                f"processes of an interrupted ablation are still running ({numbers}); waiting for them to finish",
                file=sys.stderr,
            )
        while left_running(workspace.folder):
            time.sleep(POLL)
        yield


def left_running(folder: Path) -> list[int]:
    """DVC and stage processes whose working folder lies in the clone."""
    import psutil

    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        where, words = process.info["cwd"], " ".join(process.info["cmdline"] or ())
        if where and Path(where).is_relative_to(folder.resolve()) and ("dvc" in words or "stages." in words):
            found.append(process.pid)
    return sorted(found)


def collect_finished(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Move finished experiments from the clone into the user's repository; returns their names."""
    found = find(names, workspace.folder)
    for experiment in found.values():
        git("fetch", "-q", str(workspace.folder), f"+{experiment.ref}:{experiment.ref}", folder=workspace.root)
        git("update-ref", "-d", experiment.ref, folder=workspace.folder)
    return sorted(found)


def run_in_turn(workspace: Workspace, phase: str, todo: Sequence[Experiment], total: int) -> dict[str, str]:
    """Run one after the other. Returns `{name: why}` of those that failed; the others go on."""
    failed = {}
    with bars() as progress:
        task = progress.add_task("experiments", total=total, completed=total - len(todo), info="")
        for experiment in todo:
            workspace.reset()
            log = log_file(workspace, experiment.name)
            with open(log, "w", encoding="utf-8") as stream:
                process = subprocess.Popen(
                    [*DVC, *command(experiment, phase)],
                    cwd=workspace.folder,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
                while process.poll() is None:
                    progress.update(task, info=f"{experiment.name} {_epoch(workspace, phase)}")
                    _wait(process)
            if not collect_finished(workspace, [experiment.name]):
                failed[experiment.name] = f"{last_line(log.read_text(encoding='utf-8', errors='replace'))} ({log})"
            progress.advance(task)
    return failed


def run_in_queue(workspace: Workspace, phase: str, todo: Sequence[Experiment], total: int, jobs: int) -> dict[str, str]:
    """Run through DVC's queue, `jobs` at a time, each in a temporary folder. Returns `{name: why}` of the failed."""
    names = [experiment.name for experiment in todo]
    try:
        workspace.dvc("queue", "remove", "--all")
        for experiment in todo:
            workspace.dvc(*command(experiment, phase, "--queue"))
        workspace.dvc("queue", "start", "-j", str(jobs))
        done = _follow_queue(workspace, names, total)
    except KeyboardInterrupt:
        stop_queue(workspace)
        collect_finished(workspace, names)
        interrupted("the queue was stopped")
    failed = {name: workspace.dvc("queue", "logs", name, check=False) for name in names if name not in done}
    return {name: last_line(log) or "see `dvc queue status`" for name, log in failed.items()}


def _follow_queue(workspace: Workspace, names: Sequence[str], total: int) -> set[str]:
    """Collect what finishes until nothing is queued or running; the names of those that finished."""
    done: set[str] = set()
    states: dict[str, str] = {}
    with bars() as progress:
        task = progress.add_task("experiments", total=total, completed=total - len(names), info="")
        while True:
            states = queue_states(workspace.folder)
            done |= set(collect_finished(workspace, names))
            running = [name for name in names if states.get(name) == "Running"]
            progress.update(task, completed=total - len(names) + len(done), info=", ".join(running))
            if not running and "Queued" not in states.values():
                return done
            time.sleep(POLL)


def stop_queue(workspace: Workspace) -> None:
    """End DVC's queue workers and what they run: they are daemons, which Ctrl-C at the terminal does not reach."""
    import psutil

    workspace.dvc("queue", "stop", "--kill", check=False)
    for number in left_running(workspace.folder):  # DVC kills its own processes, not the training they started
        with suppress(psutil.NoSuchProcess):
            psutil.Process(number).terminate()


def interrupted(what: str) -> NoReturn:
    """End the command where running experiments cannot go on from their last epoch."""
    print(
        f"interrupted: {what}; run the same command again to go on: finished experiments are kept, "
        "those that were running start from their first epoch",
        file=sys.stderr,
    )
    raise SystemExit(130)


def log_file(workspace: Workspace, name: str) -> Path:
    """Where the output of an experiment goes; its folder exists."""
    path = workspace.root / LOGS / "ablation" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.relative_to(Path.cwd())


def _wait(process: subprocess.Popen) -> None:
    try:
        process.wait(POLL)
    except subprocess.TimeoutExpired:
        return
    except KeyboardInterrupt:
        process.wait()  # the terminal has interrupted it too; let it clean up
        raise


def _epoch(workspace: Workspace, phase: str) -> str:
    """ "epoch 3/8" of the training that runs now, as its live status says."""
    study = workspace.folder.name
    try:
        status = json.loads((workspace.folder / LOGS / study / phase / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return f"epoch {status.get('epoch', 0)}/{status.get('epochs', '?')}" if status.get("state") == "running" else ""
