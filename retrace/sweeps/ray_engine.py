"""Experiments as Ray tasks: each in a fresh clone that pulls from and pushes to the Git remote and the DVC remote.

Nothing but the two remotes is shared between the machines, so a worker that dies takes nothing with it: Ray starts the
task again elsewhere, and an experiment that was pushed already is not run twice. Every machine of the cluster needs
this project's environment and Ray (requirements/ray.txt).
"""

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.files import write_text
from retrace.programs import DVC, dvc, environment, git, last_line
from retrace.progress import bars
from retrace.sweeps.design import Experiment
from retrace.sweeps.experiments import command, interrupted, log_file, targets
from retrace.sweeps.workspace import Workspace

RETRIES = 5  # how often a task is started again after its worker died
POLL = 1.0  # seconds


def on_cluster(address: str, gpus: float, jobs: int | None) -> Callable[..., dict[str, str]]:
    """What `retrace ablate` runs experiments with. gpus: of one experiment; jobs: at most so many at a time.

    Raises `UserError` where Ray is not installed; what it returns, where a remote or the cluster cannot be used.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "--engine ray needs Ray: pip install --no-deps --require-hashes -r requirements/ray.txt, on every machine"
        ) from None

    def run(workspace: Workspace, params: Params, todo: Sequence[Experiment], total: int) -> dict[str, str]:
        assert params.ablation is not None
        remote, url = git_remote(workspace.root)
        base = f"refs/retrace/{workspace.commit}"
        git("push", "-q", remote, f"{workspace.commit}:{base}", folder=workspace.root)
        workspace.dvc("push", "--quiet")
        local = workspace.root / ".dvc" / "config.local"
        settings = local.read_text(encoding="utf-8") if local.is_file() else ""
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise UserError(
                f"--address {address}: no Ray cluster there ({error}); start one with `ray start`"
            ) from None
        try:
            options = {"num_gpus": gpus, "num_cpus": params.runtime.threads, "max_retries": RETRIES}
            task = ray.remote(**options)(run_in_clone)
            calls: list[tuple[str, tuple[Any, ...]]] = [
                (e.name, (url, base, workspace.commit, settings, e, params.ablation.phase)) for e in todo
            ]
            return _drive(ray, task, calls, workspace, remote, total, jobs or len(calls))
        except KeyboardInterrupt:
            interrupted("the tasks on the cluster end with this command")
        finally:
            ray.shutdown()
            git("push", "-q", remote, f":{base}", folder=workspace.root, check=False)

    return run


def git_remote(folder: Path) -> tuple[str, str]:
    """(name, address) of the Git remote that experiments travel through: `origin`, or the only one."""
    names = git("remote", folder=folder).split()
    name = "origin" if "origin" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise UserError(
            "--engine ray needs a Git remote named origin that every machine reaches: git remote add origin"
        )
    return name, git("remote", "get-url", name, folder=folder).strip()


def _drive(
    ray: Any,
    task: Any,
    calls: list[tuple[str, tuple[Any, ...]]],
    workspace: Workspace,
    remote: str,
    total: int,
    jobs: int,
) -> dict[str, str]:
    failed: dict[str, str] = {}
    waiting = list(calls)
    running: dict[Any, str] = {}
    with bars() as progress:
        bar = progress.add_task("experiments", total=total, completed=total - len(calls), info="")
        while waiting or running:
            while waiting and len(running) < jobs:
                name, arguments = waiting.pop(0)
                running[task.remote(*arguments)] = name
            progress.update(bar, info=f"{len(running)} on the cluster")
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL)
            for reference in ready:
                name = running.pop(reference)
                try:
                    ray.get(reference)
                    dvc("exp", "pull", "--quiet", remote, name, folder=workspace.root)
                except (ray.exceptions.RayError, UserError) as error:
                    log = log_file(workspace, name)
                    write_text(log, f"{error}\n")
                    failed[name] = f"{last_line(str(error))} ({log})"
                progress.advance(bar)
    return failed


def run_in_clone(url: str, base: str, commit: str, settings: str, experiment: Experiment, phase: str) -> str:
    """One experiment on whichever machine Ray chose; returns its name. settings: text of .dvc/config.local."""
    ref = f"refs/exps/{commit[:2]}/{commit[2:]}/{experiment.name}"
    if git("ls-remote", url, ref).strip():
        return experiment.name  # a task that had died after its push
    with tempfile.TemporaryDirectory(prefix="retrace-") as temporary:
        clone = Path(temporary, "project")
        git("clone", "-q", "--no-checkout", url, str(clone))
        git("fetch", "-q", "origin", base, folder=clone)
        git("checkout", "-q", "--detach", commit, folder=clone)
        if settings:
            (clone / ".dvc" / "config.local").write_text(settings, encoding="utf-8")
        for words in (
            ["pull", "--quiet", "--allow-missing", "--with-deps", *targets(phase)],
            command(experiment, phase),
            ["exp", "push", "--quiet", "origin", experiment.name],
        ):
            done = subprocess.run(
                [*DVC, *words], cwd=clone, env=environment(), capture_output=True, text=True, check=False
            )
            if done.returncode:
                output = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
                raise UserError(f"dvc {words[0]} {words[1]}: {output}")
    return experiment.name
