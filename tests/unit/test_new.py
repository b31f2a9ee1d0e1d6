"""`retrace new`: a study file of one's own from another study's."""

import re
import shutil
from pathlib import Path

import pytest

from retrace.cli.new import new
from retrace.cli.use import use
from retrace.config import read_yaml
from retrace.config.load import load, parse
from retrace.errors import UserError
from tests.support.projects import ROOT

BUILT_IN = ("bdd100k", "lanes", "offroad", "plates", "slopes")
OWN = ("claims", "published_images", "published_epochs", "data_needed")


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("source", BUILT_IN)
def test_it_has_everything_of_the_other_but_its_name_its_data_and_what_was_published(project, source):
    assert "retrace use mine" in new("mine", source)
    given, made = (read_yaml(Path(f"studies/{name}.yaml")) for name in (source, "mine"))
    assert made.pop("study") == "mine" and made["data"].pop("root") == "data/external/mine"
    params = parse(read_yaml(Path("studies/mine.yaml")))
    assert params.report.claims == () and params.expected == () and not params.report.published_images
    del given["study"], given["data"]["root"], given["expected"]
    made["report"].pop("data_needed")
    for key in OWN:
        given["report"].pop(key, None)
    assert made == given


@pytest.mark.parametrize("source", BUILT_IN)
def test_comments_inside_the_file_are_kept(project, source):
    new("mine", source)
    text = Path("studies/mine.yaml").read_text(encoding="utf-8")
    left_out = r"^  (?:claims|published_images|published_epochs):.*?(?=^  [a-z]|^[a-z])|^expected:.*?(?=^[a-z])"
    kept = re.sub(rf"(?ms)\A.*?(?=^study)|{left_out}", "", Path(f"studies/{source}.yaml").read_text(encoding="utf-8"))
    comments = [line[line.index("# ") :] for line in kept.splitlines() if "# " in line and "root:" not in line]
    assert comments and [comment for comment in comments if comment not in text] == []


def test_the_new_study_can_be_chosen_and_says_where_its_data_belongs(project):
    new("highway", "lanes")
    said = use("highway", False, False)
    assert load().study == "highway"
    assert "data/external/highway" in said and Path("data/external/highway/README.md").is_file()


@pytest.mark.parametrize("name", ["", "Mine", "9lives", "my-study", "a/b", "../x", "lanes.demo", "x\n"])
def test_a_name_that_no_study_can_have_is_refused(project, name):
    before = sorted(project.rglob("*"))
    with pytest.raises(UserError, match="a name begins with a letter"):
        new(name, "lanes")
    assert sorted(project.rglob("*")) == before


def test_it_overwrites_nothing_and_knows_its_source(project):
    text = Path("studies/offroad.yaml").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"studies/offroad.yaml: exists"):
        new("offroad", "lanes")
    assert Path("studies/offroad.yaml").read_text(encoding="utf-8") == text
    with pytest.raises(UserError, match="no such study; allowed: bdd100k, lanes"):
        new("mine", "nothing")
    Path("studies/lanes.yaml").write_text("study: lanes\n", encoding="utf-8")
    with pytest.raises(UserError):
        new("mine", "lanes")
    assert not Path("studies/mine.yaml").exists()


def test_as_typed(project, retrace):
    assert retrace(project, "new", "mine", "--from", "plates").returncode == 0
    again = retrace(project, "new", "mine", "--from", "plates")
    assert again.returncode == 1 and "exists" in again.stderr and "Traceback" not in again.stderr
