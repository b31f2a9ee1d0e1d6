"""Starting and ending a stage: nothing heavy is loaded without need, no garbage is looked for where there is none."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

import retrace
from retrace.allocator import keep_freed_memory

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "timm", "ultralytics", "cv2", "matplotlib")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("stage", ["collect", "rebalance", "pretrain", "report"])
def test_stages_that_train_nothing_load_nothing_heavy(stage):
    assert python(f"import sys, stages.{stage}; print([m for m in {HEAVY} if m in sys.modules])").strip() == "[]"


def test_what_is_loaded_is_not_searched_for_garbage_and_neither_is_what_is_left_at_the_end():
    # handlers run last first: this one, registered before `retrace` is imported, sees what that one did
    code = (
        "import atexit, gc\n"
        "usual, frozen = gc.get_threshold(), gc.get_freeze_count()\n"  # Python 3.12 starts with some
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "import retrace\n"
        "rarer = gc.get_threshold()[0] > 10 * usual[0]\n"
        "print(retrace.COLLECT_AFTER == usual, rarer, gc.isenabled(), gc.get_freeze_count() == frozen)"
    )
    assert python(code).splitlines() == ["True True True True", "True"]


def test_training_collects_garbage_at_the_usual_pace():
    keep_freed_memory()
    assert gc.get_threshold() == retrace.COLLECT_AFTER
