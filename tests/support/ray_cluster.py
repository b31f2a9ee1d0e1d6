"""A Ray cluster of two nodes on this machine, and the sudden death of one of its workers."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def cluster(python: str, folder: Path) -> Iterator[str]:
    """`ray start --head` and a second node, one CPU each; yields the address. Only their own processes are ended."""
    address = f"127.0.0.1:{_free_port()}"
    start = [python, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    start += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    port = address.rpartition(":")[2]
    head = [*start, "--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
    nodes = []
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        for number, words in enumerate((head, [*start, f"--address={address}"])):
            with open(folder / f"node{number}.log", "w", encoding="utf-8") as log:
                nodes.append(subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True))
            _wait_for(address)
        _wait_for_nodes(python, address, env)
        yield address
    finally:
        for node in reversed(nodes):
            family = [node.pid, *(child.pid for child in _children(node.pid))]
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
            for pid in family:
                if psutil.pid_exists(pid) and pid != node.pid:
                    os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _wait_for(address: str, seconds: float = 120) -> None:
    host, _, port = address.partition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens at {address}")


def _wait_for_nodes(python: str, address: str, env: dict[str, str], seconds: float = 180) -> None:
    code = (
        f"import ray, time; ray.init(address={address!r}, log_to_driver=False)\n"
        "while sum(node['Alive'] for node in ray.nodes()) < 2: time.sleep(0.5)\n"
    )
    subprocess.run([python, "-c", code], env=env, check=True, timeout=seconds, capture_output=True)


def kill_a_worker(driver: subprocess.Popen, folder: Path, seconds: float = 1200) -> int:
    """SIGKILL a worker of the cluster in `folder` that is in the middle of a training; its process id."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and driver.poll() is None:
        for process in psutil.process_iter(["name", "cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if not words.startswith("ray::run_in_clone"):
                continue
            below = _children(process.pid)
            mine = any(str(folder) in path.path for path in _files(process))
            if mine and any("stages.finetune" in " ".join(_words(child)) for child in below):
                process.kill()
                return process.pid
        time.sleep(0.2)
    raise AssertionError(f"no worker was seen at work; the driver ended with {driver.poll()}")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _files(process: psutil.Process) -> list:
    try:
        return process.open_files()
    except psutil.Error:
        return []
