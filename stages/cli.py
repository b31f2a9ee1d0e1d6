"""The `retrace` command: thin fronts for what the stages already do. Heavy imports happen inside each command."""

from pathlib import Path
from typing import Annotated

import typer

from stages import __version__
from stages.errors import UserError, stage

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reproducible vision training studies.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"retrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reproducible vision training studies: rerun with `dvc repro`, compare with `dvc exp show`."""


@app.command()
@stage
def use(
    study: Annotated[str, typer.Argument(help="One of `retrace studies`.")],
    demo: Annotated[bool, typer.Option("--demo", help="Embedded data, minutes on a CPU.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite hand edits in params.yaml.")] = False,
) -> None:
    """Switch the study: write params.yaml from studies/<study>.yaml."""
    from stages.commands import use as command

    typer.echo(command.use(study, demo, force))


@app.command()
@stage
def studies() -> None:
    """List the built-in studies: task, title, phases and the data each needs."""
    from rich.console import Console
    from rich.table import Table

    from stages.commands.use import table

    rows = table()
    grid = Table(box=None, pad_edge=False, show_lines=False, expand=False)
    for name in ("study", "task", "phases"):
        grid.add_column(name, no_wrap=name != "phases")
    grid.add_column("title, and the data it needs")
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
    from stages.commands.watch import watch as follow
    from stages.params import load

    follow(load().study, once)


@app.command()
@stage
def doctor() -> None:
    """Check this machine: Python, lock, torch and GPU, DVC, Git, disk, codecs - each with its remedy."""
    from stages.commands.doctor import ERROR, examine

    errors = 0
    for finding in examine():
        errors += finding.level == ERROR
        typer.echo(f"{finding.level:<8} {finding.check:<14} {finding.found}")
        if finding.remedy and finding.level != "ok":
            typer.echo(f"{'':<8} {'':<14} -> {finding.remedy}")
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
    from stages.commands.predict import predict as run
    from stages.params import load

    result = run(load(), source, phase, every, max_frames, out)
    typer.echo(f"{out}: {result.summary()}")
    if result.problems:
        raise UserError(
            "\n       ".join([*result.problems, f"the {result.frames} frames before and after are kept in {out}"])
        )


def main() -> None:
    """Entry point of the `retrace` console script."""
    app()


if __name__ == "__main__":
    main()
