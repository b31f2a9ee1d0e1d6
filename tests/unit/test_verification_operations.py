"""What the probe of operations says before a rerun, and which studies the check without one covers."""

import sys

import pytest

from retrace.cli.verify import reported
from retrace.errors import UserError
from retrace.provenance.verify import operations
from retrace.provenance.verify.probe import recorded
from tests.support.projects import commit, run


def as_printed(digests):
    """A stand-in for the probe: a Python program that prints these digests."""
    lines = "\n".join(f"{name:44} {digest}" for name, digest in digests.items())
    return [sys.executable, "-c", f"print({lines!r})"]


@pytest.fixture
def probe(monkeypatch):
    """`probe(command)`: what runs instead of the probe."""
    real = operations.subprocess.run

    def stand_in(command):
        monkeypatch.setattr(operations.subprocess, "run", lambda words, **kwargs: real(command, **kwargs))

    return stand_in


def test_each_operation_that_parts_from_the_record_is_named(probe):
    wanted = recorded()
    for name in list(wanted)[:: len(wanted) // 5]:
        probe(as_printed(wanted | {name: "0" * 16}))
        names, total = operations.differing_here()
        assert names == [name] and total == len(wanted)
        assert name in operations.sentence(names, total)


def test_the_recorded_bits_are_said_to_be_the_recorded(probe):
    probe(as_printed(recorded()))
    names, total = operations.differing_here()
    assert names == [] and f"all {total}" in operations.sentence(names, total)


def test_a_probe_that_fails_is_one_message(probe):
    probe([sys.executable, "-c", "raise SystemExit('error: no such processor')"])
    with pytest.raises(UserError, match="no such processor"):
        operations.differing_here()


def test_every_study_with_a_committed_report_is_found(tmp_path):
    for name in ("plates", "lanes", "lanes-ablation"):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        (folder / ("ablation.json" if "-" in name else "parameters.json")).write_text("{}")
    run(tmp_path, "git", "init", "-q", "-b", "main", check=True)
    commit(tmp_path, "reports")
    (tmp_path / "reports/late").mkdir()
    (tmp_path / "reports/late/parameters.json").write_text("{}")
    assert reported(tmp_path, "HEAD") == ["lanes", "plates"]
