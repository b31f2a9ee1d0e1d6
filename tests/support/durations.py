"""In which order test files run: those that take longest first, so that no worker is left alone with one at the end.

durations.json has the seconds of every file: of its quick tests, and of those marked `slow`. After tests became
longer or shorter, write it anew: PYTEST_ADDOPTS=--write-durations make test SLOW=1
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("durations.json")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--write-durations`."""
    parser.addoption("--write-durations", action="store_true", help=f"write tests/{FILE.name} from this run")


def pytest_configure(config: pytest.Config) -> None:
    """The process that hears of every test, which is no worker of pytest-xdist, writes the file."""
    if config.getoption("write_durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer(), "durations-writer")


@pytest.hookimpl(trylast=True)  # after `-m "not slow"` has taken out what will not run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; one that is not known comes first."""
    known: dict[str, dict[str, float]] = json.loads(FILE.read_text(encoding="utf-8"))
    kinds = {(item.path.name, "slow" if item.get_closest_marker("slow") else "quick") for item in items}
    seconds: dict[str, float] = defaultdict(float)
    for name, kind in kinds:
        seconds[name] += known[name][kind] if name in known else float("inf")
    items.sort(key=lambda item: (-seconds[item.path.name], item.path.name))


class Writer:
    """Adds up what tests, their fixtures and the ends of these take."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: {"quick": 0.0, "slow": 0.0})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for setup, call and teardown of every test."""
        name = Path(report.nodeid.partition("::")[0]).name
        self.seconds[name]["slow" if "slow" in report.keywords else "quick"] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write whole seconds, which is precise enough for an order."""
        rows = {name: {kind: round(value) for kind, value in both.items()} for name, both in self.seconds.items()}
        lines = (f"{json.dumps(name)}: {json.dumps(both)}" for name, both in sorted(rows.items()))
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
