"""logs/<study>/[<phase>/]<stage>.json: what a stage did here, and when."""

from typing import ClassVar

from retrace.documents.base import Document, Part
from retrace.environment import Image


class GpuMemory(Part):
    """The most memory of its GPU that a run held at a time, MiB.

    allocated: by tensors. reserved: by PyTorch, which keeps freed blocks; a CUDA context and
    cuDNN take some hundred MiB more.
    """

    allocated_mib: int
    reserved_mib: int


class RunLog(Document):
    """A run of a stage. The stage may add facts of its own."""

    again: ClassVar[str] = "`dvc repro`"

    stage: str
    phase: str | None = None
    started: str  # ISO 8601, UTC
    seconds: float
    status: str  # RUNNING | SUCCESS | FAILED
    pid: int = 0
    host: str = ""
    image: Image | None = None
    device: str | None = None  # cpu, cuda or mps
    device_name: str | None = None
    capability: str | None = None  # of a CUDA device, e.g. "7.5"
    driver: str | None = None  # version
    cuda: str | None = None  # version
    cudnn: str | None = None  # version
    tf32: str | None = None  # what may compute float32 in TF32
    gpu_memory: GpuMemory | None = None
    error: str | None = None
