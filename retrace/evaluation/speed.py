"""How fast a model predicts. Times are this run's, on this machine: they go to logs/, never into an out."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

WARM_UP = 3
RUNS = 30
SECONDS = 4.0  # of measuring, for slow models; at least MIN_RUNS all the same
MIN_RUNS = 5


def measure(predict: Callable[[Sequence[np.ndarray]], Any], images: Sequence[np.ndarray], batch_size: int) -> dict:
    """Time `predict` from decoded RGB images in memory to finished masks or boxes at their own resolution.

    Returns `latency_ms` (one image: median of `runs` after warm-up, with quartiles `latency_ms_low` and
    `latency_ms_high`), `images_per_second` (median over batches of `batch_size`), `batch_size`, `runs`.
    """
    single = _times(lambda: predict(images[:1]))
    batch = [images[index % len(images)] for index in range(batch_size)]
    low, median, high = np.percentile(single, [25, 50, 75]) * 1000
    rate = batch_size / float(np.median(_times(lambda: predict(batch))))
    return {
        "latency_ms": round(float(median), 3),
        "latency_ms_low": round(float(low), 3),
        "latency_ms_high": round(float(high), 3),
        "images_per_second": round(rate, 3),
        "batch_size": batch_size,
        "runs": len(single),
    }


def _times(run: Callable[[], Any]) -> list[float]:
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    while len(times) < RUNS and (len(times) < MIN_RUNS or sum(times) < SECONDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
