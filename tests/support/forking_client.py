"""The `python` of `tests.support.warm`, which writes the names in capitals above this text."""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Be `python` with the words of this command."""
    words = sys.argv[1:]
    settings = {name: os.environ[name] for name in os.environ if name.startswith(SETTLED)}  # noqa: F821
    settings.pop("PYTHONPATH", None)
    is_stage = words[:1] == ["-m"] and words[1:2] and words[1].startswith("stages.")
    server = socket.socket(socket.AF_UNIX)
    if not is_stage or settings != SETTINGS or server.connect_ex(SOCKET):  # noqa: F821
        server.close()
        os.execv(PYTHON, [NAME, *words])  # noqa: F821
    umask = os.umask(0)
    os.umask(umask)
    request = {"words": words[1:], "folder": os.getcwd(), "environment": dict(os.environ), "umask": umask}
    content = json.dumps(request).encode()
    socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(content)
    answers = server.makefile()
    pid = int(answers.readline())
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(answers.readline() or 1)
    if code < 0:
        if -code in PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
