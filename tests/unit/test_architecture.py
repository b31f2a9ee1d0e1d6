"""docs/architecture.md: the files that it names exist, and imports go as its table says."""

import re

import pytest

from tests.support.imports import named_in
from tests.support.projects import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:retrace|stages|scenes|tests|docs|studies)/[\w/.-]*)`")
ROW = re.compile(r"^\| `(retrace/[\w/]+)/` \|.*\| ([^|]*) \|$", re.M)
PARTS = ("retrace/provenance/verify", "retrace/evaluation/scores")  # apart from the package around them
TABLE = {package: set(re.findall(r"`([\w/.]+)`", cell)) for package, cell in ROW.findall(TEXT) if "all but" not in cell}


def test_every_file_it_names_exists():
    named = PATH.findall(TEXT)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("heading", ["From the README to the loss", "From a metrics file to a cell"])
def test_the_walks_have_at_most_five_files(heading):
    walk = TEXT[TEXT.index(heading) :].split("\n\n")[1]
    steps = re.findall(r"^\d\. `([^`]+)`", walk, re.M)
    assert 1 < len(steps) <= 5 and all((ROOT / step).is_file() for step in steps)


def room(module: str) -> str:
    """The package of the table that a module belongs to; "" for a module that everything may import."""
    path = module.replace(".", "/")
    for part in PARTS:
        if path.startswith(part):
            return part.removeprefix("retrace/")
    first, _, rest = path.partition("/")
    if first != "retrace":
        return path if first == "stages" else first
    name = rest.split("/")[0]
    return name if (ROOT / "retrace" / name).is_dir() else ""


@pytest.mark.parametrize("package", sorted(TABLE))
def test_imports_go_as_the_table_says(package):
    own = package.removeprefix("retrace/")
    allowed = {name.replace(".", "/") for name in TABLE[package]} | {own, "numerics", "stages", ""}
    if {"evaluation"} & allowed:
        allowed.add("evaluation/scores")
    for file in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if room(module) != own:
            continue
        named = named_in(file)
        leaves = {name for name in named if not any(other.startswith(f"{name}.") for other in named)}
        assert {room(name) for name in leaves} <= allowed, file.relative_to(ROOT)
