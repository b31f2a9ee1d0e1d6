"""A clone of the project under .retrace/ in which experiments run, so that the user's own files are never touched.

It shares the project's DVC cache (nothing is downloaded or computed twice) and keeps its own scratch folder: a training
that was killed goes on from its last complete epoch. The clone is disposable; deleting it costs no more than that.
"""

import shutil
from pathlib import Path

from retrace.files import SCRATCH
from retrace.programs import dvc, git
from retrace.provenance.md5 import cache_of

LOCKS = ("index.lock", "HEAD.lock", "config.lock")  # left by a Git command that was killed


class Workspace:
    """`folder` is a clone at `commit`, with every out of the pipeline that dvc.lock names."""

    def __init__(self, study: str, commit: str, root: Path):
        self.folder = root / SCRATCH / "ablation" / study
        self.commit, self.root = commit, root

    def prepare(self) -> None:
        """Make the clone, or bring it to the commit, with its outs checked out from the shared cache."""
        if not (self.folder / ".git" / "HEAD").is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            git("clone", "-q", "--no-checkout", str(self.root), str(self.folder))
        self._clear_locks()
        # by its path, not as `origin`: a project that was moved or copied takes this clone along
        git("fetch", "-q", str(self.root), "HEAD", folder=self.folder)
        for key in ("user.name", "user.email"):
            value = git("config", key, folder=self.root, check=False).strip()
            if value:
                git("config", key, value, folder=self.folder)
        self.reset()
        self._share_cache()
        self.dvc("checkout", "--force", "--allow-missing")

    def reset(self) -> None:
        """All tracked files as committed; outs, scratch and logs stay."""
        git("checkout", "-q", "-f", "--detach", self.commit, folder=self.folder)
        git("clean", "-fdq", folder=self.folder)

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """stdout of a DVC command in the clone."""
        return dvc(*arguments, folder=self.folder, check=check)

    def _clear_locks(self) -> None:
        for name in LOCKS:
            (self.folder / ".git" / name).unlink(missing_ok=True)
        for ref in git("for-each-ref", "--format=%(refname)", "refs/exps/exec", folder=self.folder).splitlines():
            git("update-ref", "-d", ref, folder=self.folder)
        for name in ("rwlock", "rwlock.lock", "exps/run", "exps/rwlock"):
            path = self.folder / ".dvc" / "tmp" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _share_cache(self) -> None:
        own, local = self.root / ".dvc" / "config.local", self.folder / ".dvc" / "config.local"
        if own.is_file():  # where remotes keep their keys
            shutil.copyfile(own, local)
        self.dvc("cache", "dir", "--local", str(cache_of(self.root).folder.resolve()))
        # no second copy of the data: nobody edits files in this clone, so a link into the cache is safe here
        self.dvc("config", "--local", "cache.type", "reflink,hardlink,copy")
