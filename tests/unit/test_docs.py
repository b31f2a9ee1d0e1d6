"""The documents for readers: generated blocks are up to date, links lead somewhere, commands exist, README is short."""

import re

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
