"""`retrace verify`: verify a result by rerunning its commit in a temporary clone and comparing every file."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from retrace.errors import UserError
from retrace.programs import git
from retrace.provenance.verify import checks, operations, spot
from retrace.provenance.verify.clone import resolve
from retrace.provenance.verify.job import Job, prepare, ready
from retrace.provenance.verify.outs import DIFFERENT, NOT_RUN, SAME, TOLERATED, Row
from retrace.provenance.verify.standing import standing

LISTED = 8  # files or keys listed below a row
NOT_RERUN = "nothing was rerun, so it was not checked whether the commit reproduces its results"
Signer = Callable[[Job], str]  # checks a signature and says what was signed


@dataclass(frozen=True)
class How:
    """What of a commit is run again: everything, or less where an option says so.

    spot: how many epochs are run again instead of all trainings. seed: of their choice.
    """

    data_from_cache: bool = False
    no_rerun: bool = False
    spot: int | None = None
    seed: int | None = None

    def require_one(self) -> None:
        """Raise `UserError` for options that exclude each other."""
        if self.spot is not None and (self.no_rerun or self.data_from_cache):
            raise UserError("--spot takes the data from the cache and runs epochs again; leave out the other option")
        if self.seed is not None and self.spot is None:
            raise UserError("--seed chooses the epochs of --spot; give both")


def verify(study: str | None, rev: str, how: How, key: Path | None) -> None:
    """Verify a commit, and print the table and the verdict.

    Without a rerun and without `study`, every study whose report the commit holds is checked.

    key: file of the public key with which the results must be signed.

    Raises:
        UserError: a result differs. The clone is then kept, and the message gives its path.
    """
    how.require_one()
    signer = _signer(key)
    project = Path.cwd()
    commit = resolve(project, rev)
    note_changes(project, "verified")
    checked = _verify(project, commit, study, how, signer)
    if how.no_rerun:
        for name in reported(project, commit) if study is None else ():
            if name != checked:
                _verify(project, commit, name, how, signer)
        typer.echo(NOT_RERUN)


def verify_capsule(path: Path, rerun: bool, key: Path | None) -> None:
    """Verify a capsule: its files against its own commit and cache, then as `verify` does, without a network.

    Raises:
        UserError: something differs, or the file is no capsule.
    """
    from retrace.capsule.check import differences, unpack

    signer = _signer(key)
    temporary = Path(tempfile.mkdtemp(prefix="retrace-capsule-"))
    try:
        capsule = unpack(path, temporary)
        wrong = differences(capsule, temporary)
        if wrong:
            checks.require([f"not verified: {path} is not what its commit and its results give:", *wrong])
        count = sum(file.is_file() for file in capsule.folder.rglob("*"))
        typer.echo(f"{path}: {count} files, as its commit and its results give them")
        _verify(capsule.root, capsule.info.commit, capsule.info.study, How(no_rerun=not rerun), signer)
    except UserError as error:
        message = without(temporary, str(error))
        for folder in ("capsule", "project", "made"):
            message = message.replace(f"{temporary / folder}/", "")
        raise UserError(message) from None
    finally:
        checks.discard(temporary)
    if not rerun:
        typer.echo(NOT_RERUN)


def note_changes(project: Path, done: str) -> None:
    """Say that uncommitted changes are not `done`, where there are any."""
    changes = len(git("status", "--porcelain", "--untracked-files=no", folder=project).splitlines())
    if changes:
        typer.echo(f"note: only the commit is {done}, without the {changes} uncommitted changes here")


def _signer(key: Path | None) -> Signer | None:
    """The check of a signature; the key is read before anything takes time."""
    if key is None:
        return None
    from retrace.provenance.keys import public_key
    from retrace.provenance.verify import signed

    found = public_key(key)
    return lambda job: signed.check(job, found)


def reported(project: Path, commit: str) -> list[str]:
    """The studies whose report a commit holds, sorted."""
    names = git("ls-tree", "-r", "--name-only", commit, "--", "reports", folder=project).splitlines()
    return sorted(Path(name).parts[1] for name in names if Path(name).match("reports/*/parameters.json"))


def _verify(project: Path, commit: str, study: str | None, how: How, signer: Signer | None) -> str:
    """Verify one study; returns its name."""
    temporary = Path(tempfile.mkdtemp(prefix="retrace-verify-"))
    keep = False
    try:
        job = prepare(project, commit, study, how.data_from_cache, temporary)
        typer.echo(f"study {job.params.study}, commit {commit[:12]}, recorded in {job.record.file}")
        require_standing(job, "not verified")
        if signer is not None:
            typer.echo(signer(job))
        if how.no_rerun:
            return job.params.study
        drawn = None if how.spot is None else spot.draw(job, how.spot, how.seed)
        if drawn is None:
            ready(job)
        else:
            spot.ready(job)
        keep = True  # from here on, the clone helps to find a difference
        if drawn is None:
            _rerun(job)
        else:
            _spot(job, drawn)
        keep = False
        return job.params.study
    except KeyboardInterrupt:
        keep = False
        raise UserError(
            "interrupted; the temporary clone was removed, so the next run starts from the beginning"
        ) from None
    except UserError as error:
        if keep:
            raise UserError(f"{error}\n       the clone is kept for a closer look: {temporary}") from None
        raise UserError(without(temporary, str(error))) from None
    finally:
        if not keep:
            checks.discard(temporary)


def without(temporary: Path, message: str) -> str:
    """The message with paths in the project instead of paths in the clone, which is removed."""
    for folder in ("clone", "committed"):
        message = message.replace(f"{temporary / folder}/", "")
    return message


def require_standing(job: Job, what: str) -> None:
    """Print what the fast check looked at; raise a `UserError` that starts with `what` where something is wrong."""
    start = f"{what}: the recorded hashes, the report or stored files are damaged, so nothing was rerun:"
    try:
        result = standing(job)
    except UserError as error:
        raise UserError(f"{start}\n       {error}") from None
    if result.wrong:
        checks.require([start, *result.wrong])
    for line in result.lines():
        typer.echo(line)


def _rerun(job: Job) -> None:
    if job.incomparable:
        raise UserError(f"not verified: {job.incomparable}")
    mode = "bit-identity" if job.bits else "tolerance"
    typer.echo(f"rerunning in {job.root}, checking {mode} ({job.why})\noutput of the stages: {job.log}")
    typer.echo(operations.sentence(*operations.differing_here()))
    compared = checks.run_again(job)
    seeds = [] if compared.stopped else checks.run_seeds(job)
    rows = compared.rows + [row for row, _ in seeds]
    show(rows)
    for _, sentence in seeds:
        typer.echo(sentence)
    _require_same(job, rows, compared.stopped)
    typer.echo(verdict(rows, job.bits))


def _spot(job: Job, drawn: spot.Draw) -> None:
    if job.incomparable:
        raise UserError(f"not verified: {job.incomparable}")
    epochs = ", ".join(f"{epoch.training} {epoch.number}" for epoch in drawn.epochs)
    typer.echo(f"running {len(drawn.epochs)} of {drawn.total} epochs again, drawn with --seed {drawn.seed}: {epochs}")
    if drawn.left_out:
        typer.echo(f"without a record of their epochs, so none was drawn of them: {', '.join(drawn.left_out)}")
    typer.echo(f"in {job.root}\noutput of the stages: {job.log}")
    typer.echo(operations.sentence(*operations.differing_here()))
    compared = spot.run_spot(job, drawn)
    show(compared.rows)
    _require_same(job, compared.rows, compared.stopped)
    typer.echo(f"spot check passed: these epochs, evaluation and report are bit-identical; {drawn.chance()}")


def _require_same(job: Job, rows: list[Row], stopped: bool) -> None:
    bad = [row for row in rows if row.result == DIFFERENT]
    since = checks.changed_since(job)
    if bad and since:
        typer.echo(f"files that changed since the run was recorded: {', '.join(since)}")
    if bad:
        end = "; the rerun ended there" if stopped else ""
        raise UserError(f"not verified: {len(bad)} of {len(rows)} rows are {DIFFERENT}{end}")


def show(rows: list[Row]) -> None:
    """Print the table, within the width of the terminal (80 columns in a pipe), then the rows that differ in detail."""
    console = Console()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("stage", "out"):
        table.add_column(name, overflow="fold")
    for name in ("committed", "rerun", "result"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        out = row.out if console.width > 80 or len(row.out) <= 25 else "/\n".join(row.out.rsplit("/", 1))
        table.add_row(row.stage, out, row.committed, row.rerun, row.result)
    console.print(table, highlight=False, markup=False)
    for row in rows:
        for line in row.details[:LISTED]:
            typer.echo(f"{row.result}: {line}")
        if len(row.details) > LISTED:
            typer.echo(f"{row.result}: {row.out}: and {len(row.details) - LISTED} more")


def verdict(rows: list[Row], bits: bool) -> str:
    """The last line where nothing is DIFFERENT: bit-identical or within tolerance, and what was not rerun."""
    other = [row for row in rows if row.result not in (SAME, TOLERATED, NOT_RUN)]
    left_out = ", ".join(f"{row.stage}: {row.out}" for row in rows if row.result == NOT_RUN)
    stated = sum(row.stage == "expected" for row in rows)
    tail = f"; {stated} expected values reached" if stated else ""
    tail += f"; not rerun: {left_out}" if left_out else ""
    if not other or bits:
        extra = "".join(f"; {row.out}: {row.result}" for row in other)
        return f"verified: bit-identical{extra}{tail}"
    return (
        f"verified: within tolerance, not bit-identical ({len(other)} rows differ in bytes or were not checked){tail}"
    )
