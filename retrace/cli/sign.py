"""`retrace sign`: sign the results of HEAD with a private key, once the fast check finds nothing wrong."""

import tempfile
from pathlib import Path

import typer

from retrace.cli.verify import note_changes, require_standing, without
from retrace.errors import UserError
from retrace.provenance.keys import key_id, new_pair, private_key
from retrace.provenance.verify.clone import resolve
from retrace.provenance.verify.job import prepare
from retrace.provenance.verify.signed import place, signed


def make_pair(path: Path) -> None:
    """Write a new pair of keys; see `new_pair`."""
    public = new_pair(path)
    typer.echo(f"{path}: the private key; keep it secret, and offline where you can")
    typer.echo(f"{public}: the public key; give it to those who verify, on another way than the results")


def sign(file: Path, study: str | None) -> None:
    """Write signatures/<study>.dsse.json for the results of HEAD.

    Raises:
        UserError: the key cannot be used, or the fast check of the commit finds something wrong; nothing is signed
            then.
    """
    key = private_key(file)
    project = Path.cwd()
    commit = resolve(project, "HEAD")
    note_changes(project, "signed")
    with tempfile.TemporaryDirectory(prefix="retrace-sign-") as temporary:
        try:
            job = prepare(project, commit, study, False, Path(temporary))
            require_standing(job, "not signed")
            envelope = signed(job, key)
        except UserError as error:
            raise UserError(without(Path(temporary), str(error))) from None
    target = place(job.params.study)
    envelope.write(project / target)
    typer.echo(f"{target}: commit {commit[:12]} signed with the key {key_id(key.public_key())[:12]}; commit this file")
