"""The `retrace` command: thin fronts for what the stages already do. Heavy imports happen inside each command."""

from typing import Annotated

import typer

from stages import __version__
from stages.errors import stage

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


def main() -> None:
    """Entry point of the `retrace` console script."""
    app()


if __name__ == "__main__":
    main()
