"""`retrace score`: read a truth and predictions, measure, print and write the tables."""

from collections.abc import Sequence
from pathlib import Path

from retrace.scoring.question import Options


def score(
    truth: Path,
    predictions: Sequence[Path],
    options: Options,
    unit: str,
    groups: str | None,
    metric: str | None,
    baseline: str | None,
    margin: float,
    resamples: int,
    seed: int,
    files: Sequence[Path],
) -> None:
    """Print the scores of `predictions` and write them to `files`, each in the format of its ending.

    unit, groups: see `retrace.scoring.units.units_of`.
    """
    from retrace.scoring import render
    from retrace.scoring.measure import Settings, measure
    from retrace.scoring.reading import ask
    from retrace.scoring.tables import tables
    from retrace.scoring.units import units_of

    for path in files:
        render.writer(path)
    question = ask(truth, list(predictions), options)
    units, called = units_of(question.images, unit, groups)
    result = measure(question, Settings(units, called, metric, baseline, margin, resamples, seed))
    document = render.Document(f"Scores on {truth.name}", tables(result, options.confidence), result)
    render.to_terminal(document)
    for path in files:
        render.write(document, path)
