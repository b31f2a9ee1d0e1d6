"""`retrace ablate` with real experiments: in turn, through the queue, on a Ray cluster, and killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from retrace.config import read_yaml
from retrace.sweeps.git import find
from tests.support.projects import commit, copy_of, environment, run, write_params

TWO_FACTORS = ("dice", "crop")


def with_factors(finished_study, target: Path, *names: str) -> Path:
    """A committed run of the tiny off-road study whose ablation has these factors, and two seeds."""
    project = copy_of(finished_study("offroad"), target)
    values = read_yaml(project / "params.yaml")
    values["ablation"]["factors"] = {name: values["ablation"]["factors"][name] for name in names}
    values["phases"]["aggressive"]["epochs"] = 1
    write_params(project, values)
    commit(project, "fewer factors")
    return project


def ablate(project: Path, *options: str, **kwargs):
    return run(project, "python", "-m", "retrace", "ablate", *options, **kwargs)


def kill_on_the_way(project: Path, after: int) -> int:
    """Start `retrace ablate`, kill it and all it started in the middle of a training; how many had finished."""
    words = ["python", "-m", "retrace", "ablate"]
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
        time.sleep(0.3)
    raise AssertionError("it ended before it could be killed")


@dataclass(frozen=True)
class Killed:
    """A full factorial that was killed on the way."""

    project: Path
    before: dict[Path, bytes]  # the user's files, before anything ran
    done: int  # experiments that had finished
    logs: dict[str, int]  # log of every experiment that had begun, and when it was written last


@pytest.fixture(scope="module")
def killed(finished_study, tmp_path_factory):
    """Two factors and two seeds: eight experiments, of which two or more had finished."""
    project = with_factors(finished_study, tmp_path_factory.mktemp("ablation") / "project", *TWO_FACTORS)
    before = {path: path.read_bytes() for path in (project / "params.yaml", project / "dvc.lock")}
    done = kill_on_the_way(project, after=2)
    return Killed(project, before, done, {path.name: path.stat().st_mtime_ns for path in logs_of(project).iterdir()})


def logs_of(project: Path) -> Path:
    return project / "logs" / "ablation"


def runs_of(project: Path) -> list[dict]:
    """The runs in ablation.json; each with the outs in its dvc.lock instead of its commit."""
    runs = json.loads((project / "reports" / "offroad-ablation" / "ablation.json").read_text())["runs"]
    for row in runs:
        lock = yaml.safe_load(run(project, "git", "show", f"{row['commit']}:dvc.lock", check=True).stdout)["stages"]
        row["commit"] = [lock[f"{stage}@aggressive"]["outs"] for stage in ("finetune", "evaluate")]
    return runs


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_full_factorial_that_was_killed_goes_on_and_repeats_nothing_upstream(killed, tmp_path):
    project, done = killed.project, killed.done
    assert done >= 2
    result = ablate(project, check=True)
    assert f"8 experiments, {done} of them exist for these inputs" in result.stdout
    assert run(project, "git", "for-each-ref", "refs/exps").stdout.count("\n") == 8
    logs = logs_of(project)
    again = [name for name, at in killed.logs.items() if (logs / name).stat().st_mtime_ns != at]
    assert len(again) <= 1, "finished experiments were run again"
    clone = project / ".retrace" / "ablation" / "offroad" / "logs" / "offroad"
    assert sorted(path.name for path in clone.iterdir()) == ["aggressive", "report.json"], "a stage upstream ran"
    assert {path: path.read_bytes() for path in killed.before} == killed.before, "the user's files were touched"
    image = next((project / ".retrace" / "ablation" / "offroad" / "data" / "offroad" / "raw" / "images").rglob("*.*"))
    reflink = ["cp", "--reflink=always", str(image), str(tmp_path / "reflink")]
    assert image.stat().st_nlink > 1 or subprocess.run(reflink, capture_output=True).returncode == 0, "data copied"
    found = json.loads((project / "reports" / "offroad-ablation" / "ablation.json").read_text())
    assert len(found["runs"]) == 8 and len(found["interactions"]) == 1 and len(found["sentences"]) == 2
    assert len({row["scores"]["mIoU"] for row in found["runs"]}) > 4, "levels and seeds made no difference"
    result = ablate(project, check=True)
    assert "8 of them exist for these inputs, 0 to run" in result.stdout
    assert len(list(logs.iterdir())) == 8


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_queue_gives_what_running_in_turn_gives(killed, tmp_path):
    """Two of the eight run again, two at a time; so what was killed on the way has ended as what was not."""
    ablate(killed.project, check=True)  # the eight are there unless this test is the only one to run
    project = copy_of(killed.project, tmp_path / "queued")
    shutil.rmtree(project / ".dvc" / "cache" / "runs")  # or nothing would be trained
    shutil.rmtree(project / "reports" / "offroad-ablation")
    experiments = run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    again = [ref for ref in experiments if "-dice-crop-" in ref]
    assert len(again) == 2
    for ref in again:
        run(project, "git", "update-ref", "-d", ref, check=True)
    assert "8 experiments, 6 of them exist" in ablate(project, "--jobs", "2", check=True).stdout
    assert "Running stage 'finetune@aggressive'" in _queue_log(project, Path(again[0]).name)
    assert runs_of(project) == runs_of(killed.project)
    found = [
        json.loads((folder / "reports" / "offroad-ablation" / "ablation.json").read_text())
        for folder in (killed.project, project)
    ]
    assert found[0]["effects"] == found[1]["effects"]


def _queue_log(project: Path, name: str) -> str:
    return run(project / ".retrace" / "ablation" / "offroad", "dvc", "queue", "logs", name, check=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_stale_upstream_stages_are_named_and_nothing_runs(finished_study, tmp_path):
    project = copy_of(finished_study("offroad"), tmp_path / "stale")
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
def test_a_ray_cluster_loses_nothing_when_a_worker_is_killed(finished_study, tmp_path):
    if not has_ray():
        pytest.skip("Ray is not installed (requirements/ray.txt); RETRACE_RAY_PYTHON names an interpreter that has it")
    from tests.support.ray_cluster import cluster, kill_a_worker

    project = with_factors(finished_study, tmp_path / "project", "crop")
    run(tmp_path, "git", "init", "-q", "--bare", "shared.git", check=True)
    run(project, "git", "remote", "add", "origin", str(tmp_path / "shared.git"), check=True)
    run(project, "dvc", "remote", "add", "-d", "store", str(tmp_path / "store"), check=True)
    run(project, "git", "commit", "-qam", "a remote", check=True)
    short = Path(tempfile.mkdtemp(prefix="ray"))  # the paths of Ray's sockets may not be long
    with cluster(RAY, short) as address:
        env = {**os.environ, "PYTHONPATH": str(project), "PATH": f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}"}
        words = [RAY, "-m", "retrace", "ablate", "--engine", "ray", "--address", address]
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
