"""Tables of results: phases, classes, what changed, claims, the final table and the comparison of models."""

from typing import Any

from stages.params.schema import Claim
from stages.reporting.blocks import Cell, Table, Text, cell, run
from stages.reporting.comparisons import claim_source
from stages.reporting.inputs import Inputs
from stages.reporting.numbers import ABSENT, Inline, Ledger

LABELS = {
    "mIoU": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "balanced_accuracy": "balanced accuracy (mean per-class recall)",
    "AP50": "mAP@0.5",
    "AP": "mAP@[.5:.95]",
    "best_F1": "best F1",
    "AP_small": "mAP small",
    "AP_medium": "mAP medium",
    "AP_large": "mAP large",
    "latency_ms": "latency (ms)",
    "images_per_second": "images/s",
    "bytes": "weights file",
}
TONES = {
    "better": "good",
    "met": "good",
    "worse": "bad",
    "not met": "bad",
    "no measurable difference": "quiet",
    "not comparable": "quiet",
}
BRACKETS = "Brackets: 95 % bootstrap interval over images."


def label(inputs: Inputs, metric: str) -> str:
    """How a metric is called in tables."""
    if metric == "focus_mIoU":
        return f"mIoU of {' + '.join(inputs.params.report.focus_classes)}"
    name, slash, of = metric.partition("/")
    return f"{of} {LABELS.get(name, name)}" if slash else LABELS.get(metric, metric)


def caption_of(inputs: Inputs, ledger: Ledger, phase: str, split: str) -> Inline:
    """`test, n = 48 images. Brackets: ...`"""
    images = ledger.num(inputs.file_metrics(phase), f"splits.{split}.images", "count")
    return run(f"{split}, n = ", images, f" images. {BRACKETS}")


def headline(inputs: Inputs, ledger: Ledger) -> Text:
    """The one number the report stands for, with interval, split and n."""
    split, phase, metric = inputs.headline_split, inputs.params.phase, inputs.params.report.headline
    file = inputs.file_metrics(phase)
    value = ledger.interval(file, f"splits.{split}.{metric}")
    images = ledger.num(file, f"splits.{split}.images", "count")
    return Text(
        run(
            f"{label(inputs, metric)} ",
            *value,
            f" on {split} (n = ",
            images,
            f" images; 95 % bootstrap interval over images): phase {phase}, the saved {_weights(inputs, phase)} after loading "
            "it back from disk.",
        ),
        tone="headline",
    )


def _weights(inputs: Inputs, phase: str) -> str:
    return str(inputs.metrics[phase]["weights"]["file"])


def weights_path(inputs: Inputs, phase: str) -> str:
    """Path of the shipped weights below the project's folder."""
    file = _weights(inputs, phase)
    return file if "/" in file else f"models/{inputs.study}/{phase}/{file}"


def _difference(inputs: Inputs, ledger: Ledger, phase: str, split: str, metric: str) -> Inline:
    key = f"comparisons.{phase}.{split}"
    file = inputs.file_own("derived.json")
    row = ledger.value(file, key) if split in ledger.value(file, f"comparisons.{phase}") else None
    if row is None or row.get(metric) is None or row[metric]["value"] is None:
        return (ABSENT,)
    return ledger.interval(file, f"{key}.{metric}", "signed")


def verdict(inputs: Inputs, derived: dict[str, Any], phase: str, split: str, metric: str) -> Cell:
    """better / no measurable difference / worse, or why there is no verdict."""
    against = derived["comparisons"][phase]
    if against["from"] is None:
        return cell("starting point", tone="quiet")
    row = against.get(split)
    if row is None:
        return cell("not the same images", tone="quiet")
    word = (row.get(metric) or {}).get("verdict") or "undefined"
    return cell(word, tone=TONES.get(word, "quiet"))


def phases(inputs: Inputs, ledger: Ledger, derived: dict[str, Any], metric: str) -> Table:
    """One row a phase: the metric on every split, the paired difference to the phase it starts from and the verdict."""
    splits = list(inputs.active["splits"])
    shown = inputs.headline_split
    rows = []
    for phase in inputs.metrics:
        measured = inputs.metrics[phase]["splits"]
        name = cell(phase + (" (active)" if phase == inputs.params.phase else ""))
        file = inputs.file_metrics(phase)
        scores = [
            cell(ledger.interval(file, f"splits.{s}.{metric}") if s in measured else (ABSENT,)) for s in splits
        ]
        difference = cell(_difference(inputs, ledger, phase, shown, metric))
        origin = derived["comparisons"][phase]["from"] or ABSENT
        rows.append((name, *scores, cell(origin), difference, verdict(inputs, derived, phase, shown, metric)))
    counts: list[Any] = []
    for split in splits:
        counts += ["; " if counts else "", f"{split} n = "]
        counts += [ledger.num(inputs.file_metrics(inputs.params.phase), f"splits.{split}.images", "count")]
    return Table(
        f"phases_{metric}",
        ("Phase", *(f"{label(inputs, metric)}, {split}" for split in splits), "Compared with", f"Difference, {shown}", "Verdict"),
        tuple(rows),
        run(*counts, f" images. {BRACKETS} The difference is paired: both phases on the same resampled images."),
    )


def per_class(inputs: Inputs, ledger: Ledger, phase: str, split: str) -> Table:
    """Per class: every score with its interval, how often the class occurs, and a mark where that is too seldom."""
    file, least = inputs.file_metrics(phase), inputs.metrics[phase]["min_reliable"]
    rows = []
    for name in inputs.params.classes:
        key = f"splits.{split}.per_class.{name}"
        seen = ledger.num(file, f"{key}.{inputs.seen_key}", "count")
        scores = [cell(ledger.interval(file, f"{key}.{metric}")) for metric in inputs.per_class]
        if inputs.seen(phase, split, name) == 0:
            mark = cell(f"absent from {split}", tone="quiet")
        elif inputs.seen(phase, split, name) < least:
            mark = cell("n = ", seen, ": not reliable", tone="warn")
        else:
            mark = cell("")
        rows.append((cell(name), *scores, cell(seen), mark))
    unit = "objects" if inputs.params.task == "detection" else "images with the class"
    columns = ("Class", *(LABELS.get(metric, metric) for metric in inputs.per_class), f"n ({unit})", "Note")
    note = run(caption_of(inputs, ledger, phase, split), " Not reliable: n below ")
    note = run(note, ledger.num(file, "min_reliable", "count"), " (evaluate.min_reliable).")
    return Table(f"per_class_{phase}_{split}", columns, tuple(rows), note)


def class_changes(inputs: Inputs, ledger: Ledger, derived: dict[str, Any], split: str) -> Table | None:
    """The main score of every class, phases side by side, and what the active phase changed."""
    phase, metric = inputs.params.phase, inputs.per_class[0]
    other = derived["comparisons"][phase]["from"]
    if other is None:
        return None
    rows = []
    for name in inputs.params.classes:
        key = f"splits.{split}.per_class.{name}.{metric}"
        scores = [
            cell(ledger.interval(inputs.file_metrics(of), key) if split in row["splits"] else ABSENT)
            for of, row in inputs.metrics.items()
        ]
        change = cell(_difference(inputs, ledger, phase, split, f"{metric}/{name}"))
        rows.append((cell(name), *scores, change, verdict(inputs, derived, phase, split, f"{metric}/{name}")))
    columns = ("Class", *inputs.metrics, f"{phase} against {other}", "Verdict")
    note = run(f"{metric} per class. ", caption_of(inputs, ledger, phase, split), " The difference is paired.")
    return Table(f"class_changes_{split}", columns, tuple(rows), note)


def groups(inputs: Inputs, ledger: Ledger, split: str) -> Table | None:
    """Mean IoU of each group of classes, phases side by side."""
    named = inputs.params.report.class_groups
    if not named or inputs.params.task == "detection":
        return None
    file = inputs.file_own("derived.json")
    rows = []
    for group, members in named.items():
        scores = [
            cell(ledger.interval(file, f"groups.{phase}.{split}.{group}")) if split in row["splits"] else cell(ABSENT)
            for phase, row in inputs.metrics.items()
        ]
        rows.append((cell(group), cell(", ".join(members)), *scores))
    return Table(
        "class_groups",
        ("Group", "Classes", *inputs.metrics),
        tuple(rows),
        run("Mean IoU of the classes of a group. ", caption_of(inputs, ledger, inputs.params.phase, split)),
    )


def overall(inputs: Inputs, ledger: Ledger, split: str) -> Table:
    """Every overall metric of one split, phases side by side."""
    rows = []
    for metric in inputs.overall:
        scores = [
            cell(ledger.interval(inputs.file_metrics(phase), f"splits.{split}.{metric}"))
            if split in row["splits"] and metric in row["splits"][split]
            else cell(ABSENT)
            for phase, row in inputs.metrics.items()
        ]
        rows.append((cell(label(inputs, metric)), *scores))
    name = f"overall_{split}"
    return Table(name, ("Metric", *inputs.metrics), tuple(rows), caption_of(inputs, ledger, inputs.params.phase, split))


def models(inputs: Inputs, ledger: Ledger, split: str) -> Table:
    """Phases as models: size, classes, how many of them the predictions use, score and speed."""
    metric = inputs.params.report.headline
    rows = []
    for phase, document in inputs.metrics.items():
        file = inputs.file_metrics(phase)
        speed = [cell(ABSENT), cell(ABSENT)]
        if phase in inputs.speed:
            own = inputs.file_own("provenance.json")
            latency = ledger.num(own, f"speed.{phase}.latency_ms", "decimal")
            low, high = (ledger.num(own, f"speed.{phase}.latency_ms_{end}", "decimal") for end in ("low", "high"))
            rate = ledger.num(own, f"speed.{phase}.images_per_second", "decimal")
            speed = [cell(latency, " [", low, ", ", high, "]"), cell(rate)]
        score = ledger.interval(file, f"splits.{split}.{metric}") if split in document["splits"] else (ABSENT,)
        rows.append(
            (
                cell(phase),
                cell(architecture(inputs, phase)),
                cell(ledger.num(file, "parameters", "count")),
                cell(ledger.num(file, "weights.bytes", "size")),
                cell(ledger.num(inputs.file_own("derived.json"), "classes.count", "count")),
                cell(ledger.num(inputs.file_own("derived.json"), f"classes.predicted.{phase}.{split}", "count")),
                cell(score),
                *speed,
            )
        )
    columns = ("Phase", "Model", "Parameters", "Weights file", "Classes", "Classes predicted", f"{label(inputs, metric)}, {split}")
    return Table(
        "models",
        (*columns, "Latency, ms", "Images/s"),
        tuple(rows),
        run(
            caption_of(inputs, ledger, inputs.params.phase, split),
            " Latency: median of single images after warm-up; images/s: in batches. Both are this run's, on this machine.",
        ),
    )


def architecture(inputs: Inputs, phase: str) -> str:
    """e.g. `unet, tu-convnextv2_atto`."""
    block = inputs.params.phases[phase]
    if block.engine == "ultralytics":
        return block.model
    return ", ".join(filter(None, (block.model.architecture, block.model.encoder)))


def claims(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Table | None:
    """Published, baseline and target figures beside the measured ones, judged."""
    rows = []
    for index, claim in enumerate(inputs.params.report.claims):
        file, key, format = claim_source(inputs, claim)
        judged = derived["claims"][index]
        measured: Inline = (ABSENT,) if judged["why"] == "not measured" else _measured(ledger, file, key, format)
        status = judged["status"] + (f" ({judged['why']})" if judged["why"] else "")
        rows.append(
            (
                cell(claim.label),
                cell(claim.kind),
                cell(judged["phase"]),
                cell(claim.split),
                cell(claimed(inputs, ledger, index, format)),
                cell(measured),
                cell(status, tone=TONES[judged["status"]]),
            )
        )
    columns = ("Figure", "Kind", "Phase", "Split", "Claimed", "Measured", "Status")
    note = (
        "A target is met when the measured value reaches it; a published or baseline value is met when the measured "
        f"interval reaches it. {BRACKETS}"
    )
    return Table("claims", columns, tuple(rows), (note,)) if rows else None


def _measured(ledger: Ledger, file: str, key: str, format: str) -> Inline:
    try:
        return ledger.interval(file, key, format)
    except KeyError:
        return (ABSENT,)


def claimed(inputs: Inputs, ledger: Ledger, index: int, format: str) -> Inline:
    """`0.796`, `0.80 to 0.85`, `at least 0.75` or `at most 60.0`, quoted from the parameters."""
    claim: Claim = inputs.params.report.claims[index]
    file = inputs.file_own("parameters.json")
    ends = {
        name: ledger.num(file, f"report.claims.{index}.{name}", format)
        for name in ("value", "low", "high")
        if getattr(claim, name) is not None
    }
    if "value" in ends:
        return (ends["value"],)
    if "low" in ends and "high" in ends:
        return (ends["low"], " to ", ends["high"])
    if "low" in ends:
        return ("at least ", ends["low"])
    return ("at most ", ends["high"]) if "high" in ends else (ABSENT,)


def final(inputs: Inputs, ledger: Ledger, derived: dict[str, Any]) -> Table | None:
    """Metric | Baseline | Target | Final | Change | Status: the first phase against the active one."""
    active, split = inputs.params.phase, inputs.headline_split
    first = next(iter(inputs.metrics))
    targets = {
        (claim.metric, claim.split): index
        for index, claim in enumerate(inputs.params.report.claims)
        if claim.kind == "target" and (claim.phase or active) == active
    }
    wanted = list(targets)
    wanted += [(metric, split) for metric in inputs.overall if (metric, split) not in wanted]
    rows = []
    for metric, on in wanted:
        if on not in inputs.metrics[first]["splits"] or on not in inputs.metrics[active]["splits"]:
            continue
        rows.append(_final_row(inputs, ledger, derived, metric, on, targets.get((metric, on))))
    columns = ("Metric", f"Baseline ({first})", "Target", f"Final ({active})", "Change", "Status")
    note = "Change: paired difference of the two phases. Status: the target where there is one, else the verdict on the change."
    return Table("final", columns, tuple(rows), (f"{BRACKETS} {note}",)) if rows else None


def _final_row(
    inputs: Inputs, ledger: Ledger, derived: dict[str, Any], metric: str, split: str, target: int | None
) -> tuple[Cell, ...]:
    active, first = inputs.params.phase, next(iter(inputs.metrics))
    example = Claim(metric=metric, label=metric, split=split)
    _, key, format = claim_source(inputs, example)
    before = _measured(ledger, inputs.file_metrics(first), key, format)
    after = _measured(ledger, inputs.file_metrics(active), key, format)
    change, status = cell(ABSENT), cell("no target", tone="quiet")
    row = (derived["final"].get(split) or {}).get(metric)
    if row is not None and row["value"] is not None:
        change = cell(ledger.interval(inputs.file_own("derived.json"), f"final.{split}.{metric}", "signed"))
        status = cell(row["verdict"], tone=TONES[row["verdict"]])
    if target is not None:
        word = derived["claims"][target]["status"]
        status = cell(word, tone=TONES[word])
    goal = cell(claimed(inputs, ledger, target, format)) if target is not None else cell(ABSENT)
    return cell(f"{label(inputs, metric)}, {split}"), cell(before), goal, cell(after), change, status
