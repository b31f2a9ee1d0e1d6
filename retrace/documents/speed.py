"""logs/<study>/<phase>/speed.json: how fast a phase predicted in this run, on this machine."""

from typing import ClassVar

from retrace.documents.base import Document


class Speed(Document):
    """Latency of one image after warm-up, and images per second in batches of `batch_size`."""

    again: ClassVar[str] = "`dvc repro --force --single-item evaluate@<phase>`"

    latency_ms: float
    latency_ms_low: float
    latency_ms_high: float
    images_per_second: float
    batch_size: int
    runs: int  # of the latency
    input_size: list[int]  # [height, width]
    threads: int
    device: str
    device_name: str | None = None
    cuda: str | None = None  # version
    precision: str = "32-true"
