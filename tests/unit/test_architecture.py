"""docs/architecture.md: the files that it names exist, and imports go as its table says."""

import re
from pathlib import Path

import pytest

from tests.support.imports import file_of, named_in
from tests.support.projects import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLACES = ("retrace/", "stages/", "scenes/", "tests/", "docs/", "README.md")
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if re.match(r"\| (`|base)", line)]


def paths(text):
    return {name for name in re.findall(r"`([^`\n]+)`", text) if name.startswith(PLACES)}


BASE = paths(ROWS[0][0]) | {"retrace/__init__.py"}
STATED = {next(iter(paths(row[0]))): row[2] for row in ROWS[1:]}
LISTED = {package: cell for package, cell in STATED.items() if not cell.startswith(("all ", "everything"))}


def test_every_path_it_names_exists():
    named = paths(TEXT)
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("start", ["**From the README to the loss**", "**From a metrics file to a cell"])
def test_the_walks_have_at_most_five_files(start):
    steps = re.findall(r"^(\d)\. `([^`]+)`", TEXT[TEXT.index(start) :].split("\n\n")[1], re.M)
    assert [int(number) for number, _ in steps] == [1, 2, 3, 4, 5]
    assert all((ROOT / path).is_file() for _, path in steps)


def below(path, places):
    return any(path == place or path.startswith(place) for place in places)


@pytest.mark.parametrize("package", sorted(LISTED))
def test_imports_go_as_the_table_says(package):
    apart = [other for other in STATED if other != package and other.startswith(package)]
    allowed = paths(LISTED[package]) | {package} | (BASE if "not even" not in LISTED[package] else set())
    for file in sorted((ROOT / package).rglob("*.py")):
        if below(file.relative_to(ROOT).as_posix(), apart):
            continue
        named = named_in(file)
        leaves = {name for name in named if not any(other.startswith(f"{name}.") for other in named)}
        used = {Path(file_of(name)).relative_to(ROOT).as_posix() for name in leaves}
        assert {path for path in used if not below(path, allowed) or below(path, apart)} == set(), file
