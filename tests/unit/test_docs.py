"""The documents for readers: generated blocks are up to date, links lead somewhere, commands exist, README is short."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from typer.main import get_command

from retrace.cli.app import app
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.report.comparison import terminal
from retrace.report.comparison.parameters import notes_of, reference
from tests.support.projects import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST_SCREEN = 24  # lines
GENERATED = re.compile(r"<!-- retrace:(?P<block>\S+(?: \S+)*) begin -->\n.*?<!-- retrace:(?P=block) end -->", re.S)


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not heading or target.suffix != ".md" or heading in anchors(target), link


def test_readme_is_one_screen_to_the_first_command_and_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = text.splitlines().index("make repro                          # .venv from the hash lock, then the default "
                                    "study on embedded data")  # fmt: skip
    assert first < FIRST_SCREEN
    assert len(text.split()) <= 1200


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_of_the_documents_exist_with_their_options(path):
    known = get_command(app).commands
    text = path.read_text(encoding="utf-8")
    lines = re.findall(r"(?:^|[`|] ?)(?:\$ )?(retrace [a-z][^`|\n]*)", text, re.M)
    for line in lines:
        words = re.split(r" {2,}#|#| && ", line)[0].split()
        assert words[1] in known, line
        allowed = {option for parameter in known[words[1]].params for option in parameter.opts} | {"--help"}
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.split("=")[0] in allowed, line


def test_every_key_of_the_schema_is_in_the_reference():
    text = reference()
    headings = re.findall(r"^### `(.+?)`", text, re.M)
    for place in ("params.yaml", "phases.<name>", "phases.<name>.optimizer", "data.source", "evaluate", "expected.<n>"):
        assert place in headings
    for name in Params.model_fields:
        assert f"| `{name}` |" in text
    assert notes_of(Params)["phase"].meaning.startswith("the active phase")
    assert "| `bootstrap` | Annotated[int, Field(ge=100)] | `1000` | resamples over units |" in text


def test_keys_that_the_demos_set_are_in_the_reference():
    text = reference()
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    phase = next(iter(values["phases"].values()))
    for block in (values, phase, phase["optimizer"], phase["model"], values["evaluate"], values["data"]):
        assert [name for name in block if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("command", ["rm -rf x", "retrace ablate", "retrace", "dvc repro", "dvc exp run"])
def test_a_document_shows_only_commands_that_read(command):
    with pytest.raises(UserError, match="documents show only what these commands print"):
        terminal.block(command)


@pytest.mark.slow
def test_shown_commands_print_what_the_documents_show():
    """Of every block `retrace:run`, from a clone without caches."""
    shown = 0
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for found in GENERATED.finditer(text):
            kind, _, command = found["block"].partition(" ")
            if kind == "run":
                assert f"\n{terminal.block(command)}\n" in found[0], (path.name, command)
                assert all(len(line) <= 80 for line in found[0].splitlines()[1:-1])
                shown += 1
    assert shown >= 4


def test_no_output_of_a_command_is_pasted_by_hand():
    for path in PAGES:
        text = GENERATED.sub("", path.read_text(encoding="utf-8"))
        for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S):
            assert not re.match(r"\$ (retrace|dvc) ", block), (path.name, block)
            assert "val_mIoU" not in block, (path.name, block)


OPTUNA = """
import json, pathlib
KEPT = pathlib.Path("kept.json")


class Trial:
    def __init__(self, number):
        self.number = number

    def suggest_float(self, name, low, high, log):
        return low * (high / low) ** (self.number / 2)


class Study:
    def __init__(self):
        self.values = json.loads(KEPT.read_text()) if KEPT.exists() else []

    def ask(self):
        return Trial(len(self.values))

    def tell(self, trial, value):
        self.values.append(value)
        KEPT.write_text(json.dumps(self.values))

    @property
    def best_trial(self):
        return Trial(self.values.index(max(self.values)))

    @property
    def best_value(self):
        return max(self.values)


def create_study(study_name, storage, load_if_exists, direction):
    assert direction == "maximize" and load_if_exists and storage.startswith("sqlite:///")
    return Study()
"""
DVC = """#!{python}
import json, math, sys
name, *changes = [word for word in sys.argv[3:] if word not in ("-n", "-S")]
rate = float(next(word.split("=")[1] for word in changes if word.startswith("phases.baseline.optimizer.lr=")))
assert sys.argv[1:3] == ["exp", "run"] and "phase=baseline" in changes
json.dump({{"val_mIoU": 1 - abs(math.log10(rate) + 3), "test_mIoU": 0.0}}, open("metrics.json", "w"))
open("names.txt", "a").write(name + " ")
"""


def test_the_search_runs_each_trial_as_an_experiment_and_goes_on(tmp_path):
    """docs/examples/search.py, with stand-ins for Optuna and DVC."""
    (tmp_path / "optuna.py").write_text(OPTUNA)
    program = tmp_path / "bin" / "dvc"
    program.parent.mkdir()
    program.write_text(DVC.format(python=sys.executable))
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
    }
    for trials, best in (("1", "search-0"), ("2", "search-1")):
        script = [sys.executable, str(ROOT / "docs/examples/search.py"), trials]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"best: {best}, val_mIoU")
    assert (tmp_path / "names.txt").read_text().split() == ["search-0", "search-1", "search-2"]
    used = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert "lr" in used["phases"]["baseline"]["optimizer"] and used["study"] == "lanes"


def test_the_workflow_for_pull_requests_runs_commands_that_exist():
    steps = yaml.safe_load((ROOT / "docs/examples/pull-request.yml").read_text())["jobs"]["results"]["steps"]
    lines = [step["run"] for step in steps if step.get("run", "").startswith(".venv/bin/retrace ")]
    assert len(lines) == 3
    known = get_command(app).commands
    for line in lines:
        _, name, *words = line.split()
        allowed = {option for parameter in known[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= allowed, line
