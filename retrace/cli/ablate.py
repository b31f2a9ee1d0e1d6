"""`retrace ablate`: measure the effect of each change in a phase with DVC experiments."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast, get_args

from tabulate import tabulate

from retrace.config import PARAMS, read_yaml
from retrace.config.load import load
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.sweeps.design import Design, Experiment, experiments
from retrace.sweeps.estimate import announce, room, seconds_each
from retrace.sweeps.experiments import check_upstream, collect_finished, exclusive, run_in_queue, run_in_turn
from retrace.sweeps.git import find, head
from retrace.sweeps.workspace import Workspace

Run = Callable[[Workspace, Params, list[Experiment], int], dict[str, str]]


def main(
    design: str, jobs: int | None, engine: str, address: str, gpus: float, dry_run: bool, say: Callable[[str], None]
) -> None:
    """Check the options, then run `ablate`. Raises `UserError` for an unknown design or engine."""
    if design not in get_args(Design):
        raise UserError(f"--design {design}: no such design; allowed: {', '.join(get_args(Design))}")
    if engine not in ("dvc", "ray"):
        raise UserError(f"--engine {engine}: no such engine; allowed: dvc, ray")
    here, run = engine == "dvc", None
    if here:
        jobs = jobs or 1
        run = _here(jobs)
    elif not dry_run:  # a list must not ask for Ray
        from retrace.sweeps.ray_engine import on_cluster

        run = on_cluster(address, gpus, jobs)
    ablate(cast(Design, design), None if dry_run else run, here, jobs, say)


def ablate(design: Design, run: Run | None, here: bool, jobs: int | None, say: Callable[[str], None]) -> None:
    """Run what is missing, then write reports/<study>-ablation/.

    run: carries the missing experiments out and returns `{name: why}` of the failed; None: only list them.
    here: on this machine, whose cores bound the estimate; jobs: how many at a time, for it; None: not known.
    """
    params, values = load(), read_yaml(PARAMS)
    if params.ablation is None:
        raise UserError(
            "params.yaml: no block `ablation`; add one with phase, seeds and factors (see docs/ablations.md)"
        )
    commit = head()
    planned = experiments(design, params, values)
    names = [experiment.name for experiment in planned]
    existing = find(names)
    todo = [experiment for experiment in planned if experiment.name not in existing]
    phase = params.ablation.phase
    each, cores = seconds_each(params.study, phase), None
    if here:
        cores = room(params.study, phase, params.runtime.threads, params.machine.device)
    say(announce(len(todo), len(existing), each, jobs, cores))
    if run is None:
        say(_table(planned, existing, params))
        return
    failed = {}
    if todo:
        workspace = Workspace(params.study, commit, Path.cwd())
        with exclusive(workspace):
            workspace.prepare()
            check_upstream(workspace, params)
            collected = set(collect_finished(workspace, names))
            todo = [experiment for experiment in todo if experiment.name not in collected]
            failed = run(workspace, params, todo, len(planned))
    if failed:
        lines = [f"{name}: {why}" for name, why in sorted(failed.items())]
        kept = len(planned) - len(failed)
        raise UserError(
            "\n       ".join([*lines, f"{kept} of {len(planned)} experiments are done and kept; run the command again"])
        )
    from retrace.sweeps.report import write_report

    for sentence in write_report(params, design, planned):
        say(sentence)


def _here(jobs: int) -> Run:
    def run(workspace: Workspace, params: Params, todo: list[Experiment], total: int) -> dict[str, str]:
        assert params.ablation is not None
        if jobs > 1:
            return run_in_queue(workspace, params.ablation.phase, todo, total, jobs)
        return run_in_turn(workspace, params.ablation.phase, todo, total)

    return run


def _table(planned: list[Experiment], existing: Collection[str], params: Params) -> str:
    assert params.ablation is not None
    rows = []
    for experiment in planned:
        levels = ["on" if level else "off" for level in experiment.cell]
        state = "exists" if experiment.name in existing else "to run"
        rows.append([*levels, experiment.seed, experiment.training_seed, state, experiment.name])
    return tabulate(rows, [*params.ablation.factors, "seed", "trained with", "", "experiment"], tablefmt="plain")
