"""Models scored on both validation lists, as given and rebalanced, because scores on different lists do not compare.

For two phases the table is a 2x2: rows are models, columns are lists.
"""

from pathlib import Path

import numpy as np

from retrace import seeds
from retrace.config.metrics import place_of
from retrace.data.splits import read_list
from retrace.documents.derived import Comparison, Derived, ListEffect, Lists
from retrace.report.blocks import Bullets, Cell, Table, cell, run
from retrace.report.inputs import Inputs
from retrace.report.numbers import Inline, Ledger
from retrace.report.resamples import image_ids, statistic, unit_names
from retrace.report.tables import averaged, counted, label, rare, unit
from retrace.report.verdicts import words
from retrace.statistics.bootstrap import Units, intervals

GIVEN, USED = "val_as_given", "val"
NAMES = {GIVEN: "val as given", USED: "val rebalanced"}


def scored(inputs: Inputs) -> bool:
    """Whether every phase was scored on both lists."""
    return all(_images(inputs, phase, name) for phase in inputs.metrics for name in NAMES)


def _images(inputs: Inputs, phase: str, name: str) -> int:
    scored = inputs.metrics[phase].splits.get(name)
    return 0 if scored is None else scored.images


def metrics(inputs: Inputs) -> tuple[str, ...]:
    """The headline metric, and the main score of every focus class."""
    main = inputs.per_class[0]
    return (inputs.params.report.headline, *(f"{main}/{name}" for name in inputs.params.report.focus_classes))


def pair(inputs: Inputs) -> tuple[str, str] | None:
    """(phase before, phase after): the active phase and the one it is compared with, else the first compared pair."""
    for after in (inputs.params.phase, *inputs.metrics):
        before = inputs.compared_with(after)
        if before is not None:
            return before, after
    return None


def derive(inputs: Inputs) -> Lists | None:
    """What a comparison across the two lists would show; None where the two lists were not scored.

    Effects are resampled over the union of the lists. The paired differences on each list are in `comparisons`.
    """
    phases = pair(inputs)
    if not scored(inputs) or phases is None:
        return None
    lists = {name: image_ids(inputs, phases[0], name) for name in NAMES}
    if any(image_ids(inputs, phases[1], name) != ids for name, ids in lists.items()):
        return None
    train = set(read_list(Path("data", inputs.study, "splits"), "train"))
    return Lists(
        origin=phases[0],
        to=phases[1],
        same=lists[GIVEN] == lists[USED],
        images={name: len(ids) for name, ids in lists.items()},
        in_train=sum(image in train for image in lists[GIVEN]),
        effects=_effects(inputs, phases, lists),
    )


def _effects(inputs: Inputs, phases: tuple[str, str], lists: dict[str, list[str]]) -> dict[str, ListEffect]:
    before, after = phases
    union = sorted({image for ids in lists.values() for image in ids})
    named: dict[str, str] = {}
    for split, ids in lists.items():
        named |= zip(ids, unit_names(inputs, before, split), strict=True)
    units = Units.named([named[image] for image in union])
    place = {image: index for index, image in enumerate(union)}
    rows = {name: np.array([place[image] for image in ids]) for name, ids in lists.items()}
    wanted = ((before, GIVEN), (before, USED), (after, USED))
    scores = {key: statistic(inputs, *key) for key in wanted}

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        results = {key: score(weights[:, rows[key[1]]]) for key, score in scores.items()}
        given, used, final = (results[key] for key in wanted)
        names = metrics(inputs)
        apart = {f"apart {name}": final[name] - given[name] for name in names}
        return apart | {f"list {name}": used[name] - given[name] for name in names}

    seed = seeds.derive(inputs.params.seed, "bootstrap", "both lists")
    effects = intervals(differences, units, inputs.params.evaluate.bootstrap, seed)
    return {
        name: ListEffect(apart=effects[f"apart {name}"], by_list=effects[f"list {name}"]) for name in metrics(inputs)
    }


def table(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table | None:
    """Rows: models; columns: lists; a block of rows for the headline metric and for every focus class."""
    if derived.lists is None:
        return None
    rows = []
    for metric in metrics(inputs):
        for phase in inputs.metrics:
            cells = [part for name in NAMES for part in _score(inputs, ledger, phase, name, metric)]
            rows.append((cell(label(inputs, metric)), cell(phase), *cells))
    moved = ledger.num(inputs.file_own("derived.json"), "lists.in_train", "count")
    note = run(
        "All models were trained on the training list in use, which contains ",
        moved,
        " images of the validation list as given.",
    )
    columns = ("Score", "Model", *(part for name in NAMES.values() for part in (name, f"n, {name}")))
    return Table("both_lists", "Both models on both validation lists", columns, tuple(rows), note)


def _score(inputs: Inputs, ledger: Ledger, phase: str, split: str, metric: str) -> tuple[Cell, Cell]:
    """The score with its interval, and the number of images and objects behind it."""
    file = inputs.file_metrics(phase)
    value = ledger.interval(file, place_of(inputs.params.task, metric, split)[0])
    images = counted(inputs, ledger, phase, split)
    of, few = metric.partition("/")[2], _rare(inputs, ledger, phase, split, metric)
    if of:
        seen = ledger.num(file, f"splits.{split}.per_class.{of}.{inputs.seen_key}", "count")
        images = run(*images, ", ", seen, f" {unit(inputs)}")
    mark = run("; ", few, ": not reliable") if few else ()
    return cell(value, mark, tone="warn" if few else ""), cell(images)


def _rare(inputs: Inputs, ledger: Ledger, phase: str, split: str, metric: str) -> Inline:
    return rare(inputs, ledger, phase, split, averaged(inputs, metric), named="/" not in metric)


def sentences(inputs: Inputs, ledger: Ledger, derived: Derived) -> Bullets | None:
    """One sentence per metric: the effect of the model, the effect of the list, and what mixing them would show."""
    comparison = derived.lists
    if comparison is None:
        return None
    if comparison.same:
        return Bullets((("The two validation lists hold the same images: rebalancing did not change the list.",),))
    return Bullets(tuple(_sentence(inputs, ledger, derived, comparison, metric) for metric in metrics(inputs)))


def _sentence(inputs: Inputs, ledger: Ledger, derived: Derived, comparison: Lists, metric: str) -> Inline:
    file = inputs.file_own("derived.json")
    effects, before, after = comparison.effects[metric], comparison.origin, comparison.to
    if effects.apart.value is None or effects.by_list.value is None:
        return (f"{label(inputs, metric)} is undefined on one of the lists, so the two cannot be compared.",)
    model = {name: _model_effect(inputs, ledger, after, name, metric) for name in NAMES}
    given, used = (_word(derived.comparisons[after], name, metric) for name in NAMES)
    verdicts = f"the verdict is the same on both, {used}" if given == used else f"{given} as given, {used} rebalanced"
    return run(
        f"{label(inputs, metric)}, {after} against {before}: ",
        *(part for name in NAMES for part in (*model[name], ", " if name == GIVEN else ": ")),
        f"{verdicts}. Comparing {before} on the list as given with {after} on the rebalanced list would show ",
        *ledger.interval(file, f"lists.effects.{metric}.apart", "signed"),
        ", of which ",
        *ledger.interval(file, f"lists.effects.{metric}.list", "signed"),
        " comes from the change of list alone.",
    )


def _word(comparison: Comparison, split: str, metric: str) -> str:
    paired = comparison.on(split)
    row = paired.difference(metric) if paired is not None else None
    assert row is not None  # both phases were scored on both lists
    return words(row)


def _model_effect(inputs: Inputs, ledger: Ledger, after: str, split: str, metric: str) -> Inline:
    change = ledger.interval(inputs.file_own("derived.json"), f"comparisons.{after}.{split}.{metric}", "signed")
    few = _rare(inputs, ledger, after, split, metric)
    return run(change, f" on {NAMES[split]}", *((" (", few, ": not reliable)") if few else ()))
