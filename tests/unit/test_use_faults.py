"""`retrace use` on study files and params.yaml with slips: one message or a valid params.yaml, never a traceback."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrace.cli.use import edited, use
from retrace.config.load import load
from retrace.errors import UserError
from tests.support.projects import ROOT

STUDY = (ROOT / "studies" / "lanes.yaml").read_text(encoding="utf-8")
SLIPS = (
    *(":", "- ", "  ", "\t", "'", '"', "[", "]", "{", "}", "&a ", "*a", "<<: *a", "!!python/object:os.system ", "? "),
    *(
        "!!int x",
        "!!set {a}",
        "!!binary |",
        "2001-13-45",
        "2001-01-01",
        "1: 2",
        "null",
        "~: 1",
        "---\n",
        "...\n",
        "%",
        "@",
    ),
    *("\x00", "\ufeff", "é", ".nan", "0x", "1e999", "|", ">", "#", "!", "yes: no", "[a, b]: c", "phases:", "study:"),
)


def pieces(text):
    """Changes of a text at a line and a column, as a hand that slips makes them."""
    lines = text.splitlines()
    return st.tuples(
        st.integers(0, len(lines) - 1),
        st.sampled_from(("insert", "replace", "delete", "append", "indent", "repeat")),
        st.sampled_from(SLIPS),
        st.integers(0, 40),
    )


def slipped(text, changes):
    lines = text.splitlines()
    for number, kind, what, column in changes:
        line = lines[number % len(lines)]
        column = min(column, len(line))
        lines[number % len(lines)] = {
            "insert": line[:column] + what + line[column:],
            "replace": line[: len(line) - len(line.lstrip())] + what,
            "delete": line[:column],
            "append": line + what,
            "indent": "  " + line,
            "repeat": line + "\n" + line,
        }[kind]
        lines = "\n".join(lines).splitlines() or [""]
    return "\n".join(lines) + "\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.lists(pieces(STUDY), min_size=1, max_size=3))
def test_a_slip_in_a_study_file_is_one_message_or_a_valid_study(project, changes):
    Path("params.yaml").unlink(missing_ok=True)
    Path("studies/lanes.yaml").write_text(slipped(STUDY, changes), encoding="utf-8")
    try:
        use("lanes", False, force=True)
    except UserError:
        assert not Path("params.yaml").exists()
    else:
        load()


@FUZZ
@given(st.lists(pieces(STUDY), min_size=1, max_size=3))
def test_a_slip_in_params_yaml_is_one_message_or_an_edit(project, changes):
    Path("params.yaml").write_text(slipped(STUDY, changes), encoding="utf-8")
    with contextlib.suppress(UserError):
        edited()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "study: [",
        "study: lanes\nstudy: lanes\n",
        "day: 2001-13-45\n",
        "phases: {a: &a {init: none}, b: *a}\n",
        "phases: &a [*a]\n",
        "1: 2\nb: 3\n",
        "x: !!python/object:os.system {}\n",
    ],
)
def test_a_faulty_file_is_one_message_and_nothing_is_written(project, text):
    Path("studies/lanes.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"studies/lanes.yaml"):
        use("lanes", False, False)
    assert not Path("params.yaml").exists()


def test_phases_that_share_a_block_by_an_alias_are_written_apart(project):
    path = Path("studies/lanes.yaml")
    text = STUDY.replace("phase_defaults:", "x_shared: &again {flip: 0.25}\nphase_defaults:", 1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="x_shared"):  # unknown keys are still refused
        use("lanes", False, False)


def test_a_faulty_study_file_does_not_keep_another_study_from_being_chosen(project):
    use("lanes", True, False)
    Path("studies/lanes.yaml").write_text("study: [", encoding="utf-8")
    use("offroad", True, False)
    assert load().study == "offroad"
