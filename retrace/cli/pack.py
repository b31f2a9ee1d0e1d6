"""`retrace pack`: write a capsule of a study's results at HEAD, once the fast check finds nothing wrong."""

import tempfile
from pathlib import Path

import typer

import retrace
from retrace.capsule import archive, repository
from retrace.capsule.contents import OWN, code_sum, members
from retrace.cli.verify import note_changes, require_standing, without
from retrace.documents.capsule import CapsuleInfo
from retrace.errors import UserError
from retrace.files import dump_json
from retrace.programs import git
from retrace.provenance.verify.clone import resolve
from retrace.provenance.verify.job import Job, prepare


def pack(study: str | None, out: Path | None) -> None:
    """Write `out`, or <study>-<commit>.zip in the current folder.

    Raises:
        UserError: the fast check finds something wrong, or a result is not in the DVC cache; nothing is written then.
    """
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    project = Path.cwd()
    commit = resolve(project, "HEAD")
    note_changes(project, "packed")
    with tempfile.TemporaryDirectory(prefix="retrace-pack-") as name:
        temporary = Path(name)
        try:
            job = prepare(project, commit, study, False, temporary / "checked")
            require_standing(job, "not packed")
            target = out or Path(f"{job.params.study}-{commit[:12]}.zip")
            archive.write(target, packed_members(job, temporary))
        except UserError as error:
            raise UserError(without(temporary / "checked", str(error))) from None
    typer.echo(f"{target}: {target.stat().st_size / 1e6:.1f} MB; check it anywhere: retrace verify {target.name}")


def packed_members(job: Job, temporary: Path) -> dict[str, bytes | Path]:
    bundle = temporary / repository.NAME
    repository.make(job.project, job.commit, bundle)
    prefix = git("rev-parse", "--show-prefix", folder=job.project).strip()
    info = CapsuleInfo(
        study=job.params.study,
        commit=job.commit,
        folder=prefix.rstrip("/"),
        retrace=retrace.__version__,
        code=code_sum(OWN),
    )
    root = repository.unpack(bundle, job.commit, temporary / "project") / prefix
    return members(root, job.cache, info.study, bundle, dump_json(info.content()).encode())
