"""The notes on method: intervals, verdicts, the floor and the marks, explained once in a report."""

from retrace.report.blocks import Bullets, Section, section
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT, Inline, Ledger
from retrace.report.tables import METHOD, unit
from retrace.statistics.bootstrap import FEWEST_UNITS

POINT = ("confidence", "iou_threshold")  # of precision, recall and F1


def method(inputs: Inputs, ledger: Ledger, title: str = METHOD) -> Section | None:
    """What holds for every table: intervals, verdicts, marks, and for detection the operating point."""
    file, split = inputs.file_metrics(inputs.params.phase), inputs.headline_split
    resamples = ledger.num(inputs.file_own("parameters.json"), "evaluate.bootstrap", "count")
    least = ledger.num(file, "min_reliable", "count")
    notes: list[Inline] = [
        (
            "Scores: the shipped file holds the weights of the best epoch. Every score is measured after loading it "
            "back from disk, unless a table says that the number comes from the training log.",
        ),
        (
            "Intervals: numbers in brackets are 95 % intervals of a bootstrap with ",
            resamples,
            " resamples. It draws independent units (evaluate.unit): images, or whole sequences where images come in "
            f"sequences. With fewer than {FEWEST_UNITS} units there is no interval. A resample in which a class does "
            "not occur is left out of the interval of that class and of every mean that includes the class.",
        ),
        (
            "Differences: both phases are scored on the same resampled units, so the difference is paired. The "
            "verdict is better or worse when the difference is not chance (5 % level, Holm's correction over the "
            "verdicts of a table), equal when its whole interval lies within the margin of ",
            ledger.num(inputs.file_own("parameters.json"), "report.margin", "plain"),
            " (report.margin), otherwise undecided; the detectable difference is the smallest that this comparison "
            f"would have found with a probability of 80 %. {_seeds(inputs)}",
        ),
        (
            "Floor: the best constant answer that can be learned on the training list, an answer that looks at no "
            "image. A score that is not above it beyond chance gets no verdict.",
        ),
        (
            f"Marks: {ABSENT} means that a value is undefined or was not measured. A class is marked not reliable when "
            f"a split has fewer than ",
            least,
            f" {unit(inputs)} (evaluate.min_reliable).",
        ),
    ]
    if inputs.params.task == "detection":
        confidence, overlap = (ledger.num(file, f"splits.{split}.{name}", "plain") for name in POINT)
        notes.append(
            (
                "Precision, recall and F1: means over the classes in the ground truth, at confidence ",
                confidence,
                " (evaluate.confidence); a detection counts as a hit from an IoU of ",
                overlap,
                " on. Best F1 is measured at the confidence with the highest F1 on the scored images themselves, so it "
                "is optimistic.",
            )
        )
    return section("method", title, Bullets(tuple(notes)), fold=True)


def _seeds(inputs: Inputs) -> str:
    if not inputs.repeats:
        return "Each phase was trained once, so a verdict is about these weights: with another seed it may be another."
    return (
        "A verdict on these weights compares the shipped files; with another seed it may be another. A verdict over "
        "seeds compares the means of all trainings of two phases, and its interval covers both seeds and units."
    )
