"""The tables of `retrace score`, from its result."""

from retrace.config.metrics import title
from retrace.report.blocks import Cell, Table, cell
from retrace.report.comparison.render import FIRST, text
from retrace.report.numbers import ABSENT, show
from retrace.report.tables import FLOOR, judged
from retrace.scoring.measure import Result, Scored
from retrace.statistics.estimate import Difference

LABELS = {"AP75": "mAP@0.75"}
POINTS = {"reported": ("precision", "recall", "F1"), "best F1": ("best_F1_precision", "best_F1_recall", "best_F1")}
ELSEWHERE = ("best_F1_precision", "best_F1_recall")  # shown with the operating points only


def label(result: Result, metric: str) -> str:
    """How tables call a score."""
    return LABELS.get(metric) or title(result.question.task, metric)


def counted(result: Result) -> str:
    """`40 images`, or `48 images in 10 groups` where these are the units."""
    images = f"{show(len(result.question.images), 'count')} images"
    return images if result.unit == "image" else f"{images} in {show(result.units, 'count')} {result.unit}s"


def tables(result: Result, confidence: float) -> list[Table]:
    """All tables, the verdicts first. confidence: that of precision, recall and F1."""
    listed = [verdicts(result), overall(result)]
    if result.question.task == "detection":
        listed.append(operating_points(result, confidence))
    return [*listed, classes(result)]


def verdicts(result: Result) -> Table:
    """One row per file: the headline with its interval, the difference to the baseline and the verdict."""
    rows = []
    for one in result.scored:
        difference = None if one.differences is None else one.differences[result.metric]
        found = text(difference, "signed") if difference is not None else ABSENT
        rows.append((cell(one.name), cell(text(one.scores[result.metric])), cell(found), _verdict(difference)))
    floor = result.floors.get(result.metric)
    if floor is not None:
        value = cell(show(floor.value, "fraction"), tone="quiet")
        rows.append((cell(FLOOR), value, cell(ABSENT), cell(floor.answer, tone="quiet")))
    columns = ("Predictions", label(result, result.metric), f"Difference to {result.base}", "Verdict")
    return Table("verdicts", "Scores and verdicts", columns, tuple(rows), (caption(result),))


def caption(result: Result) -> str:
    """What was scored, and what the brackets mean."""
    sentences = [f"Scored on {counted(result)}."]
    sentences.append(f"Brackets: 95 % bootstrap interval over independent {result.unit}s.")
    if len(result.scored) > 1:
        sentences.append(f"Differences to {result.base} are paired: both on the same resampled images.")
    if result.floors:
        train = result.question.train
        learned = train or "the scored truth itself, which favors it (--train names another)"
        sentences.append(f"The {FLOOR} is the best answer that looks at no image, learned from {learned}.")
    return " ".join(sentences)


def _verdict(difference: Difference | None) -> Cell:
    if difference is None:
        return cell(FIRST, tone="quiet")
    return judged(difference, (show(difference.detectable, "fraction"),))


def overall(result: Result) -> Table:
    """Every overall score, the files side by side."""
    rows = []
    for metric in result.overall:
        if metric in ELSEWHERE:
            continue
        scores = [cell(text(one.scores[metric])) for one in result.scored]
        rows.append((cell(label(result, metric)), *scores, _floor(result, metric)))
    columns = ("Metric", *(one.name for one in result.scored), FLOOR)
    return _without_floors(Table("overall", "Every metric", columns, tuple(rows)))


def operating_points(result: Result, confidence: float) -> Table:
    """Precision, recall and F1 at the given confidence, and at that with the best F1."""
    rows = []
    for one in result.scored:
        for kind, metrics in POINTS.items():
            at = confidence if kind == "reported" else one.best_confidence
            scores = [cell(text(one.scores.get(metric))) for metric in metrics]
            rows.append((cell(one.name), cell(kind), cell(show(at, "plain")), *scores))
    columns = ("Predictions", "Confidence chosen", "Confidence", "Precision", "Recall", "F1")
    return Table("operating_points", "Operating points", columns, tuple(rows))


def classes(result: Result) -> Table:
    """The score of every class, the files side by side, and the differences to the baseline."""
    others = [one for one in result.scored if one.differences is not None]
    seen = result.question.seen
    detection = result.question.task == "detection"
    rows = []
    for index, name in enumerate(result.question.classes):
        metric = f"{result.of_class}/{name}"
        cells = [cell(name), *(cell(text(one.scores[metric])) for one in result.scored), _floor(result, metric)]
        for one in others:
            cells += _compared(one, metric)
        count = seen[:, index].sum() if detection else (seen[:, index] > 0).sum()
        rows.append((*cells, cell(show(int(count), "count"))))
    columns = ["Class", *(one.name for one in result.scored), FLOOR]
    for one in others:
        columns += [f"{one.name} against {result.base}", "Verdict" if len(others) == 1 else f"Verdict, {one.name}"]
    columns.append("Objects" if detection else "Images with it")
    name = f"{label(result, result.of_class)} of every class"
    return _without_floors(Table("classes", name, tuple(columns), tuple(rows)))


def _compared(one: Scored, metric: str) -> list[Cell]:
    difference = one.differences[metric] if one.differences is not None else None
    return [cell(text(difference, "signed")), _verdict(difference)]


def _floor(result: Result, metric: str) -> Cell:
    floor = result.floors.get(metric)
    return cell(ABSENT if floor is None else show(floor.value, "fraction"), tone="quiet")


def _without_floors(table: Table) -> Table:
    """The table without its column of floors where there is none."""
    place = table.columns.index(FLOOR)
    if any(row[place].text != ABSENT for row in table.rows):
        return table
    columns = (*table.columns[:place], *table.columns[place + 1 :])
    rows = tuple((*row[:place], *row[place + 1 :]) for row in table.rows)
    return Table(table.name, table.title, columns, rows, table.caption)
