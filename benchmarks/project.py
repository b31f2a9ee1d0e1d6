"""A throw-away project on generated data, prepared by the real stages."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrace.config import merge, read_yaml, whole
from retrace.config.load import parse

ROOT = Path(__file__).parent.parent


def parameters(study: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The demo parameters of a study with `changes` merged in, validated."""
    files = (ROOT / "studies" / f"{study}.yaml", ROOT / "studies" / f"{study}.demo.yaml")
    values = merge(merge(*(read_yaml(file) for file in files)), changes)
    parse(values)
    return values


@contextmanager
def project(values: dict[str, Any], *stages: str, git: bool = False) -> Iterator[Path]:
    """A folder with the project's files and `values` as params.yaml, in which `stages` have run; the current folder.

    git: make it a repository with an empty DVC cache, as `dvc repro` needs.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="retrace-benchmark-") as name:
        folder = Path(name)
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for file in filter(None, files):
            if (ROOT / file).is_file() and not file.startswith(("reports/", "metrics", "plots/", "dvc.lock")):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)
        (folder / "params.yaml").write_text(json.dumps(whole(values)), encoding="utf-8")
        if git:
            for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "benchmark"]):
                run(folder, "git", *command)
        for stage in stages:
            run(folder, sys.executable, "-m", f"stages.{stage}")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def run(folder: Path, *command: str, **env: str) -> str:
    """Run a command in `folder` with this interpreter's programs first on PATH; its output. Raises on failure."""
    who = {
        f"GIT_{role}_{key}": "benchmark@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **who, "PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1", **env}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout
