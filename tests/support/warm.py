"""A `python` that starts stages in a tenth of a second instead of four, for the pipelines that tests run through DVC.

Nearly all of the four seconds goes into loading PyTorch and what stands on it, a hundred times in the slow tests. The
`python` on the PATH of the processes that tests start (`tests.support.projects.environment`) asks a process that has
loaded these libraries to fork itself (`forking_server.py`). The stage is then imported and run there as ever: with the
working folder, environment, streams and code that it was started with. For anything but `-m stages...`, in an
environment in which the libraries would have loaded otherwise, and where no such process is, it is this interpreter.

`FRESH` in a command's environment gives stages processes of their own: where starting them is part of what is tested.
"""

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

FRESH = {"RETRACE_TEST_FRESH": "1"}
# How variables begin that Python and the libraries read when they start, or keep the meaning of.
SETTLED = (
    "ATEN_", "CUDA_", "DNNL_", "HOME", "KMP_", "LANG", "LC_", "MALLOC_", "MKL_", "MPL", "NPY_", "NVIDIA_",
    "OMP_", "ONEDNN_", "OPENBLAS_", "OPENCV_", "PYTHON", "RETRACE_", "TZ", "XDG_",
)  # fmt: skip
CLIENT = Path(__file__).with_name("forking_client.py")
NOT_INSTALLED = Path(__file__).parent / "not_installed"  # says why
SERVER = Path(__file__).with_name("forking_server.py")


def folder() -> Path | None:
    """The folder with this `python`; None where forks cannot be had."""
    return start()[0] if hasattr(os, "pidfd_open") else None


@functools.cache
def start() -> tuple[Path, subprocess.Popen[bytes]]:
    """The folder, and its server, which ends and removes it when this process ends."""
    here = Path(tempfile.mkdtemp(prefix="retrace-warm-"))  # short: a socket's path may not be long
    program = here / "bin" / "python"
    program.parent.mkdir()
    constants = {
        "PYTHON": sys.executable,
        "NAME": str(program) if in_environment(here) else sys.executable,
        "SOCKET": str(here / "socket"),
        "SETTLED": SETTLED,
        "SETTINGS": settings(),
    }
    lines = [f"#!{sys.executable} -IS", *(f"{name} = {value!r}" for name, value in constants.items())]
    program.write_text("\n".join([*lines, CLIENT.read_text(encoding="utf-8")]), encoding="utf-8")
    program.chmod(0o755)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(NOT_INSTALLED)}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "socket"))
        listener.listen(64)  # who comes before the libraries are loaded waits
        number = listener.fileno()
        command = [sys.executable, "-P", str(SERVER), str(number), str(here)]
        server = subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=[number], **pipes)
    return program.parent, server


@functools.cache
def settings() -> dict[str, str]:
    """The settled variables with which the server was started; a test that ran here later may have changed them."""
    return {name: value for name, value in os.environ.items() if is_settled(name)}


def is_settled(name: str) -> bool:
    """Whether a stage with another value of this variable needs a process of its own."""
    return name.startswith(SETTLED) and name != "PYTHONPATH"


def in_environment(here: Path) -> bool:
    """Make the folder a virtual environment with the packages of this one: `sys.executable` can then be its `python`.

    So `retrace verify` and `retrace ablate` start stages by it, too. False where this is no virtual environment.
    """
    settings = Path(sys.prefix, "pyvenv.cfg")
    if not settings.is_file():
        return False
    shutil.copy(settings, here)
    (here / "lib").symlink_to(Path(sys.prefix, "lib"))
    return True
