"""The `retrace` command line. Each command imports what it needs when it runs, so that `--help` stays fast."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from retrace import __version__
from retrace.cli import judging, proving
from retrace.cli.project import require_project
from retrace.errors import UserError, stage

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reproducible training studies for computer vision.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"retrace {__version__}")
        raise typer.Exit


def _examples(*commands: str) -> str:
    """The end of a help text; each command is a paragraph, so that it gets a line of its own."""
    return "\n\n".join(("Examples:", *commands))


ANYWHERE = ("studies", "doctor", "score", "verify", "sign")  # or some of their options can be used anywhere


@app.callback()
@stage
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reproducible training studies for computer vision. Run a study with `dvc repro`."""
    if context.invoked_subcommand not in ANYWHERE and "--help" not in sys.argv:
        require_project()


@app.command(epilog=_examples("retrace use offroad --demo", "retrace use lanes --force"))
@stage
def use(
    study: Annotated[str, typer.Argument(help="Name of the study; `retrace studies` lists them.")],
    demo: Annotated[bool, typer.Option("--demo", help="Use generated demo data; takes minutes on a CPU.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite your edits in params.yaml.")] = False,
) -> None:
    """Select a study: write params.yaml from studies/<study>.yaml."""
    from retrace.cli import use as command

    typer.echo(command.use(study, demo, force))


@app.command(epilog=_examples("retrace new highway --from lanes"))
@stage
def new(
    name: Annotated[str, typer.Argument(help="Name of your study: letters, digits and _.")],
    source: Annotated[str, typer.Option("--from", help="The study to start from; `retrace studies` lists them.")],
) -> None:
    """Start a study of your own: write studies/<name>.yaml from another study's file."""
    from retrace.cli.new import new as start

    typer.echo(start(name, source))


@app.command(epilog=_examples("retrace inspect data/external/boats", "retrace inspect exports/road --format coco"))
@stage
def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder with images and labels, as downloaded or exported.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the study; default: of the folder.")] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="Use this format (data.source.kind); default: what fits best.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="segmentation | detection; default: what fits best.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing study file.")] = False,
) -> None:
    """Recognize the format of a folder, show what is in it, and write a study file for it."""
    from retrace.cli.inspect import inspect as look

    for line in look(folder, name, kind, task, force):
        typer.echo(line)


@app.command(epilog=_examples("retrace plan --detect 0.01", "retrace plan --detect 0.02 --metric focus_mIoU"))
@stage
def plan(
    detect: Annotated[
        float, typer.Option("--detect", help="The difference to find, in the unit of the metric, e.g. 0.01.")
    ],
    metric: Annotated[str | None, typer.Option("--metric", help="Default: the study's headline metric.")] = None,
) -> None:
    """Say how many images, sequences and seeds it takes to detect a difference."""
    from rich.console import Console
    from rich.table import Table

    from retrace.cli import plan as command

    name, split, needs = command.needs(detect, metric)
    grid = Table(box=None, pad_edge=False, title=f"{name} on {split}", title_justify="left")
    for heading in ("comparison", "has", "detects", f"for {detect:g}"):
        grid.add_column(heading, overflow="fold")
    for need in needs:
        apart = "" if need.unit == "image" else f" in {need.units} {need.unit}s"
        wanted = "" if need.unit == "image" else f" in {need.wanted_units:,} {need.unit}s"
        has = f"{need.images:,} images{apart}"
        grid.add_row(need.comparison, has, f"{need.detectable:.3f}", f"{need.wanted_images:,} images{wanted}")
    console = Console(highlight=False)
    console.print(grid)
    console.print("With 80 % power at the 5 % level, from the spread in the report of this study.")
    spread = command.seeds(detect, name)
    if spread is None:
        console.print("Seeds: unknown, since the study has neither `repeats` nor an ablation (`retrace ablate`).")
        return
    value, runs, seeds = spread
    console.print(f"Seeds: {seeds} of each phase (spread over seeds {value:.4f}, from {runs} runs).")


@app.command(epilog=_examples("retrace studies"))
@stage
def studies() -> None:
    """List the built-in studies with their task, phases, title and the data they need."""
    from rich.console import Console
    from rich.table import Table

    from retrace.cli.use import table

    rows = table()
    grid = Table(box=None, pad_edge=False, show_lines=False, expand=False)
    for name in ("study", "task", "phases"):
        grid.add_column(name, no_wrap=name != "phases")
    grid.add_column("title and required data", overflow="fold")
    for row in rows:
        grid.add_row(row["study"], row["task"], row["phases"], f"{row['title']}: {row['data needed']}")
        grid.add_row()
    Console().print(grid)


@app.command(epilog=_examples("retrace watch", "retrace watch --once"))
@stage
def watch(
    once: Annotated[bool, typer.Option("--once", help="Print the latest status and exit.")] = False,
) -> None:
    """Show the progress of a running training from another terminal."""
    from retrace.cli.watch import watch as follow
    from retrace.config.load import load

    follow(load().study, once)


@app.command(epilog=_examples("retrace doctor"))
@stage
def doctor() -> None:
    """Check whether this machine is ready: Python, packages, GPUs, DVC, Git, memory, disk and video codecs."""
    from retrace.cli.doctor import examine, line_width
    from retrace.cli.findings import ERROR

    errors = 0
    for finding in examine():
        errors += finding.level == ERROR
        typer.echo(finding.lines(line_width()))
    if errors:
        raise UserError(f"{errors} of these checks failed; fix them before you run `dvc repro`")


@app.command(epilog=_examples("retrace site", "retrace site --out public"))
@stage
def site(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write; a site that is already there is replaced.")
    ] = Path("site"),
) -> None:
    """Write the reports, ablations and comparison of all studies as one static site with a search."""
    from retrace.cli.site import site as write

    for line in write(out):
        typer.echo(line)


@app.command(epilog=_examples("retrace ablate --dry-run", "retrace ablate --design one-at-a-time --jobs 2"))
@stage
def ablate(
    design: Annotated[
        str, typer.Option("--design", help="Which combinations to run: full, one-at-a-time or leave-one-out.")
    ] = "full",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Experiments that run at the same time; default: one, on Ray all."),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="Where experiments run: dvc (this machine) or ray (a cluster).")
    ] = "dvc",
    address: Annotated[str, typer.Option("--address", help="Address of the Ray cluster.")] = "auto",
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs per experiment on Ray.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the experiments and their estimated time without running them.")
    ] = False,
) -> None:
    """Measure the effect of each change in a phase by switching the changes on and off."""
    from retrace.cli import ablate as command

    command.main(design, jobs, engine, address, gpus, dry_run, typer.echo)


@app.command(
    context_settings={"ignore_unknown_options": True},  # -3.0 is a number, not an option
    epilog=_examples("retrace why 0.779", "retrace why test_mIoU --study lanes --hashes"),
)
@stage
def why(
    query: Annotated[
        str, typer.Argument(help="A number as printed (0.752), a key (mIoU, metrics.json:test_mIoU) or FILE:KEY.")
    ],
    study: Annotated[str | None, typer.Option("--study", help="Search only the report of this study.")] = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Also print every match, sha256 and md5.")] = False,
) -> None:
    """Show where a number comes from: metrics file, weights, parameters, data, code and commit."""
    from retrace.cli.why import why as trace

    for line in trace(query, study, hashes):
        typer.echo(line)


app.command(
    epilog=_examples("retrace predict photos/ -o out", "retrace predict clip.mp4 --every 5 --phase baseline -o out")
)(judging.predict)
app.command(
    name="label-check", epilog=_examples("retrace label-check", "retrace label-check --phase baseline -o look")
)(judging.label_check)
app.command(
    epilog=_examples(
        "retrace compare lanes", "retrace compare main workspace", "retrace compare offroad -o offroad.tex"
    )
)(judging.compare)
app.command(
    epilog=_examples(
        "retrace score truth.json a.json b.json",
        "retrace score truth.json a.json b.json --unit group --groups '^(.+)_[0-9]+' -o scores.html",
        "retrace score boats/labels/val runs/a/labels runs/b/labels",
        "retrace score masks/ a/ b/ --classes road,car -o scores.tex",
    )
)(judging.score)
app.command(
    epilog=_examples(
        "retrace verify",
        "retrace verify --study lanes --no-rerun",
        "retrace verify --spot 2",
        "retrace verify capsule.zip",
    )
)(proving.verify)
app.command(epilog=_examples("retrace sign --new-key ~/keys/lab", "retrace sign --key ~/keys/lab --study lanes"))(
    proving.sign
)
app.command(epilog=_examples("retrace pack", "retrace pack --study offroad --out offroad.zip"))(proving.pack)
app.command(epilog=_examples("retrace checklist", "retrace checklist --study offroad > CHECKLIST.md"))(
    proving.checklist
)


def main() -> None:
    """Entry point of the `retrace` console script."""
    app()
