"""The hardware checks of `retrace doctor`: processor, GPU, devices, memory, disk, shared memory and codecs."""

import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from retrace import nvidia
from retrace.cli.findings import ERROR, OK, WARNING, Finding
from retrace.errors import UserError
from retrace.resources import GIB, cores, loader_workers, memory

if TYPE_CHECKING:
    from retrace.config.schema import Params

PROCESS_GIB = 1.3  # what one training process of a demo takes at most, docs/benchmarks.md; real studies take more
CPU_INFO = Path("/proc/cpuinfo")


def parameters() -> "Params | None":
    """params.yaml; None where it is wrong, which the check of the parameters says."""
    from retrace.config.load import load

    try:
        return load()
    except UserError:
        return None


def check_torch() -> list[Finding]:
    """torch's build, and every GPU it sees, or why it sees none."""
    import torch

    built, params = torch.version.cuda, parameters()
    findings = [Finding("torch", OK, f"torch {torch.__version__}" + (f", CUDA {built}" if built else ", CPU only"))]
    wanted = params.machine.device if params else "auto"
    if nvidia.sees_cuda():
        driver = nvidia.driver().version
        return findings + [_card(index, driver, wanted) for index in range(torch.cuda.device_count())]
    found = nvidia.hindrance()
    if found:
        remedies = " | ".join([*found.remedies, "or set machine.device: cpu to train without a GPU"])
        meant = wanted == "cpu" or (wanted == "auto" and found.deliberate)
        findings.append(Finding("gpu", WARNING if meant else ERROR, f"torch cannot use it: {found.cause}", remedies))
    elif torch.backends.mps.is_available():
        findings.append(Finding("gpu", OK, "Apple silicon (mps)"))
    elif wanted in ("cuda", "mps"):
        remedy = "set machine.device: auto; in Docker with the CUDA image: add --gpus all"
        findings.append(Finding("gpu", ERROR, f"machine.device = {wanted}, but there is no such GPU", remedy))
    else:
        findings.append(Finding("gpu", OK, "no GPU: training runs on the CPU, which is enough for the demos"))
    return findings


def _card(index: int, driver: str, wanted: str) -> Finding:
    import torch

    card = torch.cuda.get_device_properties(index)
    name = f"gpu {index}"
    found = f"{card.name}, {card.total_memory / GIB:.1f} GiB, sm_{card.major}{card.minor}, driver {driver or '?'}"
    useless = nvidia.unfit(index) if torch.version.cuda else None
    if useless:
        remedies = " | ".join([*useless.remedies, "use another GPU (CUDA_VISIBLE_DEVICES)", "set machine.device: cpu"])
        return Finding(name, WARNING if wanted == "cpu" else ERROR, f"{found}: {useless.cause}", remedies)
    free = torch.cuda.mem_get_info(index)[0] / GIB
    if free < card.total_memory / GIB / 2:
        remedy = "another process holds its memory: see nvidia-smi, or use another GPU (CUDA_VISIBLE_DEVICES)"
        return Finding(name, WARNING, f"{found}, {free:.1f} GiB of it free", remedy)
    return Finding(name, OK, found)


def check_processor() -> list[Finding]:
    """Whether this processor has the instructions with which results have the same bits on every such processor."""
    kind = platform.machine()
    if kind in ("aarch64", "arm64"):
        found = f"{kind}: results agree with those of x86-64 within a tolerance, not bit for bit"
        return [Finding("processor", OK, found)]
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = re.search(r"^flags\s*:(.*)$", text, re.M)
    if flags is None:
        return [Finding("processor", OK, f"{kind}: the instruction sets are not known on this system")]
    missing = [name.upper() for name in ("avx2", "fma") if name not in flags[1].split()]
    if missing:
        found = f"{' and '.join(missing)} not found: results differ in their last bits from those of other processors"
        remedy = "training works but is slower; use a machine with AVX2 and FMA to compare results bit for bit"
        return [Finding("processor", WARNING, found, remedy)]
    return [Finding("processor", OK, f"AVX2 and FMA found, {cores()} cores")]


def check_devices() -> list[Finding]:
    """Whether `machine` asks for more than there is, or for what `dvc repro` does not do. Silent for one device."""
    import torch

    params = parameters()
    if params is None or params.machine.devices * params.machine.nodes == 1:
        return []
    machine, findings = params.machine, []
    asked = f"machine.devices = {machine.devices}"
    cuda = machine.device == "cuda" or (machine.device == "auto" and torch.cuda.is_available())
    mps = machine.device == "mps" or (machine.device == "auto" and not cuda and torch.backends.mps.is_available())
    present = torch.cuda.device_count() if cuda else 1 if mps else None
    if present is not None and machine.devices > present:
        remedy = f"set machine.devices to {max(present, 1)}; in Docker: --gpus all"
        findings.append(Finding("devices", ERROR, f"{asked}, GPUs here: {present}", remedy))
    elif present is None and machine.devices * params.runtime.threads > cores():
        found = f"{asked} with {params.runtime.threads} threads each, {cores()} cores here"
        findings.append(
            Finding("devices", WARNING, found, "lower machine.devices: too many processes slow each other down")
        )
    if machine.nodes > 1:
        remedy = "start each training with torchrun on every machine (docs/scaling.md), or set machine.nodes: 1"
        findings.append(Finding("nodes", WARNING, f"machine.nodes = {machine.nodes}: `dvc repro` refuses", remedy))
    return findings or [Finding("devices", OK, f"{asked}: one process on each")]


def check_memory() -> list[Finding]:
    """System memory, of a container its limit, against what the training processes take."""
    total, available = memory()
    if total is None or available is None:
        return [Finding("memory", OK, "not known on this system")]
    params = parameters()
    processes = params.machine.devices if params else 1
    found = f"{total:.1f} GiB, {available:.1f} GiB of it available"
    if available < PROCESS_GIB * processes:
        remedy = "end other programs, lower machine.devices or batch_size, or give the container more (docker run -m)"
        need = f"{processes} training process(es) of a demo take {PROCESS_GIB * processes:.1f} GiB"
        return [Finding("memory", WARNING, f"{found}; {need}", remedy)]
    return [Finding("memory", OK, found)]


def check_disk() -> list[Finding]:
    """Free space in the project's folder."""
    free = shutil.disk_usage(".").free / GIB
    if free < 2:
        remedy = "free some space: dvc gc -w, or move the cache (dvc cache dir)"
        return [Finding("disk", ERROR, f"{free:.1f} GiB free", remedy)]
    if free < 10:
        remedy = "enough for the demos; real data needs about twice its size"
        return [Finding("disk", WARNING, f"{free:.1f} GiB free", remedy)]
    return [Finding("disk", OK, f"{free:.0f} GiB free")]


def check_shared_memory() -> list[Finding]:
    """/dev/shm, through which loader workers hand over their batches."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return [Finding("shared memory", OK, "not used on this system")]
    size, params = shutil.disk_usage(folder).total / GIB, parameters()
    device = "cuda" if nvidia.sees_cuda() and params and params.machine.device != "cpu" else "cpu"
    if size < 0.5 and params and not loader_workers(params.machine, device):
        return [Finding("shared memory", OK, f"{size * 1024:.0f} MiB in /dev/shm (not used: no loader workers)")]
    if size < 0.5:
        remedy = "docker run --shm-size 2g ..., or machine.workers: 0"
        return [Finding("shared memory", WARNING, f"{size * 1024:.0f} MiB in /dev/shm", remedy)]
    return [Finding("shared memory", OK, f"{size:.1f} GiB in /dev/shm")]


def check_codecs() -> list[Finding]:
    """Whether a video can be written and read."""
    import cv2
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "probe.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
        for value in (0, 128, 255):
            writer.write(np.full((48, 64, 3), value, np.uint8))
        writer.release()
        capture = cv2.VideoCapture(path)
        read = sum(1 for _ in range(3) if capture.read()[0])
        capture.release()
    if read != 3:
        remedy = "only images will work, not videos; to reinstall: rm -rf .venv && make venv"
        return [Finding("codecs", WARNING, "OpenCV cannot write and read an mp4", remedy)]
    return [Finding("codecs", OK, f"OpenCV {cv2.__version__} writes and reads mp4")]
