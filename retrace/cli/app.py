"""The `retrace` command: thin fronts for what the stages already do. Heavy imports happen inside each command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from retrace import __version__
from retrace.errors import UserError, stage

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reproducible vision training studies.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"retrace {__version__}")
        raise typer.Exit


PROJECT = ("dvc.yaml", "params.yaml", "studies")  # a project's folder has one of them at least
ANYWHERE = ("studies", "doctor")


@app.callback()
@stage
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reproducible vision training studies: rerun with `dvc repro`, compare with `dvc exp show`."""
    if context.invoked_subcommand not in ANYWHERE and "--help" not in sys.argv:
        _require_project()


def _require_project() -> None:
    """A `UserError` that says where to go, outside a project's folder."""
    here = Path.cwd()
    if any((here / name).exists() for name in PROJECT):
        return
    above = [folder for folder in here.parents if (folder / "dvc.yaml").is_file()]
    go = f"cd {above[0]}" if above else "cd into a clone of the Retrace repository"
    raise UserError(f"{here} is not a project's folder (no dvc.yaml, no params.yaml); {go}")


@app.command()
@stage
def use(
    study: Annotated[str, typer.Argument(help="One of `retrace studies`.")],
    demo: Annotated[bool, typer.Option("--demo", help="Embedded data, minutes on a CPU.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite hand edits in params.yaml.")] = False,
) -> None:
    """Switch the study: write params.yaml from studies/<study>.yaml."""
    from retrace.cli import use as command

    typer.echo(command.use(study, demo, force))


@app.command()
@stage
def studies() -> None:
    """List the built-in studies: task, title, phases and the data each needs."""
    from rich.console import Console
    from rich.table import Table

    from retrace.cli.use import table

    rows = table()
    grid = Table(box=None, pad_edge=False, show_lines=False, expand=False)
    for name in ("study", "task", "phases"):
        grid.add_column(name, no_wrap=name != "phases")
    grid.add_column("title, and the data it needs", overflow="fold")
    for row in rows:
        grid.add_row(row["study"], row["task"], row["phases"], f"{row['title']}: {row['data needed']}")
        grid.add_row()
    Console().print(grid)


@app.command()
@stage
def watch(
    once: Annotated[bool, typer.Option("--once", help="Print the latest status and stop.")] = False,
) -> None:
    """Follow a running training from another terminal."""
    from retrace.cli.watch import watch as follow
    from retrace.config import load

    follow(load().study, once)


@app.command()
@stage
def doctor() -> None:
    """Check this machine: Python, lock, torch and GPUs, DVC, Git, memory, disk, codecs - each with its remedy."""
    from retrace.cli.doctor import examine, line_width
    from retrace.cli.findings import ERROR

    errors = 0
    for finding in examine():
        errors += finding.level == ERROR
        typer.echo(finding.lines(line_width()))
    if errors:
        raise UserError(f"{errors} of these must be put right before `dvc repro` can work")


@app.command()
@stage
def predict(
    source: Annotated[Path, typer.Argument(help="An image, a folder of images or a video.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    phase: Annotated[str | None, typer.Option("--phase", help="Whose weights; default: the active phase.")] = None,
    every: Annotated[int, typer.Option("--every", help="Take every k-th image or frame.")] = 1,
    max_frames: Annotated[int | None, typer.Option("--max-frames", help="Stop after this many.")] = None,
) -> None:
    """Run a phase's weights on new images or a video: four files per frame and an annotated clip."""
    from retrace.cli.predict import predict as run
    from retrace.config import load

    result = run(load(), source, phase, every, max_frames, out)
    typer.echo(f"{out}: {result.summary()}")
    if result.problems:
        raise UserError(
            "\n       ".join([*result.problems, f"the {result.frames} frames before and after are kept in {out}"])
        )


@app.command()
@stage
def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="Studies, phases (offroad:aggressive), experiments, commits (HEAD~3, main:baseline) or `workspace`. "
            "Default: every study with results."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option("-o", "--out", help="Also write to this .md, .html or .csv; repeatable.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Default: the study's headline metric.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Default: test where it was scored.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Bring the generated tables of README.md, docs/ and reports/ up to date.")
    ] = False,
) -> None:
    """Results side by side, with intervals; paired tests where the same images were scored."""
    from retrace.cli.compare import compare as run
    from retrace.cli.compare import write_documents

    if not write:
        return run(what or [], out or [], metric, split)
    for path in write_documents(what or [], out or [], metric, split) or ["every generated table is up to date"]:
        typer.echo(path)


@app.command()
@stage
def ablate(
    design: Annotated[str, typer.Option("--design", help="full | one-at-a-time | leave-one-out")] = "full",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="At a time, through DVC's queue; default: in turn, on Ray all."),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="dvc (this machine) | ray (a cluster)")] = "dvc",
    address: Annotated[str, typer.Option("--address", help="Of the Ray cluster.")] = "auto",
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="Ray: GPUs of one experiment.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the experiments and what they cost.")] = False,
) -> None:
    """Which change did it: switch the changes of a phase off and on, and attribute the result to each."""
    from retrace.cli import ablate as command

    command.main(design, jobs, engine, address, gpus, dry_run, typer.echo)


@app.command()
@stage
def verify(
    study: Annotated[str | None, typer.Option("--study", help="Default: the study in params.yaml.")] = None,
    rev: Annotated[str, typer.Option("--rev", help="The commit to check.")] = "HEAD",
    data_from_cache: Annotated[
        bool, typer.Option("--data-from-cache", help="Start after collect, with the raw data of your DVC cache.")
    ] = False,
    no_rerun: Annotated[
        bool, typer.Option("--no-rerun", help="Only the checks that take seconds: record, stored files, report.")
    ] = False,
) -> None:
    """Does the result still come out? Rerun a commit in a temporary clone and compare every file and number."""
    from retrace.cli.verify import verify as check

    check(study, rev, data_from_cache, no_rerun)


@app.command(context_settings={"ignore_unknown_options": True})  # -3.0 is a figure, not an option
@stage
def why(
    query: Annotated[str, typer.Argument(help="0.752 | mIoU | metrics.json:test_mIoU | FILE:KEY")],
    study: Annotated[str | None, typer.Option("--study", help="Only this study's report.")] = None,
) -> None:
    """Where a number comes from: metrics file, weights, parameters, data, code, environment and commit."""
    from retrace.cli.why import why as trace

    for line in trace(query, study):
        typer.echo(line)


def main() -> None:
    """Entry point of the `retrace` console script."""
    app()
