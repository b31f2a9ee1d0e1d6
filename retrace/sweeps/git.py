"""What an ablation asks Git: the commit that experiments start from, and which of them exist."""

from collections.abc import Iterable
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import Experiment, experiments, git


def head() -> str:
    """The commit that experiments hang on; raises `UserError` where tracked files differ from it.

    The ablation's own pages are no obstacle: they are written after the experiments.
    """
    git("rev-parse", "--is-inside-work-tree")
    tracked = ("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)reports/*-ablation")
    changed = git(*tracked).splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:4]) + (" ..." if len(changed) > 4 else "")
        raise UserError(
            f"{names}: differs from the last commit, but experiments start from a commit; commit your changes first"
        )
    return git("rev-parse", "HEAD").strip()


def find(names: Iterable[str], folder: Path | None = None) -> dict[str, Experiment]:
    """`{name: experiment}` of those that exist."""
    wanted = set(names)
    return {found.name: found for found in experiments(folder) if found.name in wanted}
