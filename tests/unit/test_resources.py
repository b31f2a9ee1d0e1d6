"""What a training takes of its machine: loader workers, memory for decoded images, the card it is resumed on."""

import multiprocessing
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from retrace import resources
from retrace.config.machine import Machine
from retrace.data.loading import Cache, Room, evaluation_loader, training_loader
from retrace.errors import FailedElsewhere, FailedHere, UserError
from retrace.models import predict
from retrace.models.inference import computing_in, inference_precision, precision_mark
from retrace.models.predict import choose_device, describe_device
from retrace.provenance import run_log
from retrace.training import launch, processes

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A container with 12 GiB of memory and half of 16 cores."""
    (tmp_path / "meminfo").write_text("MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 33554432 kB\n")
    (tmp_path / "memory.max").write_text(str(12 * GIB))
    (tmp_path / "memory.current").write_text(str(2 * GIB))
    (tmp_path / "cpu.max").write_text("800000 100000\n")
    monkeypatch.setattr(resources, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def test_cores_are_those_that_the_container_may_use(machine):
    assert resources.cores() == 8
    (machine / "cpu.max").write_text("max 100000\n")
    assert resources.cores() == 16
    (machine / "cpu.max").write_text("50000 100000\n")
    assert resources.cores() == 1


@pytest.mark.parametrize(
    ("given", "device", "workers"),
    [
        ({}, "cuda", 7),  # one of eight cores feeds the GPU
        ({"devices": 2}, "cuda", 3),
        ({"devices": 8}, "cuda", 1),
        ({}, "cpu", 0),
        ({"workers": 0}, "cuda", 0),
        ({"workers": 5}, "cpu", 5),
    ],
)
def test_workers_follow_from_the_cores(machine, given, device, workers):
    assert resources.loader_workers(Machine(**given), device) == workers


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, 4 * GIB),
        ({"devices": 2}, 2 * GIB),
        ({"cache_gib": 3, "devices": 2}, 1.5 * GIB),
        ({"cache_gib": 0}, 0),
    ],
)
def test_the_cache_takes_a_third_of_the_memory(machine, given, size):
    assert resources.cache_bytes(Machine(**given)) == size


def test_training_and_validation_share_the_room():
    room = Room(100)
    first, second, third = Cache(3, (5, 5), room), Cache(3, (5, 5), room), Cache(3, (5, 5), room)
    for cache in (first, second, third):
        for index in range(3):
            cache.put(index, torch.ones(5, 5, dtype=torch.uint8).numpy())
    held = [sum(cache.get(index) is not None for index in range(3)) for cache in (first, second, third)]
    assert held == [3, 1, 0]


@pytest.mark.parametrize(("device", "pins"), [("cpu", False), ("cuda", True)])
def test_only_a_loader_for_a_gpu_pins_memory(monkeypatch, device, pins):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a GPU that nobody asked for
    samples = torch.utils.data.TensorDataset(torch.zeros(4))
    assert training_loader(samples, 2, 1, 0, None, device=device).pin_memory is pins
    assert evaluation_loader(samples, 2, 0, None, device=device).pin_memory is pins


def test_the_cpu_is_chosen_without_a_look_at_cuda(monkeypatch):
    def started():
        raise AssertionError("CUDA was asked")

    for name in ("is_available", "device_count", "init", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: started())
    assert choose_device("cpu") == torch.device("cpu")
    assert describe_device(torch.device("cpu"))._asdict().keys() >= {"device", "capability", "driver", "cudnn", "tf32"}


# --- the card -------------------------------------------------------------------------------------------------------


def card(monkeypatch, name="Tesla T4", capability=(7, 5)):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)
    monkeypatch.setattr(predict.nvidia, "driver", lambda: SimpleNamespace(version="580.65.06"))


def test_a_card_is_described_by_all_that_its_results_depend_on(monkeypatch):
    card(monkeypatch)
    found = describe_device(torch.device("cuda", 0))
    assert found == ("cuda", "Tesla T4", "7.5", "580.65.06", "13.0", "91300", "none")
    card(monkeypatch, "RTX 3060", (8, 6))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert describe_device(torch.device("cuda")).tf32 == "convolutions"


def fabric(device, world=1):
    return SimpleNamespace(device=torch.device(device), world_size=world)


def test_a_training_is_resumed_on_the_same_card_only(monkeypatch):
    card(monkeypatch)
    first = launch.kind(fabric("cuda"), Machine())
    assert launch.kind(fabric("cuda"), Machine()) == first
    half = launch.kind(fabric("cuda"), Machine(inference_precision="16-mixed"))
    card(monkeypatch, "NVIDIA L4", (8, 9))
    assert len({first, half, launch.kind(fabric("cuda"), Machine())}) == 3
    assert launch.kind(fabric("cpu"), Machine(inference_precision="16-mixed")) == "cpu x1"


def test_peak_memory_is_in_the_run_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with run_log.journal("lanes", "evaluate", "base"):
        pass
    path = run_log.journal_path("lanes", "evaluate", "base")
    assert run_log.RunLog.read(path).gpu_memory is None
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 4 * GIB)
    with pytest.raises(RuntimeError), run_log.journal("lanes", "evaluate", "base"):
        raise RuntimeError("out of memory")
    memory = run_log.RunLog.read(path).gpu_memory
    assert memory is not None and (memory.allocated_mib, memory.reserved_mib) == (3072, 4096)


# --- precision ------------------------------------------------------------------------------------------------------


def test_a_cpu_computes_as_ever_whatever_is_asked():
    asked = Machine(inference_precision="16-mixed")
    assert inference_precision(asked, "cpu") is None and inference_precision(asked, "mps") is None
    assert inference_precision(asked, "cuda") == "16-mixed" and inference_precision(Machine(), "cuda") is None
    assert precision_mark("16-mixed") and precision_mark("32-true") == precision_mark(None) == {}


def test_a_precision_replaces_that_of_the_training():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with computing_in(None, "cpu"):
            assert layer(x).dtype == torch.bfloat16
        with computing_in("32-true", "cpu"):
            assert layer(x).dtype == torch.float32
        with computing_in("16-mixed", "cpu"):
            assert layer(x).dtype == torch.float16


# --- several processes ----------------------------------------------------------------------------------------------


def ended(monkeypatch, failures):
    """What a stage says when its processes end so: (exit code, seconds after the first) in the order of ranks."""
    rows = {}
    for rank, (code, seconds) in enumerate(failures):
        name = signal.Signals(-code).name if code < 0 else "<NA>"
        rows[rank] = SimpleNamespace(exitcode=code, timestamp=1000 + seconds, signal_name=lambda name=name: name)
    error = ChildFailedError.__new__(ChildFailedError)
    error.failures = rows

    def start(*_):
        raise error

    monkeypatch.setattr(launch, "elastic_launch", lambda *_: start)
    monkeypatch.setattr(launch.logging, "disable", lambda _: None)  # for the rest of the process
    with pytest.raises(UserError) as caught:
        launch.spread(Machine(device="cpu", devices=len(rows)), "stages.finetune", ["base"])
    return caught.value


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([(-signal.SIGKILL, 0), (1, 1)], "process 1 of 2 was ended by SIGKILL"),
        ([(1, 1), (-signal.SIGSEGV, 0)], "process 2 of 2 was ended by SIGSEGV"),
        ([(1, 0), (-signal.SIGKILL, 10)], None),  # killed by the launcher: it waited for the other in NCCL
        ([(-signal.SIGABRT, 0), (1, 0)], None),  # aborted by NCCL, which waited for the other
        ([(-signal.SIGABRT, 0), (-signal.SIGKILL, 0)], "process 2 of 2 was ended by SIGKILL"),
        ([(-signal.SIGTERM, 0), (-signal.SIGABRT, 0)], "process 2 of 2 was ended by SIGABRT"),
        ([(-signal.SIGTERM, 0), (-signal.SIGTERM, 0)], None),
    ],
)
def test_a_process_killed_after_anothers_failure_is_not_the_cause(monkeypatch, failures, cause):
    account = ended(monkeypatch, failures)
    assert isinstance(account, FailedElsewhere) is (cause is None)
    assert cause is None or cause in str(account)


LOST = [
    dist.DistBackendError("NCCL error in: ...: remote process exited or there was a network error"),
    dist.DistBackendError("NCCL error: unhandled system error, NCCL version 2.28 ncclSystemError: ..."),
    RuntimeError("NCCL communicator was aborted on rank 1. Watchdog caught collective operation timeout"),
    RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"),
    dist.DistNetworkError("The client socket has timed out"),
]
OTHERS = [
    dist.DistBackendError("NCCL error: ncclInvalidUsage: Duplicate GPU detected : rank 1 and rank 0"),
    dist.DistBackendError("NCCL error: ncclUnhandledCudaError: Cuda failure 'out of memory'"),
    RuntimeError("size mismatch, timed out"),
    ValueError("ncclRemoteError"),
]


def fail(error, said):
    """One of two processes fails with `error`; what it raises then goes into the queue `said`."""
    entries = dist.HashStore()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    processes.dist.TCPStore = lambda *_, **__: entries  # in this process alone, which ends at once
    try:
        with processes.together(SimpleNamespace(global_rank=0, world_size=2)):
            raise error
    except Exception as raised:
        said.put((type(raised).__name__, str(raised)))
    said.close()
    said.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)  # not through the exit handlers that `together` leaves


@pytest.mark.parametrize(("error", "lost"), [*((one, True) for one in LOST), *((one, False) for one in OTHERS)])
def test_a_lost_connection_is_named_whatever_carries_it(error, lost):
    forking = multiprocessing.get_context("fork")
    said = forking.Queue()
    process = forking.Process(target=fail, args=(error, said))
    process.start()
    kind, text = said.get(timeout=60)
    process.join()
    if lost:
        assert kind == FailedHere.__name__ and "connection to another process" in text
    else:
        assert (kind, text) == (type(error).__name__, str(error))


def test_a_stage_on_the_cpu_leaves_cuda_alone():
    """In a process of its own, where torch's first use of CUDA would raise."""
    code = (
        "import torch\n"
        "def no(*_): raise SystemExit('CUDA was started')\n"
        "torch.cuda._lazy_init = no\n"
        "torch.cuda.is_available = lambda: True\n"
        "from retrace.config.machine import Machine, Runtime\n"
        "from retrace.seeds import make_deterministic, seed_everything\n"
        "from retrace.training.launch import kind, launch\n"
        "make_deterministic(Runtime(threads=1)); seed_everything(3)\n"
        "fabric = launch(Machine(device='cpu'), '32-true')\n"
        "layer, step = fabric.setup(torch.nn.Linear(2, 1), torch.optim.SGD(torch.nn.Linear(2, 1).parameters()))\n"
        "print(kind(fabric, Machine()), torch.cuda.is_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "cpu x1 False\n"), done.stderr
