"""`retrace doctor`: check whether this machine can run the study in params.yaml; each problem comes with a remedy."""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

from retrace import environment
from retrace.cli import gpu_memory, hardware
from retrace.cli.findings import ERROR, OK, WARNING, Finding
from retrace.errors import UserError
from retrace.files import LOGS, SCRATCH

WRITTEN = (".", ".dvc", ".git", "data", "models", "metrics", "plots", "reports", "bundles", str(LOGS), str(SCRATCH))
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
COMMIT = "git add -A && git commit -m start"


def line_width() -> int:
    """The width of output lines: that of the terminal, at most 120; 80 in a pipe, as in `docker run` and CI."""
    return min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 80


def examine() -> Iterator[Finding]:
    """Run every check in turn; a check never raises."""
    checks: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("python", _python),
        ("lock", _lock),
        ("params", _params),
        ("processor", hardware.check_processor),
        ("torch", hardware.check_torch),
        ("devices", hardware.check_devices),
        ("gpu memory", gpu_memory.check_gpu_memory),
        ("dvc", _dvc),
        ("git", _git),
        ("folder", _folder),
        ("memory", hardware.check_memory),
        ("disk", hardware.check_disk),
        ("shared memory", hardware.check_shared_memory),
        ("codecs", hardware.check_codecs),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # one failing check must not hide the others
            yield Finding(
                name, ERROR, f"{type(error).__name__}: {error}", "see the message; `make venv` rebuilds the environment"
            )


def _python() -> list[Finding]:
    found, supported = ".".join(map(str, sys.version_info[:3])), supported_pythons()
    if found not in SpecifierSet(supported):
        remedy = f"a supported Python is {supported}: rm -rf .venv && make venv PYTHON=/path/to/python3"
        return [Finding("python", ERROR, f"Python {found}", remedy)]
    return [Finding("python", OK, f"Python {found}")]


def supported_pythons() -> str:
    """`requires-python` of pyproject.toml, or of the installed package where that file did not come along."""
    if PYPROJECT.is_file():
        return str(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"])
    return metadata.metadata("retrace")["Requires-Python"]


def _lock() -> list[Finding]:
    if not environment.LOCK.is_file():
        remedy = f"run this in the project's folder; if the file was deleted: git checkout -- {environment.LOCK}"
        return [Finding("lock", ERROR, f"{environment.LOCK}: no such file", remedy)]
    try:
        environment.require_matching_image()
    except UserError as error:
        return [Finding("lock", ERROR, str(error), "make image-cpu | make image-cuda")]
    lines = environment.differences()
    image = environment.describe_image()
    if image and image.unpinned:
        found = f"{image.name} was built from another {environment.LOCK}, which --allow-unpinned permits"
        remedy = f"every result is marked as not from the locked environment ({len(lines)} packages differ)"
        return [Finding("lock", WARNING, found, f"{remedy}; or: make image-cpu | make image-cuda")]
    if lines:
        more = f" (+{len(lines) - 3} more)" if len(lines) > 3 else ""
        return [Finding("lock", ERROR, "; ".join(lines[:3]) + more, "rm -rf .venv && make venv")]
    return [Finding("lock", OK, f"all packages match {environment.LOCK} ({(environment.lock_hash() or '')[:12]})")]


def _params() -> list[Finding]:
    from retrace.config.load import load

    try:
        params = load()
    except UserError as error:
        return [Finding("params", ERROR, str(error).splitlines()[0], "edit params.yaml, or: retrace use <study>")]
    findings = [Finding("params", OK, f"study {params.study}, phase {params.phase}")]
    if params.runtime.threads > hardware.cores():
        remedy = "the results are the same but slower; or lower runtime.threads and rerun everything"
        found = f"runtime.threads = {params.runtime.threads}, {hardware.cores()} cores here"
        findings.append(Finding("threads", WARNING, found, remedy))
    root = Path(params.data.root)
    if not root.exists():
        findings.append(Finding("data", ERROR, f"{root} is missing", params.report.data_needed or "put the data there"))
    return findings


def _dvc() -> list[Finding]:
    version = metadata.version("dvc")
    if not Path(".dvc").is_dir():
        return [Finding("dvc", ERROR, "no .dvc folder here", "run this in the project's folder")]
    on_path = shutil.which("dvc")
    if on_path is None:
        return [Finding("dvc", WARNING, f"DVC {version}, not on PATH", "source .venv/bin/activate")]
    return [Finding("dvc", OK, f"DVC {version}")]


def _git() -> list[Finding]:
    if shutil.which("git") is None:
        return [Finding("git", ERROR, "git is not installed", "apt-get install git")]
    inside, head = _run_git("rev-parse", "--git-dir"), _run_git("rev-parse", "--verify", "HEAD")
    if inside.returncode:
        unsafe = "dubious ownership" in inside.stderr
        remedy = 'git config --global --add safe.directory "$PWD"' if unsafe else f"git init && {COMMIT}"
        return [Finding("git", ERROR, (inside.stderr.strip().splitlines() or ["no repository"])[0], remedy)]
    if head.returncode:
        return [Finding("git", ERROR, "the repository has no commit, which DVC needs", COMMIT)]
    for role in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if _run_git("var", role).returncode:  # asks as `git commit` does: configuration, variables, the system's own
            remedy = 'git config user.name "You"; git config user.email you@example.org'
            found = f"revision {head.stdout[:12]}, but no identity is set, so `git commit` fails"
            return [Finding("git", WARNING, found, remedy)]
    return [Finding("git", OK, f"revision {head.stdout[:12]}, identity set")]


def _run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True)


def _folder() -> list[Finding]:
    """Try to write: read-only mounts and network shares may refuse what the permissions allow."""
    refused = []
    for name in WRITTEN:
        if Path(name).is_dir():
            try:
                tempfile.TemporaryFile(dir=name).close()
            except OSError as error:
                refused.append((name, error.strerror))
    if refused:
        found = f"not writable: {', '.join(name for name, _ in refused)} ({refused[0][1]})"
        remedy = 'sudo chown -R "$(id -u):$(id -g)" .; in Docker: --user "$(id -u):$(id -g)", and no :ro at -v'
        return [Finding("folder", ERROR, found, remedy)]
    return [Finding("folder", OK, f"{Path.cwd()} is writable")]
