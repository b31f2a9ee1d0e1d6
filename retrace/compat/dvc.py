"""Interfaces of DVC that its documentation does not name: all but `dvc.api` and the commands."""

from collections.abc import Callable
from pathlib import Path

from retrace.errors import UserError


def cache_folder(project: Path) -> Path:
    """The DVC cache that a project uses; `dvc cache dir`, which prints it, takes a second to start.

    Raises:
        UserError: there is no DVC project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            return Path(repo.cache.local_cache_dir)
    except DvcException as error:
        raise UserError(f"{project}: its DVC cache is not known ({error}); see `retrace doctor`") from None


def is_ignored(project: Path) -> Callable[[str], bool]:
    """Whether DVC ignores the file at an absolute path; `dvc check-ignore` takes a second per call."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        return repo.dvcignore.is_ignored_file


def queue_states(project: Path) -> dict[str, str]:
    """`{experiment: status}` of DVC's queue, e.g. "Queued"; `dvc queue status` prints a table only."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        return {row["name"]: row["status"] for row in repo.experiments.celery_queue.status()}
