"""Retrace: a reproducibility kit for computer-vision training studies (six DVC stages and the `retrace` command)."""

import atexit
import gc

from retrace import numerics

__version__ = "0.1.0"

numerics.prepare()  # before a library loads that reads these settings

# Loading torch and what stands on it makes more than half a million objects, none of them garbage. Looking through them
# again and again while they are made, and once more at the end, is a third of the time a stage takes to start and end.
COLLECT_AFTER = gc.get_threshold()  # Python's own, back in force when training or scoring begins: cycles hold tensors
gc.set_threshold(20_000, 50, 100)
atexit.register(gc.freeze)
