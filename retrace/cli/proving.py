"""The commands that prove results: verify, sign, pack and checklist. Each imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from retrace.cli.project import require_project
from retrace.errors import UserError, stage


@stage
def verify(
    capsule: Annotated[
        Path | None,
        typer.Argument(help="A capsule (`retrace pack`), checked anywhere; default: the project in this folder."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Study to verify; default: the study in params.yaml.")
    ] = None,
    rev: Annotated[str, typer.Option("--rev", help="Commit to verify.")] = "HEAD",
    data_from_cache: Annotated[
        bool, typer.Option("--data-from-cache", help="Skip collect and use the raw data in your DVC cache.")
    ] = False,
    no_rerun: Annotated[
        bool, typer.Option("--no-rerun", help="Check only hashes, stored files and the report; takes seconds.")
    ] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Also rerun a capsule, of which only the files are checked.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option("--key", help="Public key with which the results must be signed (`retrace sign`).")
    ] = None,
    spot: Annotated[
        int | None,
        typer.Option("--spot", min=1, help="Rerun only this many epochs, drawn at random, evaluation and report."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the draw of --spot; default: a new one each time.")
    ] = None,
) -> None:
    """Verify a result: rerun a commit in a temporary clone and compare every file and number."""
    from retrace.cli import verify as command

    if rerun and no_rerun:
        raise UserError("--rerun and --no-rerun: give one of them")
    if capsule is None:
        require_project()
        return command.verify(study, rev, command.How(data_from_cache, no_rerun, spot, seed), key)
    if study is not None or rev != "HEAD" or data_from_cache or spot is not None or seed is not None:
        refused = "--study, --rev, --data-from-cache, --spot and --seed"
        raise UserError(f"a capsule holds one study and one commit: leave out {refused}")
    command.verify_capsule(capsule, rerun, key)


@stage
def sign(
    key: Annotated[Path | None, typer.Option("--key", help="Private key to sign with.")] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Study to sign; default: the study in params.yaml.")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", help="Write a new private key here, and <file>.pub; signs nothing.")
    ] = None,
) -> None:
    """Sign the results of HEAD, after the fast check; writes signatures/<study>.dsse.json."""
    from retrace.cli import sign as command

    if (key is None) == (new_key is None):
        raise UserError("give --key <private key> to sign, or --new-key <file> to make a pair of keys")
    if new_key is not None:
        if study is not None:
            raise UserError("--new-key makes keys for any study; leave out --study")
        return command.make_pair(new_key)
    if key is not None:
        require_project()
        command.sign(key, study)


@stage
def pack(
    study: Annotated[
        str | None, typer.Option("--study", help="Study to pack; default: the study in params.yaml.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write; default: <study>-<commit>.zip.")
    ] = None,
) -> None:
    """Pack the results of HEAD, after the fast check, into one zip that anybody can verify."""
    from retrace.cli.pack import pack as command

    command(study, out)


@stage
def checklist(
    study: Annotated[str | None, typer.Option("--study", help="Default: the study in params.yaml.")] = None,
) -> None:
    """Print the NeurIPS reproducibility and ACM badge items with their evidence, or "not shown"."""
    from retrace.cli.checklist import checklist as command

    typer.echo(command(study))
