"""Missing data: the README that `retrace use` writes, and the one message of `collect`."""

import shutil
import zipfile
from pathlib import Path

import pytest

from retrace.cli.use import use
from retrace.config.load import load
from retrace.data.formats.missing import missing, named_paths
from stages.collect import main
from tests.support.projects import ROOT, make_project, run

BUILT_IN = ("bdd100k", "lanes", "offroad", "plates", "slopes")
SOURCES = {"bdd100k": "bdd-data.berkeley.edu", "plates": "Roboflow", "offroad": "Offroad Segmentation Training Dataset"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("study", BUILT_IN)
def test_use_makes_the_folder_and_says_what_belongs_there(project, study):
    said = use(study, False, False)
    params, root = load(), Path(f"data/external/{study}")
    assert f"still missing in {root}" in said
    text = (root / "README.md").read_text(encoding="utf-8")
    assert all(path.rpartition("/")[2] in text for path in named_paths(params.data))
    assert SOURCES.get(study, "not public") in text and "license" in text and "dvc repro collect" in text
    for count in params.report.published_images.values():
        assert f"{count:,}" in text
    for raw in [raw for raws in getattr(params.data.source, "values", {}).values() for raw in raws]:
        assert f"{raw} " in text


@pytest.mark.parametrize("study", BUILT_IN)
def test_collect_says_in_one_message_what_is_there_what_is_missing_and_where_from(project, study, capsys):
    use(study, False, False)
    params = load()
    message = refused(capsys)
    assert "there: nothing" in message and params.report.data_needed in message
    assert f"missing: {', '.join(named_paths(params.data))}" in message
    assert f"data/external/{study}/README.md" in message
    assert not Path(f"data/{study}/raw").exists()


def test_what_is_there_already_is_said_and_not_missed(project, capsys):
    use("offroad", False, False)
    root = Path("data/external/offroad")
    for name in ("train/Color_Images", "train/Segmentation", "val/Color_Images"):
        (root / name).mkdir(parents=True)
    message = refused(capsys)
    assert "there: train/, val/" in message and "  missing: val/Segmentation\n" in message
    assert "missing_folder: 1" in message  # what `collect` found itself


def test_a_root_that_is_gone_and_an_archive_in_it_are_spoken_of(project, capsys):
    use("plates", False, False)
    shutil.rmtree("data/external/plates")
    message = refused(capsys)
    assert (
        "no such folder or archive" in message and "Roboflow" in message and "train/_annotations.coco.json" in message
    )
    Path("data/external/plates").mkdir()
    with zipfile.ZipFile("data/external/plates/export.zip", "w") as packed:
        packed.writestr("train/_annotations.coco.json", "{}")
    assert "an archive must be unpacked first" in refused(capsys)


def test_the_official_zips_of_bdd100k_are_not_missing(project):
    use("bdd100k", False, False)
    root = Path("data/external/bdd100k")
    for name in ("bdd100k_images_10k.zip", "bdd100k_sem_seg_labels_trainval.zip"):
        assert missing(load().data, root)
        (root / name).touch()
    assert missing(load().data, root) == []


def test_folders_of_others_are_left_alone_and_the_readme_is_kept_up_to_date(project):
    root = Path("data/external/lanes")
    (root / "images").mkdir(parents=True)
    use("lanes", False, False)
    assert [path.name for path in root.iterdir()] == ["images"]
    shutil.rmtree(root)
    elsewhere = project / "disk"
    elsewhere.mkdir()
    (elsewhere / "README.md").write_text("mine")
    root.symlink_to(elsewhere)
    use("lanes", False, False)
    assert (root / "README.md").read_text() == "mine"
    root.unlink()
    use("lanes", False, False)
    whole = (root / "README.md").read_text(encoding="utf-8")
    (root / "README.md").write_text(whole.replace("## ", "### ") + "more", encoding="utf-8")
    use("lanes", False, True)
    assert (root / "README.md").read_text(encoding="utf-8") == whole


def test_a_demo_and_an_address_need_no_folder(project):
    assert "missing" not in use("lanes", True, False)
    assert not Path("data").exists()


def test_through_dvc_the_message_comes_instead_of_an_errno(tmp_path):
    project = make_project(tmp_path / "project")
    run(project, "python", "-m", "retrace", "use", "bdd100k", check=True)
    result = run(project, "dvc", "repro", "collect")
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "the data of study bdd100k is not here" in said and "bdd-data.berkeley.edu" in said
    assert "Errno" not in said
