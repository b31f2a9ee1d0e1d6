"""Fixtures that more than one test file uses."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from retrace.config import merge, whole
from tests.support import warm
from tests.support.durations import pytest_addoption, pytest_collection_modifyitems, pytest_configure  # noqa: F401
from tests.support.projects import REAL_DATA, ROOT, as_yaml, committed_run, once, tiny_params

PILLOW_OPEN = Image.open

# Several tests run at once, and what they compute is small: more threads than cores only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a stage that starts compiles torch's modules anew where it is set
sys.dont_write_bytecode = False

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background, and for all that is started there
    signal.signal(signal.SIGINT, signal.default_int_handler)

warm.folder()  # now, while no test has changed the environment


def pytest_itemcollected(item: pytest.Item) -> None:
    """Coverage is that of the quick tests: counting lines would make the slow ones a good deal slower."""
    if item.get_closest_marker("slow"):
        item.add_marker("no_cover")


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """`real_data("camvid")`: the folder of a real data set; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"real data {name} not found; set RETRACE_REAL_DATA to the folder that holds it")
        return folder.resolve()

    return find


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`finished_study("lanes")`: a project that ran the tiny study to its report, once for all tests of all workers.

    Its results are committed. Nobody may change it: `tests.support.projects.copy_of` makes a copy to work on.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def find(study: str) -> Path:
        return once(shared / "finished" / study, lambda folder: committed_run(folder, tiny_params(study)))

    return find


class Dataset:
    """A small data set below the working folder, and the parameters that read it."""

    def __init__(self, folder: Path):
        self.project, self.root = folder, folder / "input"
        self.changes: dict[str, Any] = {}

    def image(self, name: str, size: tuple[int, int] = (20, 16), seed: int = 0, **options: Any) -> Path:
        """A picture of noise, (width, height)."""
        pixels = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return self.save(name, Image.fromarray(pixels), **options)

    def mask(self, name: str, values: Any = (0, 1), size: tuple[int, int] = (20, 16), dtype: Any = np.uint8) -> Path:
        """A mask of vertical stripes of `values`, one of them per column in turn."""
        columns = np.asarray(values, dtype)[np.arange(size[0]) % len(values)]
        return self.save(name, Image.fromarray(np.repeat(columns[None], size[1], axis=0)))

    def save(self, name: str, picture: Image.Image, **options: Any) -> Path:
        """Write a picture below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **options)
        return path

    def pair(self, stem: str, **options: Any) -> None:
        """images/<stem>.jpg and masks/<stem>.png."""
        self.image(f"images/{stem}.jpg", **options)
        self.mask(f"masks/{stem}.png", **options)

    def write_params(self, **data: Any) -> None:
        """params.yaml: two classes, source `masks`; `data` changes the data block."""
        values = YAML(typ="safe", pure=True).load((ROOT / "studies" / "lanes.yaml").read_text(encoding="utf-8"))
        values |= {"classes": ["road", "lane"], "rebalance": {"min_units": 1}}
        values["report"] = {"title": "a test"}
        values["data"] = {
            "root": "input",
            "source": {
                "kind": "masks",
                "images": "images",
                "masks": "masks",
                "values": {"road": [0], "lane": [1]},
                "ignore": [255],
                "split": {"by": "ratio", "val": 0.2, "test": 0.2},
            },
        }
        source = data.pop("source", None)
        values["data"] |= data
        if source is not None:
            replaced = source.get("kind", "masks") != "masks"
            values["data"]["source"] = source if replaced else merge(values["data"]["source"], source)
            for key in ("values", "split"):
                if key in source:
                    values["data"]["source"][key] = source[key]
        values |= self.changes
        (self.project / "params.yaml").write_text(as_yaml(whole(values)), encoding="utf-8")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """An empty data set in a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input").mkdir()
    return Dataset(tmp_path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect or to look up a host fails, as on a machine without network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def pillow_as_it_came() -> None:
    """Ultralytics replaces `Image.open` in any process that imports it; the stages that read users' files never do."""
    Image.open = PILLOW_OPEN


@pytest.fixture
def retrace(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`retrace(project, "predict", ...)`: the command inside this process, as starting Python is not what is tested.

    Returns a `CompletedProcess` with the exit code and what was printed, by C libraries too; a bug is raised.
    """
    from retrace.cli.app import app

    def run(project: Path, *words: Any) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(project)
        monkeypatch.setenv("COLUMNS", "80")
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            app([str(word) for word in words], prog_name="retrace")
        return subprocess.CompletedProcess(words, int(end.value.code or 0), *capfd.readouterr())

    return run
