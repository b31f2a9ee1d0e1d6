"""The commands that look at predictions and scores: predict, label-check, compare and score. Each imports what it needs
when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from retrace.errors import UserError, stage


@stage
def predict(
    source: Annotated[Path, typer.Argument(help="An image, a folder of images or a video.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    phase: Annotated[
        str | None, typer.Option("--phase", help="Phase whose weights are used; default: the active phase.")
    ] = None,
    every: Annotated[int, typer.Option("--every", help="Predict only every k-th image or frame.")] = 1,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", help="Stop after this many images or frames.")
    ] = None,
) -> None:
    """Predict on new images or a video with the weights of a phase; writes four files per frame."""
    from retrace.cli.predict import predict as run
    from retrace.config.load import load

    result = run(load(), source, phase, every, max_frames, out)
    typer.echo(f"{out}: {result.summary()}")
    if result.problems:
        raise UserError("\n       ".join([*result.problems, f"the other {result.frames} frames are in {out}"]))


@stage
def label_check(
    phase: Annotated[
        str | None, typer.Option("--phase", help="Phase whose predictions judge the labels; default: the active phase.")
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="How many suspects get a picture.")] = 100,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder; default: logs/<study>/label-check/<phase>.")
    ] = None,
) -> None:
    """Rank the labels of val and test that probably need a look, by a phase that was not trained on them."""
    from retrace.cli import label_check as command
    from retrace.config.load import load

    for line in command.lines(*command.check(load(), phase, pictures, out)):
        typer.echo(line)


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
        list[Path] | None,
        typer.Option(
            "-o",
            "--out",
            help="Also write the table to this .md, .html, .csv or .tex (LaTeX) file; you may give several.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Metric to compare; default: the headline metric of the study.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split to compare; default: test if it was scored.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Update the generated tables in README.md, docs/ and reports/.")
    ] = False,
) -> None:
    """Compare results side by side, with intervals, and with paired tests where the images are the same."""
    from retrace.cli.compare import compare as run
    from retrace.cli.compare import write_documents

    if not write:
        return run(what or [], out or [], metric, split)
    for path in write_documents(what or [], out or [], metric, split) or ["all generated tables are up to date"]:
        typer.echo(path)


@stage
def score(
    truth: Annotated[Path, typer.Argument(help="COCO file, folder of YOLO labels, or folder of PNG masks.")],
    predictions: Annotated[
        list[Path], typer.Argument(help="Files (COCO results) or folders with predictions; the first is the baseline.")
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--out",
            help="Also write the tables to this .md, .html, .csv or .tex (LaTeX) file; you may give several.",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Compare with these predictions; default: the first.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Headline score; default: AP, for PNG masks mIoU.")
    ] = None,
    unit: Annotated[
        str, typer.Option("--unit", help="What is independent of each other: image, or group (with --groups).")
    ] = "image",
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            help="A CSV file with the columns image and group, a JSON file that maps image to group, or a regular "
            "expression whose first capture in the name of an image is its group.",
        ),
    ] = None,
    masks: Annotated[
        bool | None,
        typer.Option("--masks/--boxes", help="What of COCO files is scored; default: boxes if they have any."),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="Truth of the training images, to learn the floor from; default: the truth."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="YOLO: folder of the images; default: beside the labels.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Names of the classes 0, 1, 2, ..., separated by commas.")
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", min=0, max=1, help="Confidence for precision, recall and F1.")
    ] = 0.25,
    iou: Annotated[
        float, typer.Option("--iou", min=0.01, max=1, help="IoU that a match needs for precision, recall and F1.")
    ] = 0.5,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="Differences of at most this size do not matter: equal.")
    ] = 0.0,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Resamples for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the resamples.")] = 0,
) -> None:
    """Score predictions of any program against a truth, with intervals and paired verdicts; needs no project."""
    from retrace.cli.score import score as run
    from retrace.scoring.question import Options

    named = tuple(name.strip() for name in classes.split(",")) if classes is not None else None
    options = Options(confidence, iou, masks, train, images, named)
    run(truth, predictions, options, unit, groups, metric, baseline, margin, resamples, seed, out or [])
