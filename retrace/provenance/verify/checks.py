"""The checks that need a rerun: compare its results with the record, then other seeds with the expected values."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from retrace.config import read_yaml
from retrace.config.trainings import stage_of
from retrace.documents.hashes import Outcome
from retrace.documents.scores import read_scores
from retrace.errors import UserError
from retrace.files import dump_json, write_text
from retrace.provenance.md5 import changed, listing
from retrace.provenance.verify import deps, expected, outs, pages
from retrace.provenance.verify.again import code_of, write_again
from retrace.provenance.verify.comparison import outcome, training_of, write_comparisons
from retrace.provenance.verify.job import Job
from retrace.provenance.verify.material import gather
from retrace.provenance.verify.outs import DIFFERENT, SAME, Row
from retrace.provenance.verify.records import chain, from_lock, stage_names
from retrace.provenance.verify.rerun import StageFailed, rerun
from retrace.report.document import read

DATA = ("collect", "rebalance")  # the stages before all that trains


@dataclass(frozen=True)
class Compared:
    """Rows of the table; `stopped`: the rerun ended at the first difference, so later stages have no row."""

    rows: list[Row]
    stopped: bool = False


def run_again(job: Job) -> Compared:
    """Run the stages in the clone and compare every out, every metric and the report.

    Ends where the data differ, and where bits must be the same at the first epoch of a training that differs.
    """
    names = stage_names(job.params)
    skipped = names[:1] if job.data_from_cache else []
    job.log.unlink(missing_ok=True)
    data = ["--single-item", "rebalance"] if skipped else ["rebalance"]
    rerun(job.root, job.log, "rerun of the data", len(DATA) - len(skipped), [data])
    rows = _outs(job, DATA, skipped)
    if any(row.result == DIFFERENT for row in rows):
        return Compared(rows, stopped=True)
    compare = _comparisons(job) if job.bits else None
    try:
        rerun(job.root, job.log, "rerun", len(names) - len(DATA), [["--downstream", "pretrain"]], compare)
    except StageFailed as error:
        parted = None if compare is None else outcome(compare, training_of(error.stage))
        if parted is None:
            raise
        rows += compare_stages(job, error.finished)
        return Compared([*rows, _parted(job, error.stage, parted)], stopped=True)
    return Compared(rows + compare_stages(job, names[len(DATA) :]) + compare_reports(job))


def _comparisons(job: Job) -> Path:
    folder = job.before.parent / "compare"
    write_comparisons(folder, job.before, job.project, job.params)
    return folder


def _outs(job: Job, stages: Collection[str], skipped: Collection[str] = ()) -> list[Row]:
    record = replace(job.record, outs={name: outs for name, outs in job.record.outs.items() if name in stages})
    return outs.compare_outs(job.root, job.before, record, job.cache, job.bits, list(skipped))


def compare_stages(job: Job, stages: Collection[str]) -> list[Row]:
    """Rows of the outs and metrics of the stages that were run again."""
    scored = [name for name in job.params.trainings if stage_of("evaluate", name) in stages]
    rows = _outs(job, stages)
    return rows + outs.compare_metrics(job.root, job.before, job.params, job.bits, scored)


def compare_reports(job: Job) -> list[Row]:
    """Rows of what all outs together give: deps, printed numbers and the report."""
    return [_deps(job), _numbers(job), _report(job)]


def _parted(job: Job, stage: str, found: Outcome) -> Row:
    """The row of a training that ended where it differs."""
    out, md5 = next(iter(job.record.outs[stage].items()))
    step = "" if found.step is None else f", step {found.step}"
    details = (f"{stage}: {found.sentence()}",)
    return Row(stage, out, md5[: outs.SHORT], f"epoch {found.epoch}{step}", DIFFERENT, details)


def _deps(job: Job) -> Row:
    """Check every recorded dependency again, now that the outputs that some of them name exist."""
    checked = deps.check(job.root, job.root, job.record, job.cache)
    lost = len(checked.unchecked)
    result = DIFFERENT if checked.wrong else "not all checked" if lost else SAME
    details = [*checked.wrong, *(f"{path}: not compared: {why}" for path, why in checked.unchecked.items())]
    total = checked.compared + len(checked.wrong) + len(checked.since) + lost
    text = f"{len(checked.wrong)} wrong" if checked.wrong else f"{checked.compared} same"
    return Row("record", "deps", f"{total}", text, result, tuple(details))


def _numbers(job: Job) -> Row:
    """Compare every number of the committed report with its file, where the recorded file is available."""
    gather(job.before, job.record, job.cache, [job.root])
    found = pages.check(job.before, job.params.study, job.root, results=False)
    lost = sum(found.unchecked.values())
    details = found.wrong + [
        f"{file}: the recorded file is not available here, so {count} numbers from it were not checked"
        for file, count in found.unchecked.items()
    ]
    result = DIFFERENT if found.wrong or (lost and job.bits) else SAME if not lost else "not all checked"
    text = f"{len(found.wrong)} wrong" if found.wrong else f"{found.numbers} same"
    return Row("report", "numbers on the pages", f"{found.numbers + lost}", text, result, tuple(details))


def _report(job: Job) -> Row:
    """Compute the report from the new results; with the committed provenance, the bytes must be the same."""
    name, again = f"reports/{job.params.study}", job.before.parent / "again"
    committed = job.before / name
    code = code_of(job.root, name, read(committed).report.code)
    try:
        if code is None:
            raise UserError("written by report code that this commit does not hold")
        write_again("results", code, job.root, committed, again)
    except UserError as error:
        why = (f"{name}: {error}; its numbers were checked one by one",)
        return Row("report", name, "-", "-", "not compared", why)
    old, new = listing(committed) or {}, listing(again / "report") or {}
    names = changed(old, new)
    details = tuple(f"{name}/{file}" for file in names)
    result = SAME if not names else DIFFERENT if job.bits else "other bytes"
    return Row("report", name, f"{len(old)} files", f"{len(old) - len(names)} same", result, details)


def run_seeds(job: Job) -> list[tuple[Row, str]]:
    """Run the stages of the active phase once per stated seed and test each expected value against the scores.

    The splits stay those of the study's own seed. Returns a row and a sentence for each expected value.
    """
    if not job.params.expected:
        return []
    active, metrics = job.params.phase, f"metrics/{job.params.study}/{job.params.phase}.json"
    documents = {job.params.seed: read_scores(job.root / metrics)}
    line = [f"finetune@{phase}" for phase in reversed(chain(job.params, active))]
    targets = ["pretrain", *line, f"evaluate@{active}"]
    for seed in expected.seeds_of(job.params):
        if seed not in documents:
            changed = {"seed": seed, "repeats": {"phases": [], "seeds": []}}
            write_text(job.root / "params.yaml", dump_json(read_yaml(job.root / "params.yaml") | changed))
            rerun(job.root, job.log, f"seed {seed}", len(targets), [["--single-item", *targets]])
            documents[seed] = read_scores(job.root / metrics)
    result = []
    for wanted in job.params.expected:
        seeds = wanted.seeds or (job.params.seed,)
        scores = [documents[seed].metric(wanted.metric, wanted.split).value for seed in seeds]
        known = [value for value in scores if value is not None]
        name, goal = f"{wanted.metric}, {wanted.split}", f"{wanted.value:g}-{wanted.tolerance:g}"
        if len(known) < len(scores):
            row = Row("expected", name, goal, "-", DIFFERENT, (f"{name}: not measured for every seed",))
            result.append((row, f"{name}: not measured for every seed"))
            continue
        verdict = expected.judge(wanted, known)
        passed = outs.TOLERATED if verdict.passed else DIFFERENT
        listed = ", ".join(f"{seed}: {value:.4f}" for seed, value in zip(seeds, known, strict=True))
        row = Row("expected", name, goal, f"{verdict.mean:.4f}", passed)
        result.append((row, f"{verdict.describe(wanted)} [seeds {listed}]"))
    return result


def changed_since(job: Job) -> list[str]:
    """Dependencies (code, lock file, raw data) that changed since the run was recorded; call it after a rerun."""
    now = from_lock(job.root, job.params)
    names = set()
    made = set(job.record.paths())
    for stage, found in (now.deps if now else {}).items():
        recorded = job.record.deps.get(stage, {})
        names |= {path for path, md5 in found.items() if path not in made and recorded.get(path, md5) != md5}
    return sorted(names)


def discard(folder: Path) -> None:
    """Remove a temporary folder and all below it."""
    shutil.rmtree(folder, ignore_errors=True)


def require(wrong: list[str]) -> None:
    """Raise a `UserError` that lists the problems, if there are any."""
    if wrong:
        more = f"\n       and {len(wrong) - 30} more" if len(wrong) > 30 else ""
        raise UserError("\n       ".join(wrong[:30]) + more)
