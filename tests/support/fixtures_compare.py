"""A reported study under Git whose dvc.lock and cache hold what was evaluated, as `retrace compare` reads it."""

import contextlib
import hashlib
import json
import shutil

from retrace.config.load import load
from stages import report as stage
from tests.support.fixtures_metrics import build
from tests.support.projects import run


def make(folder, task):
    """Fill `folder` with the study of a task; returns it."""
    params = build(folder, task)
    (folder / "metrics" / params["study"] / "gone.json").unlink()
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").touch()
    (folder / ".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n")
    lock(folder, params)
    with contextlib.chdir(folder):
        stage.report(load())
    for name in ("docs", "studies"):
        (folder / name).mkdir()
    (folder / "studies" / "offroad.yaml").write_text("study: offroad\n")
    (folder / "studies" / "offroad.demo.yaml").write_text("{}\n")
    run(folder, "git", "init", "-q", "-b", "main", check=True)
    commit(folder)
    return folder


def copied(folder, target, monkeypatch):
    shutil.copytree(folder, target, dirs_exist_ok=True, symlinks=True)
    monkeypatch.chdir(target)
    return target


def commit(folder, message="state"):
    run(folder, "git", "add", "-A", check=True)
    run(folder, "git", "commit", "-qm", message, check=True)


def store(root, content):
    """Put bytes into the DVC cache of a project; their md5."""
    md5 = hashlib.md5(content).hexdigest()
    path = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def store_folder(root, folder):
    """Put a folder into the cache as DVC does: a listing that names the files by md5."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    listed = [{"md5": store(root, path.read_bytes()), "relpath": path.relative_to(folder).as_posix()} for path in files]
    content = json.dumps(listed).encode()
    md5 = store(root, content)
    target = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    target.rename(target.with_name(target.name + ".dir"))
    return md5 + ".dir"


def lock(root, params):
    """dvc.lock of the evaluations, everything they read and wrote in the cache."""
    study = params["study"]
    manifest = root / "data" / study / "raw" / "manifest.jsonl"
    md5 = store(root, manifest.read_bytes())
    stages = {}
    for phase in params["phases"]:
        document = root / "metrics" / study / f"{phase}.json"
        outs = {
            f"metrics/{study}/{phase}": store_folder(root, document.with_suffix("")),
            f"metrics/{study}/{phase}.json": hashlib.md5(document.read_bytes()).hexdigest(),
        }
        stages[f"evaluate@{phase}"] = {
            "cmd": f"python -m stages.evaluate {phase}",
            "deps": [{"path": manifest.relative_to(root).as_posix(), "md5": md5}],
            "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()],
        }
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
