"""Throw-away copies of this project, with a study shrunk to seconds, for tests that run the real pipeline."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from retrace.config import merge, read_yaml, whole
from retrace.config.load import parse
from tests.support import warm

ROOT = Path(__file__).parents[2]
REAL_DATA = Path(os.environ.get("RETRACE_REAL_DATA") or ROOT.parent / "shared" / "realdata")

# its speed is measured on batches of this size, and a few seconds long at most
QUICK_EVALUATION = {"bootstrap": 100, "min_reliable": 2, "samples": 1, "batch_size": 2}
SMALL = {"min_units": 1}  # the sets of these tests are too small for a real study
TINY: dict[str, dict[str, Any]] = {
    "lanes": {
        "data": {"synthetic": {"height": 64, "width": 96, "train": 12, "val": 6, "test": 6, "unlabeled": 8}},
        "rebalance": {"min_val_instances": 1, "min_test_instances": 1, "min_pixels": 5, **SMALL},
        "pretrain": {"mae": {"input_size": [64, 96], "epochs": 2, "batch_size": 4, "decoder_dim": 32}},
        "phase_defaults": {
            "fabric": {
                "input_size": [64, 96],
                "epochs": 2,
                "batch_size": 4,
                "model": {"decoder_channels": [16, 16, 8, 8, 8]},
            }
        },
        "evaluate": {**QUICK_EVALUATION, "unit": "image"},  # six images of two sequences
        "runtime": {"threads": 1},
    },
    "offroad": {
        "data": {"synthetic": {"height": 64, "width": 96, "train": 10, "val": 5, "test": 5}},
        "rebalance": {"min_val_instances": 1, "min_pixels": 5, **SMALL},
        "phase_defaults": {"fabric": {"input_size": [64, 96], "epochs": 3, "batch_size": 4, "patience": 1}},
        "phases": {"baseline": {"epochs": 3}, "aggressive": {"augment": {"crop": 48}}},
        "ablation": {"factors": {"crop": {"on": {"augment.crop": 48}}}},
        "evaluate": QUICK_EVALUATION,
        "runtime": {"threads": 1},
    },
    "bdd100k": {
        "data": {"synthetic": {"height": 64, "width": 96, "train": 10, "val": 4, "test": 2}},
        "rebalance": {"min_val_instances": 0, "min_pixels": 5, **SMALL},
        "phase_defaults": {"fabric": {"input_size": [32, 64], "epochs": 2, "batch_size": 4}},  # VGG11 is slow
        "phases": {
            "unet": {"model": {"width": 4}, "epochs": 2},
            "unet_vgg11": {"model": {"decoder_channels": [16, 16, 8, 8]}},
            "unet_efficientnet": {"model": {"decoder_channels": [16, 16, 8, 8]}},
        },
        "evaluate": QUICK_EVALUATION,
        "runtime": {"threads": 1},
    },
    "slopes": {
        "data": {"synthetic": {"height": 96, "width": 96, "train": 14, "val": 6, "test": 5}},
        "rebalance": {"min_val_instances": 4, **SMALL},
        "phase_defaults": {"ultralytics": {"hyperparameters": {"imgsz": 64, "batch": 4, "epochs": 2}}},
        "phases": {"baseline": {"hyperparameters": {"epochs": 2}}},
        "evaluate": QUICK_EVALUATION,
        "runtime": {"threads": 1},
    },
    "plates": {
        "data": {"synthetic": {"height": 96, "width": 128, "train": 8, "val": 4, "test": 4}},
        "rebalance": SMALL,
        "phase_defaults": {
            "fabric": {
                "model": {
                    "min_size": 96,
                    "max_size": 128,
                    "rpn_post_nms_top_n_train": 100,
                    "rpn_post_nms_top_n_test": 50,
                    "box_batch_size_per_image": 32,
                },
                "input_size": [96, 128],
                "epochs": 2,
                "batch_size": 4,
                "resize_range": [80, 96],
            },
            "ultralytics": {"hyperparameters": {"imgsz": 96, "batch": 4, "epochs": 2, "close_mosaic": 1}},
        },
        "phases": {"resnet50": {"epochs": 1, "model": {"min_size": 64, "max_size": 96}, "resize_range": [64, 64]}},
        "evaluate": QUICK_EVALUATION,
        "runtime": {"threads": 1},
    },
}


def demo(study: str) -> dict[str, Any]:
    """The study file with its demo's laid over it, `phase_defaults` still shared."""
    files = (ROOT / "studies" / f"{study}.yaml", ROOT / "studies" / f"{study}.demo.yaml")
    return merge(*(read_yaml(file) for file in files))


def tiny_params(study: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The demo parameters of a study at the smallest size, with `changes` merged in; validated."""
    values = merge(merge(demo(study), TINY[study]), changes or {})
    parse(values)
    return values


def as_yaml(values: dict[str, Any]) -> str:
    """YAML without anchors: phases share mappings here, and an edit of one must not be an edit of all."""
    return yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False)


def write_params(project: Path, values: dict[str, Any]) -> None:
    """Write params.yaml of a project."""
    complete = {"repeats": {"phases": [], "seeds": []}, **whole(values)}  # dvc.yaml reads it
    (project / "params.yaml").write_text(as_yaml(complete), encoding="utf-8")


def make_project(target: Path, values: dict[str, Any] | None = None) -> Path:
    """A Git repository with this project's files as they are now (committed or not), an empty cache and `values`."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    skipped = ("reports/", "metrics/", "plots/", "tests/")  # results of the real studies; the tests make their own
    for name in sorted(filter(None, names)):
        if (ROOT / name).is_file() and not name.startswith(skipped):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in ("dvc.lock", "metrics.json"):
        (target / name).unlink(missing_ok=True)
    if values is not None:
        write_params(target, values)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "a copy of the project"]):
        run(target, "git", *command, check=True)
    return target


def environment(code: Path = ROOT) -> dict[str, str]:
    """For processes that import `retrace` from the folder `code`: this interpreter first on PATH, a Git identity.

    Stages that DVC starts there begin in a fork of a process that has loaded the libraries (`tests.support.warm`).
    """
    places = (warm.folder(), Path(sys.executable).parent, os.environ["PATH"])
    return {
        **os.environ,
        "PATH": os.pathsep.join(str(place) for place in places if place),
        "PYTHONPATH": f"{code}{os.pathsep}{warm.NOT_INSTALLED}",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "DVC_NO_ANALYTICS": "1",
    }


def run(project: Path, *command: str, check: bool = False, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run a command inside a project with this interpreter's environment first on PATH."""
    env = environment(project) | kwargs.pop("env", {})
    result = subprocess.run(command, cwd=project, env=env, text=True, capture_output=True, **kwargs)
    if check and result.returncode:
        raise AssertionError(
            f"{' '.join(command)}: exit {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        )
    return result


def commit(project: Path, why: str) -> None:
    """Commit everything that Git sees."""
    run(project, "git", "add", "-A", check=True)
    run(project, "git", "commit", "-qm", why, check=True)


def committed_run(target: Path, values: dict[str, Any], cache: Path | None = None) -> Path:
    """A project whose study was run to its report and whose results are committed.

    Stages that ran before with the same code, data and parameters are taken from the DVC cache of the project `cache`.
    """
    project = make_project(target, values)
    if cache is not None:
        shutil.copytree(cache / ".dvc" / "cache", project / ".dvc" / "cache")
    run(project, "dvc", "repro", check=True)
    commit(project, "results")
    return project


def copy_of(project: Path, target: Path) -> Path:
    """A copy with history and cache, to be changed."""
    return Path(shutil.copytree(project, target, symlinks=True))


def once(target: Path, make: Callable[[Path], object]) -> Path:
    """`make(target)` in the first of several test processes that asks for it; the others wait until it is there."""
    target.parent.mkdir(exist_ok=True)
    made = target.with_name(f"{target.name}.made")
    with FileLock(f"{target}.lock"):
        if not made.exists():
            shutil.rmtree(target, ignore_errors=True)
            make(target)
            made.touch()
    return target


def every_fourth(data: Path, target: Path) -> Path:
    """A copy of a data set with a file per image: of each folder every fourth image, with its label or mask."""
    for place, _, names in os.walk(data):
        folder = target / Path(place).relative_to(data)
        folder.mkdir(parents=True, exist_ok=True)
        stems = {name: Path(name).stem.removesuffix("_mask") for name in names}
        chosen = set(sorted(set(stems.values()))[::4])
        for name, stem in stems.items():
            if stem in chosen or not name.endswith((".jpg", ".png", ".txt")):
                shutil.copyfile(Path(place, name), folder / name)
    return target


def out_hashes(project: Path) -> dict[str, str]:
    """md5 of every out of collect ... evaluate, from dvc.lock (the report quotes times and is left out)."""
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    return {
        out["path"]: out["md5"]
        for name, stage in sorted(lock["stages"].items())
        if name != "report"
        for out in stage.get("outs", [])
    }
