"""A `python` that starts stages in a tenth of a second instead of four, for the pipelines that tests run through DVC.

Nearly all of the four seconds goes into loading PyTorch and what stands on it, a hundred times in the slow tests. The
`python` on the PATH of the processes that tests start (`tests.support.projects.environment`) asks a process that has
loaded these libraries to fork itself (`forking_server.py`). The stage is then imported and run there as ever: with the
working folder, environment, streams and code that it was started with. For anything but `-m stages...`, in an
environment that the libraries could take notice of, and where no such process is, it is this interpreter.

`FRESH` in a command's environment gives stages processes of their own: where starting them is part of what is tested.
"""

import atexit
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FRESH = {"RETRACE_TEST_FRESH": "1"}
# variables that may differ from those of the process that loaded the libraries, for none of these reads them then
FREE = ("PATH", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONPATH", "COLUMNS", "TMPDIR")
FREE_PREFIXES = ("GIT_", "DVC_", "PYTEST_")
CLIENT = Path(__file__).with_name("forking_client.py")
NOT_INSTALLED = Path(__file__).parent / "not_installed"  # says why
SERVER = Path(__file__).with_name("forking_server.py")


@functools.cache
def folder() -> Path | None:
    """The folder with this `python`, whose server runs until this process ends; None where forks cannot be had."""
    if not hasattr(os, "pidfd_open"):
        return None
    place = tempfile.TemporaryDirectory(prefix="retrace-warm-")  # short: a socket's path may not be long
    here = Path(place.name)
    command = [sys.executable, "-P", str(SERVER), str(here / "socket")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(NOT_INSTALLED)}
    server = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    constants = {
        "PYTHON": sys.executable,
        "SOCKET": str(here / "socket"),
        "FREE": FREE,
        "FREE_PREFIXES": FREE_PREFIXES,
        "SETTINGS": {name: value for name, value in os.environ.items() if not is_free(name)},
    }
    lines = [f"#!{sys.executable} -IS", *(f"{name} = {value!r}" for name, value in constants.items())]
    (here / "python").write_text("\n".join([*lines, CLIENT.read_text()]), encoding="utf-8")
    (here / "python").chmod(0o755)

    def end() -> None:
        server.stdin.close()
        server.wait()
        place.cleanup()

    atexit.register(end)
    return here


def is_free(name: str) -> bool:
    """Whether a variable may differ from the server's."""
    return name in FREE or name.startswith(FREE_PREFIXES)
