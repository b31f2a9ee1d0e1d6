"""The `python` that tests put on PATH: a stage that begins in a fork is the stage that begins as a process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support import warm
from tests.support.projects import ROOT, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(warm.folder() is None, reason="a process cannot be waited for by a descriptor here"),
]

TOLD = """
import os, sys
print(sys.argv[1:], sys.path[0], os.getcwd(), os.environ["GIT_TEST"], __name__, __spec__.name, sys.stdin.read())
print("loaded", "torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def stage(tmp_path):
    """start(code, ...): the process of a stage with this code, in a folder of its own."""

    def start(code, **more):
        (tmp_path / "stages").mkdir(exist_ok=True)
        (tmp_path / "stages" / "__init__.py").touch()
        (tmp_path / "stages" / "told.py").write_text(code)
        kept = {name: value for name, value in environment().items() if not warm.is_settled(name)}
        env = kept | warm.settings() | {"GIT_TEST": "seen", "PYTHONPATH": ""} | more
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = ["python", "-m", "stages.told", "one", "two words"]
        return subprocess.Popen(command, cwd=tmp_path, env=env, **pipes)

    return start


def ended(process, text=""):
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out, err


def test_arguments_streams_folder_and_environment_are_those_of_the_command(stage, tmp_path):
    forked, fresh = (ended(stage(TOLD, **more), "a line") for more in ({}, warm.FRESH))
    assert forked[:2] == fresh[:2]
    assert forked[:2] == (0, f"['one', 'two words'] {tmp_path} {tmp_path} seen __main__ stages.told a line\n")
    assert (forked[2], fresh[2]) == ("loaded True\n", "loaded False\n")


@pytest.mark.parametrize("more", [{"OMP_NUM_THREADS": "3"}, {"RETRACE_NUMERICS": "native"}, {"HOME": "/nowhere"}])
def test_another_environment_gets_a_process_of_its_own(stage, more):
    assert ended(stage(TOLD, **more))[2] == "loaded False\n"


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "raise SystemExit('no')", "1 / 0", "import os; os.kill(os.getpid(), 9)"]
)
def test_it_ends_as_the_process_would(stage, code):
    forked, fresh = (ended(stage(code, **more)) for more in ({}, warm.FRESH))
    assert forked[0] == fresh[0] != 0
    assert forked[2].splitlines()[-1:] == fresh[2].splitlines()[-1:]


WAITS = """
import os, time
print(os.getpid(), flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_who_ends_the_command_ends_the_stage(stage, number):
    process = stage(WAITS)
    pid = int(process.stdout.readline())
    assert pid != process.pid
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number or number == signal.SIGINT
    end = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


def test_all_else_is_this_interpreter():
    code = "import sys, yaml; print(sys.base_prefix, sys.version, yaml.__version__)"
    commands = ([str(warm.folder() / "python"), "-c", code], [sys.executable, "-c", code])
    shown = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for command in commands]
    assert shown[0].stdout == shown[1].stdout
