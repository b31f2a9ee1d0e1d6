"""One's own data in data/external under DVC: added, queued, linked, and kept out of Git whatever fails."""

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.projects import commit, make_project, run, write_params

ROOT = "data/external/mine"
PHASE = {
    "init": "none",
    "model": {"architecture": "unet_classic", "width": 4},
    "input_size": [32, 48],
    "epochs": 1,
    "batch_size": 4,
    "optimizer": {"name": "adamw", "lr": 0.003},
    "monitor": "mIoU",
}
STUDY = {
    "study": "mine",
    "task": "segmentation",
    "phase": "a",
    "seed": 1,
    "classes": ["Background", "Lane"],
    "data": {
        "root": ROOT,
        "on_error": "fail",
        "source": {
            "kind": "masks",
            "images": "{split}/img",
            "masks": "{split}/mask",
            "values": {"Background": [0], "Lane": [255]},
            "split": {"by": "folder", "folders": {"train": "train", "val": "val", "test": "test"}},
        },
    },
    "rebalance": {"min_val_instances": 0, "keep_groups": True, "min_units": 1},
    "pretrain": {"method": "none"},
    "phases": {"a": PHASE},
    "expected": [],
    "evaluate": {"bootstrap": 100, "samples": 1},
    "report": {"title": "Mine", "real_data": True},
    "runtime": {"threads": 1},
}


def _data(folder):
    generator = np.random.default_rng(3)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for kind in ("img", "mask"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 120, (32, 48, 3), dtype=np.uint8)
            mask = np.zeros((32, 48), np.uint8)
            mask[8:20, 10 + number : 30] = 255
            Image.fromarray(pixels).save(folder / split / "img" / f"{split}{number}.png")
            Image.fromarray(mask).save(folder / split / "mask" / f"{split}{number}.png")


@pytest.fixture
def project(tmp_path):
    """A project with the study `mine`, whose data is not there yet."""
    made = make_project(tmp_path / "project")
    write_params(made, STUDY)
    commit(made, "the study")
    return made


def _in_git(project):
    return run(project, "git", "ls-files", check=True).stdout.split()


@pytest.mark.slow
def test_dvc_add_takes_data_in_data_external_and_git_keeps_its_hash_alone(project):
    _data(project / ROOT)
    run(project, "dvc", "add", ROOT, check=True)
    commit(project, "the data")
    assert f"{ROOT}.dvc" in _in_git(project)
    assert not [name for name in _in_git(project) if name.startswith(f"{ROOT}/")]
    shutil.rmtree(project / ROOT)
    run(project, "dvc", "checkout", "--allow-missing", check=True)
    assert (project / ROOT / "train/mask/train0.png").is_file()


@pytest.mark.slow
def test_a_failed_first_run_puts_no_data_into_git(project):
    _data(project / ROOT)
    values = {**STUDY, "rebalance": {**STUDY["rebalance"], "min_val_instances": 999}}
    write_params(project, values)
    assert run(project, "dvc", "repro", "rebalance").returncode != 0
    assert (project / "data/mine/raw/manifest.jsonl").is_file()
    commit(project, "everything")
    assert not [name for name in _in_git(project) if name.startswith(("data/mine/", f"{ROOT}/"))]


@pytest.mark.slow
def test_a_link_to_a_data_folder_elsewhere_is_watched(project, tmp_path):
    _data(tmp_path / "elsewhere")
    (project / ROOT).parent.mkdir(parents=True, exist_ok=True)
    (project / ROOT).symlink_to(tmp_path / "elsewhere")
    run(project, "dvc", "repro", "collect", check=True)
    assert "didn't change" in run(project, "dvc", "repro", "collect", check=True).stdout
    victim = tmp_path / "elsewhere/train/mask/train0.png"
    Image.fromarray(np.full((32, 48), 255, np.uint8)).save(victim)
    assert "Running stage 'collect'" in run(project, "dvc", "repro", "collect", check=True).stdout
    commit(project, "everything")
    assert not [name for name in _in_git(project) if name.startswith(f"{ROOT}/")]


MORE_IN_VAL = ("-S", "rebalance.min_val_instances=4")
COLLECT_AGAIN = ("-S", "data.on_error=skip")


def _first_run(project):
    run(project, "dvc", "repro", "rebalance", check=True)
    commit(project, "the lists")


def _committed_lock(project, experiment):
    """The stages in dvc.lock of HEAD or of an experiment, which DVC keeps under refs/exps."""
    refs = run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps", check=True).stdout.split()
    revision = next((ref for ref in refs if ref.endswith(f"/{experiment}")), "HEAD")
    assert (revision == "HEAD") == (experiment == "HEAD")
    return yaml.safe_load(run(project, "git", "show", f"{revision}:dvc.lock", check=True).stdout)["stages"]


@pytest.mark.slow
def test_data_that_only_lies_in_data_external_and_an_experiment_in_a_copy_of_the_project(project):
    _data(project / ROOT)
    _first_run(project)
    temp = ("dvc", "exp", "run", "--temp", "-n")
    assert run(project, *temp, "bare", *MORE_IN_VAL, "rebalance").returncode != 0
    run(project, *temp, "same", "--allow-missing", *MORE_IN_VAL, "rebalance", check=True)
    run(project, *temp, "copied", "-C", ROOT, *COLLECT_AGAIN, "rebalance", check=True)
    first, same, copied = (_committed_lock(project, name) for name in ("HEAD", "same", "copied"))
    assert same["collect"] == first["collect"] and same["rebalance"]["outs"] != first["rebalance"]["outs"]
    assert copied["collect"]["deps"] == first["collect"]["deps"]
    assert copied["collect"]["params"] != first["collect"]["params"]
    assert not [name for name in _in_git(project) if name.startswith(f"{ROOT}/")]


@pytest.mark.slow
def test_data_that_dvc_keeps_is_there_for_every_experiment_of_the_queue(project):
    _data(project / ROOT)
    run(project, "dvc", "add", ROOT, check=True)
    _first_run(project)
    for name, change in (("lists", MORE_IN_VAL), ("again", COLLECT_AGAIN)):
        run(project, "dvc", "exp", "run", "--queue", "-n", name, *change, "rebalance", check=True)
    run(project, "dvc", "exp", "run", "--run-all", check=True)
    first, lists, again = (_committed_lock(project, name) for name in ("HEAD", "lists", "again"))
    assert lists["rebalance"]["outs"] != first["rebalance"]["outs"]
    assert again["collect"]["params"] != first["collect"]["params"]
    assert again["collect"]["outs"] == first["collect"]["outs"]
