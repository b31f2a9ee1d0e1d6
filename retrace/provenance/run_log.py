"""What a run did and when: one small JSON per stage under logs/, never an out (times are not reproducible)."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrace.documents.run_log import GpuMemory, RunLog
from retrace.environment import describe_image, require_matching_image
from retrace.files import LOGS
from retrace.numerics import require_processor


def journal_path(study: str, stage: str, phase: str | None = None) -> Path:
    """logs/<study>/<stage>.json, or logs/<study>/<phase>/<stage>.json for a stage that runs once a phase."""
    return LOGS / study / phase / f"{stage}.json" if phase else LOGS / study / f"{stage}.json"


@contextmanager
def journal(study: str, stage: str, phase: str | None = None) -> Iterator[dict[str, Any]]:
    """Record start, duration, process and RUNNING, SUCCESS or FAILED; what the stage adds to the dict is kept too.

    Every stage opens its journal first, so this is also where a wrong image or processor is refused. Of several
    processes that train together only the first writes.
    """
    require_matching_image()
    require_processor()
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK") != "0":
        yield {}
        return
    image = describe_image()
    path = journal_path(study, stage, phase)
    extra: dict[str, Any] = {}
    started, clock = datetime.now(UTC), time.monotonic()

    def write(status: str) -> None:
        entry = RunLog(
            stage=stage,
            phase=phase,
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - clock, 1),
            status=status,
            pid=os.getpid(),
            host=os.uname().nodename,
            image=image,
            gpu_memory=_gpu_memory(),
            **extra,
        )
        entry.write(path)

    status = "RUNNING"
    write(status)
    try:
        yield extra
        status = "SUCCESS"
    except BaseException as error:
        status = "FAILED"
        extra["error"] = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise
    finally:
        write(status)


def _gpu_memory() -> GpuMemory | None:
    """The peak so far of the GPU that this process computes on; None without one."""
    torch = sys.modules.get("torch")  # not imported for this: some stages need none of it
    if torch is None or not torch.cuda.is_initialized():
        return None
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return GpuMemory(allocated_mib=allocated // 2**20, reserved_mib=reserved // 2**20)
