"""docs/architecture.md names files and folders that exist."""

import re

from tests.projects import ROOT

PLACES = ("retrace/", "stages/", "scenes/", "tests/", "docs/")


def test_every_path_named_in_backticks_exists():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    paths = {name for name in re.findall(r"`([^`\n]+)`", text) if name.startswith(PLACES)}
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
