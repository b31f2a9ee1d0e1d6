"""Git and DVC, called as programs: one place for their environment, their failures and what experiments are called."""

import configparser
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from retrace.errors import UserError

DVC = (sys.executable, "-m", "dvc")
# set by Git in its hooks, by DVC in its experiments: they point a command at another repository than its folder's
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "PYTHONPATH", "DVC_EXP_BASELINE_REV")


class Experiment(NamedTuple):
    """A DVC experiment as Git keeps it: refs/exps/<2>/<38 digits of the commit it started from>/<name>."""

    name: str
    ref: str
    baseline: str
    commit: str


def environment() -> dict[str, str]:
    """For Git and DVC: `python` in a stage's command is this interpreter, and a clone's code is what it imports."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def git(*arguments: str, folder: Path | None = None, check: bool = True) -> str:
    """stdout of a Git command. Raises `UserError` with Git's own words when it fails (unless `check` is off)."""
    done = _git(arguments, folder)
    if check and done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]}: {words or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else ""


def git_bytes(*arguments: str, folder: Path | None = None) -> bytes | None:
    """stdout of a Git command, as it is; None where the command fails."""
    done = _git(arguments, folder)
    return done.stdout if done.returncode == 0 else None


def _git(arguments: tuple[str, ...], folder: Path | None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, env=environment(), capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git was not found; install it: commits and experiments are read with it") from None


def dvc(*arguments: str, folder: Path | None = None, check: bool = True) -> str:
    """stdout of a DVC command. Raises `UserError` with DVC's last line when it fails (unless `check` is off)."""
    done = subprocess.run(
        [*DVC, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if check and done.returncode:
        command = " ".join([*takewhile(lambda word: not word.startswith("-"), arguments)][:2])
        raise UserError(f"dvc {command}: {last_line(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def has_remote(folder: Path | None = None) -> bool:
    """Whether `dvc pull` has somewhere to pull from: a remote in a configuration file that DVC reads.

    Read from the files, since starting DVC takes a second.
    """
    project = folder or Path()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (project / ".dvc" / "config.local", project / ".dvc" / "config", home / "dvc" / "config"):
        found = configparser.RawConfigParser(strict=False, allow_no_value=True)
        try:
            found.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # DVC says what is wrong with the file
            continue
        if any(section.strip("'").startswith("remote ") for section in found.sections()):
            return True
    return False


def how_to_get(path: str, again: str) -> str:
    """The commands that bring back a file of the DVC cache (\"\": all files); `again` makes it anew."""
    return f"`{f'dvc pull {path}'.strip()}`, or `{again}`" if has_remote() else f"`{again}`"


def experiments(folder: Path | None = None) -> list[Experiment]:
    """All experiments of a repository, sorted by ref; none outside of Git."""
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", folder=folder, check=False)
    found = []
    for commit, ref in (line.split(" ", 1) for line in lines.splitlines()):
        parts = ref.split("/", 4)
        if len(parts) == 5 and len(parts[2]) == 2 and len(parts[3]) == 38:
            found.append(Experiment(parts[4], ref, parts[2] + parts[3], commit))
    return found


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
