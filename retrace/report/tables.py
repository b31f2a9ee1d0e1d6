"""Tables of results: phases side by side, scores per class and per group of classes, and the notes on method."""

from collections.abc import Sequence
from typing import Any

from retrace.config.metrics import title
from retrace.documents.derived import Derived
from retrace.documents.scores import Scores
from retrace.report.blocks import Cell, Table, Text, cell, run
from retrace.report.inputs import Results
from retrace.report.numbers import ABSENT, Inline, Ledger
from retrace.report.verdicts import words
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import UNDECIDED

TONES = {
    "better": "good",
    "met": "good",
    "worse": "bad",
    "not met": "bad",
    "equal": "quiet",
    "undecided": "quiet",
    "not comparable": "quiet",
}
FOUND = 0.01  # a class with a lower score is practically never found
FLOOR = "floor"  # the best constant answer
METHOD = "Notes on method"  # the section that explains intervals, verdicts and marks once
INTERVALS = "Brackets: 95 % bootstrap interval over independent images or sequences."


def label(inputs: Results, metric: str) -> str:
    """The name of a metric in tables."""
    if metric == "focus_mIoU":
        return f"mIoU of {' + '.join(inputs.params.report.focus_classes)}"
    return title(inputs.params.task, metric)


def caption_of(inputs: Results, ledger: Ledger, phase: str, split: str) -> Inline:
    """`Scored on test, n = 48 images.`"""
    return run(f"Scored on {split}, n = ", *counted(inputs, ledger, phase, split), ".")


def counted(inputs: Results, ledger: Ledger, phase: str, split: str) -> Inline:
    """`48 images in 10 sequences`, or `40 images` where each is independent."""
    file, scored = inputs.file_metrics(phase), inputs.metrics[phase].splits[split]
    images = ledger.num(file, f"splits.{split}.images", "count")
    if scored.unit == "image":
        return run(images, " images")
    return run(images, " images in ", ledger.num(file, f"splits.{split}.units", "count"), f" {scored.unit}s")


def unit(inputs: Results) -> str:
    """The examples that `min_reliable` counts."""
    return "objects" if inputs.params.task == "detection" else "images with the class"


def rare(inputs: Results, ledger: Ledger, phase: str, split: str, classes: Sequence[str], named: bool = True) -> Inline:
    """`toe_drain n = 3, Logs n = 0`: those of `classes` with too few examples on a split; empty where there is none."""
    least = inputs.metrics[phase].min_reliable
    parts: list[Any] = []
    for name in classes:
        if inputs.seen(phase, split, name) < least:
            key = f"splits.{split}.per_class.{name}.{inputs.seen_key}"
            parts += [", " if parts else "", f"{name} " if named else "", "n = "]
            parts.append(ledger.num(inputs.file_metrics(phase), key, "count"))
    return run(*parts)


def averaged(inputs: Results, metric: str) -> tuple[str, ...]:
    """The classes that a metric is computed from: one class, the members of a group, or all classes of a mean."""
    groups, focus = inputs.params.report.class_groups, inputs.params.report.focus_classes
    name, _, of = metric.partition("/")
    if of:
        return tuple(groups[of]) if name == "group" else (of,)
    if metric == "pixel_accuracy":
        return ()
    return tuple(focus) if metric == "focus_mIoU" else tuple(inputs.params.classes)


def unreliable(inputs: Results, ledger: Ledger, phase: str, splits: Sequence[str]) -> Inline:
    """` Not reliable: the means include classes with too few objects (val: toe_drain n = 3).`, or nothing."""
    parts: list[Any] = []
    for split in dict.fromkeys(splits):
        if few := rare(inputs, ledger, phase, split, inputs.params.classes):
            parts += ["; " if parts else "", f"{split}: ", *few]
    examples = "objects" if inputs.params.task == "detection" else "images"
    return run(f" Not reliable: the means include classes with too few {examples} (", *parts, ").") if parts else ()


def headline(inputs: Results, ledger: Ledger) -> Text:
    """The main result of the report, with its interval, split and number of images."""
    split, phase, metric = inputs.headline_split, inputs.params.phase, inputs.params.report.headline
    file = inputs.file_metrics(phase)
    value = ledger.interval(file, f"splits.{split}.{metric}")
    return Text(
        run(
            f"{label(inputs, metric)} ",
            *value,
            f" on {split} (n = ",
            *counted(inputs, ledger, phase, split),
            f"; brackets: 95 % interval). This is the score of phase {phase}, measured after "
            f"loading the saved {_weights(inputs, phase)} back from disk.",
        ),
        tone="headline",
    )


def never_found(inputs: Results, split: str) -> Text | None:
    """Which classes of the truth each phase never finds, where there are any."""
    main, parts = inputs.per_class[0], []
    for phase, scores in inputs.metrics.items():
        lost = []
        for name in inputs.params.classes:
            value = scores.metric(f"{main}/{name}", split).value
            if value is not None and value < FOUND:
                lost.append(name)
        if lost:
            parts.append(f"{phase} never finds {', '.join(lost)}")
    if not parts:
        return None
    return Text((f"On {split}, {'; '.join(parts)} ({label(inputs, f'{main}/')} below {FOUND}).",), tone="warn")


def _weights(inputs: Results, phase: str) -> str:
    return str(inputs.metrics[phase].weights.file)


def weights_path(scores: Scores) -> str:
    """Path of the weights that were scored, relative to the project's folder."""
    file = scores.weights.file
    return file if "/" in file else f"models/{scores.study}/{scores.phase}/{file}"


def _difference(inputs: Results, ledger: Ledger, phase: str, split: str, metric: str) -> Inline:
    key = f"comparisons.{phase}.{split}"
    file = inputs.file_own("derived.json")
    try:
        known = ledger.value(file, f"{key}.{metric}.value") is not None
    except KeyError:
        known = False
    return ledger.interval(file, f"{key}.{metric}", "signed") if known else (ABSENT,)


def verdict(inputs: Results, ledger: Ledger, derived: Derived, phase: str, split: str, metric: str) -> Cell:
    """better, worse, equal or undecided, or the reason why there is no verdict."""
    against = derived.comparisons[phase]
    if against.origin is None:
        return cell("starting point", tone="quiet")
    row = against.on(split)
    if row is None:
        return cell("not the same images", tone="quiet")
    key = f"comparisons.{phase}.{split}.{metric}.detectable"
    return judged(row.difference(metric), (ledger.num(inputs.file_own("derived.json"), key, "fraction"),))


def judged(row: Difference | None, detectable: Inline = (), over_seeds: bool = False) -> Cell:
    """The verdict on one difference as a cell. detectable: the number that stands beside `undecided`."""
    if row is None:
        return cell("undefined", tone="quiet")
    word = words(row, over_seeds)
    note = run("; detectable: ", *detectable) if row.verdict == UNDECIDED and detectable else ()
    return cell(word, *note, tone=TONES.get(row.verdict or "", "quiet"))


def phases(inputs: Results, ledger: Ledger, derived: Derived, metric: str) -> Table:
    """One row per phase: the metric on every split, the paired difference to the phase it starts from, the verdict."""
    splits = list(inputs.active.splits)
    compared, noted = inputs.headline_split, any(inputs.params.phases[phase].note for phase in inputs.metrics)
    rows = []
    for phase in inputs.metrics:
        measured = inputs.metrics[phase].splits
        name = cell(phase + (" (active)" if phase == inputs.params.phase else ""))
        file = inputs.file_metrics(phase)
        scores = [cell(ledger.interval(file, f"splits.{s}.{metric}") if s in measured else (ABSENT,)) for s in splits]
        difference = cell(_difference(inputs, ledger, phase, compared, metric))
        origin = derived.comparisons[phase].origin or ABSENT
        word = verdict(inputs, ledger, derived, phase, compared, metric)
        note = [cell(inputs.params.phases[phase].note)] if noted else []
        rows.append((name, *scores, cell(origin), difference, word, *note))
    floors = [floor(inputs, ledger, split, metric) for split in splits]
    if any(part.text != ABSENT for part in floors):
        what = [cell("the best answer that looks at no image", tone="quiet")] if noted else []
        rows.append((cell(FLOOR), *floors, *(cell(ABSENT),) * 3, *what))
    counts: list[Any] = []
    for split in splits:
        counts += ["; " if counts else "Scored on ", f"{split}, n = "]
        counts += counted(inputs, ledger, inputs.params.phase, split)
    return Table(
        f"phases_{metric}",
        "Scores and verdicts",
        (
            "Phase",
            *(f"{label(inputs, metric)}, {split}" for split in splits),
            "Compared with",
            f"Difference, {compared}",
            "Verdict",
            *(("What it is",) if noted else ()),
        ),
        tuple(rows),
        run(
            *counts,
            ".",
            unreliable(inputs, ledger, inputs.params.phase, splits),
        ),
    )


def floor(inputs: Results, ledger: Ledger, split: str, metric: str) -> Cell:
    """The score of the best constant answer, which is the same for every phase."""
    if inputs.active.floor(metric, split) is None:
        return cell(ABSENT)
    name, _, of = metric.partition("/")
    key = f"splits.{split}.per_class.{of}.floor" if of else f"splits.{split}.floor.{name}"
    return cell(ledger.num(inputs.file_metrics(inputs.params.phase), f"{key}.value", "fraction"), tone="quiet")


def per_class(inputs: Results, ledger: Ledger, phase: str, split: str) -> Table:
    """Every score of every class with its interval, the number of examples, and a mark where there are too few."""
    file, least = inputs.file_metrics(phase), inputs.metrics[phase].min_reliable
    rows = []
    for name in inputs.params.classes:
        key = f"splits.{split}.per_class.{name}"
        seen = ledger.num(file, f"{key}.{inputs.seen_key}", "count")
        scores = [cell(ledger.interval(file, f"{key}.{metric}")) for metric in inputs.per_class]
        scores.append(floor(inputs, ledger, split, f"{inputs.per_class[0]}/{name}"))
        if inputs.seen(phase, split, name) == 0:
            mark = cell(f"absent from {split}", tone="quiet")
        elif inputs.seen(phase, split, name) < least:
            mark = cell("n = ", seen, ": not reliable", tone="warn")
        else:
            mark = cell("")
        rows.append((cell(name), *scores, cell(seen), mark))
    unit = "objects" if inputs.params.task == "detection" else "images with the class"
    titles = [*(label(inputs, f"{metric}/") for metric in inputs.per_class), f"{FLOOR}, {inputs.per_class[0]}"]
    columns = ["Class", *titles, f"n ({unit})", "Note"]
    if not any(mark.text for *_, mark in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    note = caption_of(inputs, ledger, phase, split)
    return Table(f"per_class_{phase}_{split}", f"Every class, {split}", tuple(columns), tuple(rows), note)


def class_changes(inputs: Results, ledger: Ledger, derived: Derived, split: str) -> Table | None:
    """The main score of every class, phases side by side, and the difference that the active phase makes."""
    phase, metric = inputs.params.phase, inputs.per_class[0]
    other = derived.comparisons[phase].origin
    if other is None:
        return None
    rows = []
    for name in inputs.params.classes:
        key = f"splits.{split}.per_class.{name}.{metric}"
        scores = [
            cell(ledger.interval(inputs.file_metrics(of), key) if split in row.splits else ABSENT)
            for of, row in inputs.metrics.items()
        ]
        change = cell(_difference(inputs, ledger, phase, split, f"{metric}/{name}"))
        word = verdict(inputs, ledger, derived, phase, split, f"{metric}/{name}")
        if 0 < inputs.seen(phase, split, name) < inputs.metrics[phase].min_reliable:
            seen = ledger.num(inputs.file_metrics(phase), f"splits.{split}.per_class.{name}.{inputs.seen_key}", "count")
            word = cell(word.parts, "; n = ", seen, ": not reliable", tone="warn")
        rows.append((cell(name), *scores, change, word))
    columns = ("Class", *inputs.metrics, f"{phase} against {other}", "Verdict")
    note = caption_of(inputs, ledger, phase, split)
    return Table(f"class_changes_{split}", f"{metric} per class, phases side by side", columns, tuple(rows), note)


def groups(inputs: Results, ledger: Ledger, split: str) -> Table | None:
    """Mean main score of each group of classes, phases side by side."""
    named = inputs.params.report.class_groups
    if not named:
        return None
    file = inputs.file_own("derived.json")
    rows = []
    for group, members in named.items():
        scores = [
            cell(ledger.interval(file, f"groups.{phase}.{split}.{group}"))
            if split in row.splits and row.splits[split].images
            else cell(ABSENT)
            for phase, row in inputs.metrics.items()
        ]
        rows.append((cell(group), cell(", ".join(members)), *scores))
    return Table(
        "class_groups",
        "Groups of classes",
        ("Group", "Classes", *inputs.metrics),
        tuple(rows),
        run(
            f"Mean {label(inputs, f'{inputs.per_class[0]}/')} of the classes in each group. ",
            caption_of(inputs, ledger, inputs.params.phase, split),
        ),
    )


def operating_point(inputs: Results, ledger: Ledger, split: str) -> Inline:
    """The confidence at which the best F1 is reached; empty for segmentation."""
    if inputs.params.task != "detection":
        return ()
    best = ledger.num(inputs.file_metrics(inputs.params.phase), f"splits.{split}.best_F1_confidence", "plain")
    return run(f" {inputs.params.phase} reaches its best F1 at confidence ", best, ".")


def overall(inputs: Results, ledger: Ledger, split: str) -> Table:
    """Every overall metric of one split, phases side by side."""
    rows = []
    for metric in inputs.overall:
        scores = [
            cell(ledger.interval(inputs.file_metrics(phase), f"splits.{split}.{metric}"))
            if split in row.splits and row.splits[split].has(metric)
            else cell(ABSENT)
            for phase, row in inputs.metrics.items()
        ]
        rows.append((cell(label(inputs, metric)), *scores, floor(inputs, ledger, split, metric)))
    name = f"overall_{split}"
    return Table(
        name,
        f"Every metric, {split}",
        ("Metric", *inputs.metrics, FLOOR),
        tuple(rows),
        run(
            caption_of(inputs, ledger, inputs.params.phase, split),
            operating_point(inputs, ledger, split),
            unreliable(inputs, ledger, inputs.params.phase, [split]),
        ),
    )
