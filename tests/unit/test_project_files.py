"""The files for those who carry the project on name what is there: versions, programs, commands and paths."""

import re

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from retrace import __version__
from retrace.cli.doctor import supported_pythons
from tests.support.projects import ROOT


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version_and_license():
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (__version__, "AGPL-3.0-only")


def test_the_workflow_runs_the_whole_check_on_two_supported_pythons():
    job = read(".github/workflows/ci.yml")["jobs"]["check"]
    pythons = job["strategy"]["matrix"]["python"]
    assert len(pythons) == 2 and all(isinstance(version, str) for version in pythons)  # 3.10 would be the number 3.1
    assert all(SpecifierSet(supported_pythons()).contains(version) for version in pythons)
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (cache,) = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache@")]
    assert "hashFiles('requirements/*.txt')" in cache["key"]


def test_hooks_run_the_locked_tools_and_fetch_nothing():
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    repos = read(".pre-commit-config.yaml")["repos"]
    assert lint and [repo["repo"] for repo in repos] == ["local"]
    for hook in repos[0]["hooks"]:
        program = hook["entry"].split()[0]
        assert hook["language"] == "system" and program.startswith(".venv/bin/")
        assert program.removeprefix(".venv/bin/") in lint[1]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_paths_and_make_targets_in_the_guides_exist(name):
    text, makefile = (ROOT / name).read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    paths = set(re.findall(r"(?:retrace|scenes|stages|tests|docs|benchmarks)/[\w/.-]*\.(?:py|md)", text))
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []
    targets = set(re.findall(r"make (?:\w+=\S+ )?([a-z-]+)", text)) - {"a"}
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.M)] == []
    assert paths if name == "CONTRIBUTING.md" else True
