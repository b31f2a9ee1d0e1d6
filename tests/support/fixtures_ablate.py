"""A committed project whose dvc.lock knows what an ablation of off-road starts from, as `retrace ablate` finds it."""

import shutil
from pathlib import Path

import yaml

from retrace.config import read_yaml
from retrace.config.ablation import changed
from tests.support.projects import make_project, run, tiny_params, write_params

UPSTREAM = {"data/offroad/raw": "a" * 32, "data/offroad/splits": "b" * 32, "models/offroad/backbone": "c" * 32}


def lock(project: Path, outs: dict[str, str]) -> None:
    """A dvc.lock as an earlier run would have left it."""
    stages = {f"stage{index}": {"outs": [{"path": p, "md5": m}]} for index, (p, m) in enumerate(outs.items())}
    deps = [{"path": f"{path}/manifest.jsonl", "md5": md5} for path, md5 in outs.items() if path.endswith("/raw")]
    stages["rebalance"] = {"deps": deps}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def edit(project: Path, **changes) -> None:
    write_params(
        project, changed(read_yaml(project / "params.yaml"), {k.replace("__", "."): v for k, v in changes.items()})
    )


def commit(project: Path) -> None:
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", "an edit", check=True)


def make(folder: Path) -> Path:
    """Fill `folder` with the project; returns it."""
    make_project(folder, tiny_params("offroad"))
    lock(folder, UPSTREAM)
    commit(folder)
    return folder


def enter_copy(made: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the project, as the working folder."""
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for key in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(key, "test")
    for key in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(key, "test@example.org")
    return tmp_path / "project"
