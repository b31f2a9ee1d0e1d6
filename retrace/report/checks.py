"""The verification checklist: every box is ticked or crossed by a function that checks files or metrics."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from retrace.config import read_yaml
from retrace.data.audit import SPLITS, find_leaks
from retrace.data.manifest import read_manifest
from retrace.data.splits import read_list
from retrace.documents.derived import Check, Derived
from retrace.documents.provenance import Provenance
from retrace.files import sha256_of
from retrace.report.blocks import Table, cell
from retrace.report.inputs import Inputs, values
from retrace.report.lists import GIVEN, scored
from retrace.report.numbers import Ledger, number

SAME = 0.005  # half a point: largest allowed difference of the shipped file from its epoch in the log
TICKED, CROSSED = "☑", "☒"


def _box(what: str, wanted: str | int, found: str | int, passed: bool) -> Check:
    return Check(what=what, wanted=wanted, found=found, passed=passed)


def run_checks(inputs: Inputs, origin: Provenance) -> list[Check]:
    """The boxes for derived.json, in the order of the list.

    `origin` is provenance.json.
    """
    rows = [_device(inputs, origin)]
    for check in CHECKS:
        result = check(inputs)
        rows += result if isinstance(result, list) else [result] if result is not None else []
    return rows


def _counts(inputs: Inputs) -> Check | None:
    """Numbers of images as given: the published ones, or those that the generator was asked for."""
    drawn = inputs.params.data.synthetic
    wanted: dict[str, int] = {str(name): count for name, count in inputs.params.report.published_images.items()}
    if drawn is not None:
        wanted = {name: getattr(drawn, name) for name in SPLITS}
    if not wanted:
        return None
    aside = {split: _without_masks(inputs, split) for split in wanted}
    before = inputs.splits.counts.before
    found = {split: (before[split].images if split in before else 0) + aside[split] for split in wanted}
    names = (split + (" (without masks: unlabeled)" if aside[split] else "") for split in wanted)
    return _box("images as given: " + " / ".join(names), _slashed(wanted), _slashed(found), found == wanted)


def _without_masks(inputs: Inputs, split: str) -> int:
    """Images of a split without masks, e.g. BDD100K's test split; they are part of `unlabeled` by design."""
    source = inputs.params.data.source
    if source.kind != "bdd100k":
        return 0
    folder = f"{source.images.strip('/')}/{split}"
    rows = inputs.dataset.sources
    return sum(row.images for row in rows if row.name == folder and row.split == "unlabeled")


def _slashed(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{count:,}" for count in counts.values())


def _lists(inputs: Inputs) -> Check:
    """The lists on disk have the counted numbers of images, and no image is in two lists."""
    folder = Path("data", inputs.study, "splits")
    lists = {split: read_list(folder, split) for split in SPLITS}
    wanted = {split: inputs.splits.counts.after[split].images for split in SPLITS}
    ids = [image for found in lists.values() for image in found]
    twice = len(ids) - len(set(ids))
    found = {split: len(listed) for split, listed in lists.items()}
    text = _slashed(found) + (f"; {twice} in two lists" if twice else "")
    return _box(
        "images in use: train / val / test, each in one list", _slashed(wanted), text, found == wanted and not twice
    )


def _classes(inputs: Inputs) -> Check:
    """The class names of the data and of the model are those of params.yaml, in the same order."""
    wanted = list(inputs.params.classes)
    there = {"data": list(inputs.dataset.classes), "model": list(inputs.active.classes)}
    wrong = [f"{name}: {', '.join(found)}" for name, found in there.items() if found != wanted]
    text = "; ".join(wrong) or "the same in data and model"
    return _box("class names", ", ".join(wanted), text, not wrong)


def _minimum(inputs: Inputs) -> list[Check]:
    """Every split has the minimum number of instances that rebalancing was asked for."""
    options, rows = inputs.params.rebalance, []
    for split, least in (("val", options.min_val_instances), ("test", options.min_test_instances)):
        counted = inputs.splits.counts.after[split].classes
        for name in (options.classes or inputs.params.classes) if least else ():
            found = counted[name].instances
            rows.append(_box(f"{name} in {split}", f"at least {least}", found, found >= least))
    return rows


def _no_leaks(inputs: Inputs) -> Check:
    """No image has a copy or near-duplicate in another of the lists in use."""
    records = read_manifest(Path("data", inputs.study, "raw")).records
    folder = Path("data", inputs.study, "splits")
    used = [replace(records[image], split=split) for split in SPLITS for image in read_list(folder, split)]
    options = inputs.params.rebalance
    kinds = ("exact", "near", "group") if options.keep_groups else ("exact", "near")
    leaks = [leak for leak in find_leaks(used, options.duplicate_distance) if leak.kind in kinds]
    return _box(f"leaks between the lists in use ({', '.join(kinds)})", 0, len(leaks), not leaks)


def _both_lists(inputs: Inputs) -> Check | None:
    if GIVEN not in inputs.params.evaluate.splits:
        return None
    found = scored(inputs)
    return _box("every model scored on val as given and rebalanced", "yes", "yes" if found else "no", found)


def _weights(inputs: Inputs) -> Check:
    """The weights file on disk is the file that was scored."""
    entry = inputs.active.weights
    path = Path("models", inputs.study, inputs.params.phase, entry.file)
    found = sha256_of(path) if path.is_file() else None
    what = f"{path.as_posix()} is the file that was scored"
    text = f"sha256 {found[:16]}..." if found else "no such file"
    return _box(what, f"sha256 {entry.sha256[:16]}...", text, found == entry.sha256)


def _settings(inputs: Inputs) -> Check | None:
    """The training used every hyper-parameter of params.yaml."""
    phase = inputs.params.phases[inputs.params.phase]
    path = Path("models", inputs.study, inputs.params.phase, "training_config.yaml")
    if phase.engine != "ultralytics" or not path.is_file():
        return None
    used, wanted = read_yaml(path), phase.hyperparameters.model_dump(mode="json")
    wrong = [f"{key}: {used.get(key)}, not {value}" for key, value in wanted.items() if used.get(key) != value]
    text = "; ".join(wrong) or f"{len(wanted)} of {len(wanted)} equal"
    return _box("hyper-parameters of the training that ran", "those of params.yaml", text, not wrong)


def _epochs(inputs: Inputs) -> Check:
    """The log contains every epoch once."""
    facts = inputs.active.training
    epochs = [number(row.get("epoch")) for row in inputs.history[inputs.params.phase]]
    passed = epochs == list(range(1, facts.epochs_run + 1))
    return _box("epochs in training_results.csv", f"1 to {facts.epochs_run}", f"{len(epochs)} rows", passed)


def _best_epoch(inputs: Inputs) -> Check | None:
    """The shipped epoch is the best epoch of the log."""
    facts = inputs.active.training
    pairs = values(inputs.history[inputs.params.phase], facts.monitor)
    if not pairs:
        return None
    best = max(pairs, key=lambda pair: (pair[1], -pair[0]))[0]
    what = f"the shipped epoch has the best {facts.monitor} of the log"
    return _box(what, f"epoch {best:.0f}", f"epoch {facts.best_epoch}", best == facts.best_epoch)


def _same_score(inputs: Inputs) -> Check | None:
    """The shipped file scores as in the log, so the headline is not from another epoch."""
    facts = inputs.active.training
    shipped = inputs.active.metric(facts.monitor, "val").value
    if shipped is None or facts.best_value is None:
        return None
    difference = abs(shipped - facts.best_value)
    what = f"{facts.monitor} on val: the shipped file, reloaded, against the log's best epoch"
    return _box(what, f"at most {SAME} apart", f"{difference:.4f} apart", difference <= SAME)


def _device(inputs: Inputs, origin: Provenance) -> Check:
    """The device that params.yaml asks for was available when the report was made."""
    wanted, there = inputs.params.machine.device, origin.hardware.available
    return _box("device available", wanted, ", ".join(there), wanted in (*there, "auto"))


def _expected(inputs: Inputs) -> list[Check]:
    """The results are within the range that params.yaml expects (for the named seeds)."""
    rows = []
    for entry in inputs.params.expected:
        if entry.seeds and inputs.params.seed not in entry.seeds:
            continue
        found = inputs.active.metric(entry.metric, entry.split).value
        low, high = entry.value - entry.tolerance, entry.value + entry.tolerance
        passed = found is not None and low <= found <= high
        text = "not measured" if found is None else f"{found:.4f}"
        rows.append(_box(f"{entry.metric} on {entry.split}", f"{low:.4f} to {high:.4f}", text, passed))
    return rows


CHECKS: tuple[Callable[[Inputs], Check | list[Check] | None], ...] = (
    *(_counts, _lists, _classes, _minimum, _no_leaks, _both_lists),
    *(_weights, _settings, _epochs, _best_epoch, _same_score, _expected),
)


def table(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table:
    """The checklist."""
    file, rows = inputs.file_own("derived.json"), []
    for index, row in enumerate(derived.checks):
        box = cell(TICKED if row.passed else CROSSED, tone="good" if row.passed else "bad")
        wanted, found = (cell(ledger.num(file, f"checks.{index}.{name}", "plain")) for name in ("wanted", "found"))
        rows.append((box, cell(row.what), wanted, found))
    note = "Each box was set by a check that ran when this report was made."
    if not inputs.params.expected:
        note += " No score is checked, because params.yaml states no expected values (`expected`)."
    return Table("checklist", "Checklist", ("Passed", "Check", "Expected", "Found"), tuple(rows), (note,))
