"""One commit of a repository as a Git bundle, without its history, and the way back."""

from pathlib import Path

from retrace.documents.capsule import PACK
from retrace.errors import UserError
from retrace.programs import git

NAME = "repository.bundle"
# the bytes must not depend on how this repository happens to be packed, nor on the number of cores
SAME = ("-c", "pack.threads=1", "-c", "pack.window=0", "-c", "core.compression=6", "-c", "pack.compression=6")
CAREFUL = ("-c", "fetch.fsckObjects=true", "-c", "core.symlinks=false", "-c", "core.hooksPath=/dev/null")
LINKS = ("120000", "160000")  # modes of symbolic links and submodules


def make(project: Path, commit: str, bundle: Path) -> None:
    """Write `commit`, which must be HEAD, and its files to `bundle`."""
    top = git("rev-parse", "--show-toplevel", folder=project).strip()
    bare = bundle.parent / "bare.git"
    git("init", "--quiet", "--bare", str(bare), folder=project)
    git("fetch", "--quiet", "--depth", "1", f"file://{top}", "HEAD", folder=bare)
    git("update-ref", "--no-deref", "HEAD", commit, folder=bare)
    git(*SAME, "repack", "-a", "-d", "-F", "-q", folder=bare)
    git(*SAME, "bundle", "create", "--quiet", str(bundle), "HEAD", folder=bare)


def unpack(bundle: Path, commit: str, target: Path) -> Path:
    """Check the commit out of a bundle into `target`, a new repository whose history begins with it.

    Raises:
        UserError: the bundle is damaged, is of another commit, or holds links.
    """
    name = bundle.name
    git("init", "--quiet", str(target), folder=bundle.parent)
    try:
        heads = git("bundle", "list-heads", str(bundle), folder=target).split()
        if heads != [commit, "HEAD"]:
            raise UserError(f"{name}: is not of commit {commit[:12]} alone; {PACK} again")
        (target / ".git" / "shallow").write_text(f"{commit}\n")
        git(*CAREFUL, "fetch", "--quiet", str(bundle), "HEAD", folder=target)
    except UserError as error:
        raise UserError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None
    rows = git("ls-tree", "-r", "-z", commit, folder=target).split("\0")
    links = [row.split("\t", 1)[1] for row in rows if row.startswith(LINKS)]
    if links:
        raise UserError(f"{name}: {links[0]} is a symbolic link or a submodule; a capsule has plain files only")
    git(*CAREFUL, "checkout", "--quiet", "--detach", commit, folder=target)
    return target
