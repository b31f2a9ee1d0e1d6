"""Whether the current folder is a project's."""

from pathlib import Path

from retrace.errors import UserError

PROJECT = ("dvc.yaml", "params.yaml", "studies")  # a project's folder has one of them at least


def require_project() -> None:
    """Raise a `UserError` outside a project's folder."""
    here = Path.cwd()
    if any((here / name).exists() for name in PROJECT):
        return
    above = [folder for folder in here.parents if (folder / "dvc.yaml").is_file()]
    go = f"cd {above[0]}" if above else "cd into a clone of the Retrace repository"
    raise UserError(f"{here} is not a project folder (no dvc.yaml, no params.yaml); {go}")
