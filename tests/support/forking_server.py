"""Loads the libraries of the slow stages once, and runs each stage that is asked for in a fork of itself.

Started by `tests.support.warm`, as a script: nothing of this project is imported here but in the forks, from the code
of the project that the stage runs in. Ends when the test process that started it does.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator

# what importing `stages.finetune` and `stages.evaluate` takes its time for
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "lightning_fabric",
    "timm",
    "segmentation_models_pytorch",
    "scipy.ndimage",
    "scipy.stats",
    "cv2",
    "pydantic",
    "ruamel.yaml",
)


def main(listener: socket.socket, folder: str) -> None:
    """Answer who connects until standard input is closed, and then remove the folder with the socket's address."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those who answer have ended
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        load()  # now, for many test processes never start a stage
        client, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            answer(client)  # returns in the stage alone, when it has ended
            return
        client.close()
    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def load() -> None:
    """Load the libraries, once."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def answer(client: socket.socket) -> None:
    """Start the stage in a process of its own, and tell the client its pid and how it ended."""
    request, descriptors = receive(client)
    stage = os.fork()
    if stage == 0:
        client.close()
        become(request, descriptors)
        return
    say(client, stage)
    ended = os.pidfd_open(stage)
    ready, _, _ = select.select([client, ended], [], [])
    if ended not in ready:  # the client was killed, and so the stage would have been
        os.kill(stage, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    say(client, code)
    os._exit(0)


def say(client: socket.socket, number: int) -> None:
    """Send a line with a number; who was killed meanwhile does not hear it."""
    with contextlib.suppress(OSError):
        client.sendall(f"{number}\n".encode())


def receive(client: socket.socket) -> tuple[dict, list[int]]:
    """The request of `client.py`, and its stdin, stdout and stderr."""
    head, descriptors, _, _ = socket.recv_fds(client, 8, 3)
    content = b"".join(parts(client, int.from_bytes(head, "big")))
    return json.loads(content), list(descriptors)


def parts(client: socket.socket, size: int) -> Iterator[bytes]:
    """`size` bytes, as they come."""
    while size:
        part = client.recv(size)
        if not part:
            os._exit(1)
        size -= len(part)
        yield part


def become(request: dict, descriptors: list[int]) -> None:
    """Run `python -m <module> <words>` in this process, as it would have started."""
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
        os.close(given)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    places = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [request["folder"], *places]
    sys.argv = ["-m", *request["words"][1:]]
    importlib.invalidate_caches()
    runpy.run_module(request["words"][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
