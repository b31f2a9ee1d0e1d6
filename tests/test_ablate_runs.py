"""`retrace ablate` with real experiments: in turn, through the queue, on a Ray cluster, and killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from stages.ablation.git import find
from tests.projects import environment, make_project, run, tiny_params

QUICK = {
    "data": {"synthetic": {"train": 6, "val": 4, "test": 4}},
    "rebalance": {"min_val_instances": 0},  # six images hold too few flowers for more
    "phase_defaults": {"fabric": {"epochs": 2}},
    "phases": {"baseline": {"epochs": 1}},
}


def finished(project: Path, changes=None) -> Path:
    """A committed run of the tiny off-road study."""
    make_project(project, tiny_params("offroad", {**QUICK, **(changes or {})}))
    run(project, "dvc", "repro", check=True)
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", "a run", check=True)
    return project


def ablate(project: Path, *options: str, **kwargs):
    return run(project, sys.executable, "-m", "stages.cli", "ablate", *options, **kwargs)


def forget_experiments(project: Path) -> None:
    """As if none had run: what another test did with the same project must not count."""
    for ref in run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split():
        run(project, "git", "update-ref", "-d", ref, check=True)


def kill_on_the_way(project: Path, after: int) -> int:
    """Start `retrace ablate`, kill it and all it started in the middle of a training; how many had finished."""
    words = [sys.executable, "-m", "stages.cli", "ablate"]
    process = subprocess.Popen(
        words, cwd=project, env=environment(project), start_new_session=True, stdout=subprocess.DEVNULL
    )
    training = project / ".retrace" / "ablation" / "offroad" / "logs" / "offroad" / "aggressive" / "finetune.json"
    while process.poll() is None:
        done = run(project, "git", "for-each-ref", "refs/exps").stdout.count("\n")
        if done >= after and training.is_file() and '"RUNNING"' in training.read_text():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return done
        time.sleep(0.1)
    raise AssertionError("it ended before it could be killed")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_full_factorial_is_killed_goes_on_and_repeats_nothing_upstream(tmp_path):
    project = finished(tmp_path / "project")
    before = {path: path.read_bytes() for path in map(Path, (project / "params.yaml", project / "dvc.lock"))}
    done = kill_on_the_way(project, after=3)
    assert done >= 3
    logs = project / "logs" / "ablation"
    first = {path.name: path.stat().st_mtime_ns for path in logs.iterdir()}
    result = ablate(project, check=True)
    assert f"32 experiments, {done} of them exist for these inputs" in result.stdout
    assert run(project, "git", "for-each-ref", "refs/exps").stdout.count("\n") == 32
    again = [name for name, at in first.items() if (logs / name).stat().st_mtime_ns != at]
    assert len(again) <= 1, "finished experiments were run again"
    clone = project / ".retrace" / "ablation" / "offroad" / "logs" / "offroad"
    assert sorted(path.name for path in clone.iterdir()) == ["aggressive", "report.json"], "a stage upstream ran"
    assert {path: path.read_bytes() for path in before} == before, "the user's files were touched"
    image = next((project / ".retrace" / "ablation" / "offroad" / "data" / "offroad" / "raw" / "images").rglob("*.*"))
    reflink = ["cp", "--reflink=always", str(image), str(tmp_path / "reflink")]
    assert image.stat().st_nlink > 1 or subprocess.run(reflink, capture_output=True).returncode == 0, "data copied"
    found = json.loads((project / "reports" / "offroad-ablation" / "ablation.json").read_text())
    assert len(found["runs"]) == 32 and len(found["interactions"]) == 6 and len(found["sentences"]) == 4
    assert len({row["scores"]["mIoU"] for row in found["runs"]}) > 16, "levels and seeds made no difference"
    result = ablate(project, check=True)
    assert "32 of them exist for these inputs, 0 to run" in result.stdout
    assert len(list(logs.iterdir())) == 32


ONE_FACTOR = {"crop": {"off": {"augment.crop": 0}, "on": {"augment.crop": 48}}}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished run whose ablation has one factor and two seeds: four experiments."""
    values = tiny_params("offroad", QUICK)
    values["ablation"]["factors"] = ONE_FACTOR
    project = make_project(tmp_path_factory.mktemp("small") / "project", values)
    run(project, "dvc", "repro", check=True)
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", "a run", check=True)
    return project


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_queue_gives_what_running_in_turn_gives(small, tmp_path):
    shutil.copytree(small, tmp_path / "queued", symlinks=True)
    ablate(tmp_path / "queued", "--jobs", "2", check=True)
    ablate(small, check=True)
    found = [
        json.loads((project / "reports" / "offroad-ablation" / "ablation.json").read_text())
        for project in (small, tmp_path / "queued")
    ]
    assert found[0]["effects"] == found[1]["effects"]
    for one, other in zip(found[0]["runs"], found[1]["runs"], strict=True):
        assert {**one, "commit": ""} == {**other, "commit": ""}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_stale_upstream_stages_are_named_and_nothing_runs(small, tmp_path):
    project = tmp_path / "stale"
    shutil.copytree(small, project, symlinks=True)
    forget_experiments(project)
    with open(project / "stages" / "rebalance.py", "a", encoding="utf-8") as stream:
        stream.write("# changed\n")
    run(project, "git", "commit", "-qam", "an edit", check=True)
    result = ablate(project, "--design", "one-at-a-time")
    assert result.returncode == 1 and "rebalance: not up to date" in result.stderr
    assert "Traceback" not in result.stderr


RAY = os.environ.get("RETRACE_RAY_PYTHON") or sys.executable


def has_ray() -> bool:
    return subprocess.run([RAY, "-c", "import ray"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_ray_cluster_loses_nothing_when_a_worker_is_killed(small, tmp_path):
    if not has_ray():
        pytest.skip("Ray is not installed (requirements/ray.txt); RETRACE_RAY_PYTHON names an interpreter that has it")
    from tests.ray_cluster import cluster, kill_a_worker

    project = tmp_path / "project"
    shutil.copytree(small, project, symlinks=True, ignore=shutil.ignore_patterns(".retrace", "logs"))
    forget_experiments(project)
    shutil.rmtree(project / ".dvc" / "cache" / "runs", ignore_errors=True)  # or nothing would be trained
    run(tmp_path, "git", "init", "-q", "--bare", "shared.git", check=True)
    run(project, "git", "remote", "add", "origin", str(tmp_path / "shared.git"), check=True)
    run(project, "dvc", "remote", "add", "-d", "store", str(tmp_path / "store"), check=True)
    run(project, "git", "commit", "-qam", "a remote", check=True)
    short = Path(tempfile.mkdtemp(prefix="ray"))  # the paths of Ray's sockets may not be long
    with cluster(RAY, short) as address:
        env = {**os.environ, "PYTHONPATH": str(project), "PATH": f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}"}
        words = [RAY, "-m", "stages.cli", "ablate", "--engine", "ray", "--address", address]
        process = subprocess.Popen(
            words, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        killed = kill_a_worker(process, short)
        said, complaints = process.communicate()
    shutil.rmtree(short, ignore_errors=True)
    assert process.returncode == 0, complaints[-3000:]
    assert killed and "4 experiments, 0 of them exist" in said
    mine = run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    theirs = run(tmp_path / "shared.git", "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    assert sorted(mine) == sorted(theirs) and len(mine) == 4
    assert len(find([Path(ref).name for ref in mine], project)) == 4
    found = json.loads((project / "reports" / "offroad-ablation" / "ablation.json").read_text())
    assert len(found["runs"]) == 4
