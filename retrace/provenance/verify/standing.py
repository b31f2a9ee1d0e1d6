"""The checks of a commit that need no rerun: recorded hashes, stored files and printed numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

from retrace.errors import UserError
from retrace.programs import how_to_get
from retrace.provenance.verify import ablation, chains, deps, pages, parameters
from retrace.provenance.verify.job import Job
from retrace.provenance.verify.material import Stored, damage, gather
from retrace.provenance.verify.records import contradictions, from_lock, from_provenance, kept_by_git
from retrace.report.sums import SUMS, wrong_files


@dataclass
class Standing:
    """`wrong` has one line per problem; the other fields describe what was checked."""

    wrong: list[str]
    deps: deps.Checked
    stored: Stored
    report: pages.Checked
    ablated: pages.Checked | None

    def lines(self) -> Iterator[str]:
        """The lines to print where nothing is wrong: what was compared, and what could not be compared and why."""
        deps, stored, report = self.deps, self.stored, self.report
        total = deps.compared + len(deps.since) + len(deps.unchecked)
        yield "environment: the installed packages are those of the lock file"
        yield f"record: consistent with the committed files; {deps.compared} of {total} md5 of deps compared"
        if deps.since:
            yield f"files that changed since the run was recorded (a rerun shows the effect): {', '.join(deps.since)}"
        if stored.here:
            yield f"results stored here: {len(stored.here)} of {stored.outs} outs that DVC keeps, undamaged"
        else:
            yield f"results stored here: none of the {stored.outs} outs that DVC keeps, so none was checked"
        yield from self._numbers("report", report)
        if self.ablated is not None:
            yield from self._numbers("ablation", self.ablated)
        by_reason: dict[str, list[str]] = {}
        for path, why in deps.unchecked.items():
            by_reason.setdefault(why, []).append(path)
        for why, paths in by_reason.items():
            yield f"deps not compared: {', '.join(paths)}: {why}"

    def _numbers(self, name: str, found: pages.Checked) -> Iterator[str]:
        lost = sum(found.unchecked.values())
        yield (
            f"{name}: {found.numbers} of {found.numbers + lost} printed numbers compared with their source files; none "
            "differs"
        )
        if lost:
            files = ", ".join(f"{file} ({count})" for file, count in sorted(found.unchecked.items()))
            again = how_to_get("", "dvc repro")
            yield f"{lost} printed numbers not compared, their files are not here (run {again}): {files}"
        yield from found.notes


def standing(job: Job) -> Standing:
    """Compare the recorded hashes with the committed files, the stored results with the recorded hashes, and every
    printed number with its source file.

    Raises:
        UserError: a file that is needed for these checks cannot be read.
    """
    here = from_lock(job.project, job.params) or from_provenance(job.project, job.params)
    wrong = contradictions(job.root, job.params, job.record)
    wrong += parameters.check(job.root, job.params, job.record, job.origin)
    name = f"reports/{job.params.study}"
    # an earlier commit whose dvc.lock records the report may have no files.json; where it has one, it names the file
    if name not in job.record.paths() or (job.before / name / SUMS).is_file():
        wrong += wrong_files(job.before / name, name)
    found = deps.check(job.root, job.project, job.record, job.cache)
    stored = damage(job.project, job.record, job.cache, here, kept_by_git(job.root, job.params))
    wrong += found.wrong + stored.wrong
    try:
        complete = gather(job.before, job.record, job.cache, [job.project])
        bundle = job.record.paths().get(f"bundles/{job.params.study}")
        report = pages.check(job.before, job.params.study, job.root, results=complete, bundle=bundle)
        wrong += chains.check(job.before, job.params)
        ablated = ablation.check(job.before, job.root, job.project, job.params)
    except UserError as error:
        raise UserError("\n       ".join([*wrong, str(error)])) from None
    wrong += report.wrong
    if ablated is not None:
        wrong += ablated.wrong
    return Standing(wrong, found, stored, report, ablated)
