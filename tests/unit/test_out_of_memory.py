"""Running out of memory ends in one line with a remedy, from PyTorch's errors; a missing kernel is another thing."""

import pytest
import torch

from retrace.allocator import advice_when_out_of_memory, smaller_batch
from retrace.errors import UserError
from retrace.training.engines.ultralytics.trainer import Trainer

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which 1.20 GiB is free."
)


def test_a_gpus_words_are_kept_and_the_batch_to_set_is_said():
    with pytest.raises(UserError) as caught, advice_when_out_of_memory(smaller_batch("phases.a", 16, 2)):
        raise torch.OutOfMemoryError(CUDA)
    said = str(caught.value)
    assert "2.00 GiB more" in said and "has 14.58 GiB in all" in said and CUDA in said and "\n" not in said
    assert "phases.a.batch_size to 8 and phases.a.accumulate to 4" in said


def test_a_cpu_runs_out_of_memory_too():
    said = r"\d+ bytes more.*pretrain.mae.batch_size to 4 \(now 8\)"
    with pytest.raises(UserError, match=said), advice_when_out_of_memory(smaller_batch("pretrain.mae", 8)):
        torch.empty(2**58, dtype=torch.uint8)


def test_a_batch_of_one_cannot_be_halved():
    assert "input_size" in smaller_batch("phases.a", 1, 4) and "batch_size to 0" not in smaller_batch("phases.a", 1, 4)


@pytest.mark.parametrize(
    "text", ["cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "GET was unable to find an engine to execute this computation"]
)
def test_a_missing_kernel_is_not_out_of_memory(text):
    with pytest.raises(RuntimeError, match=text), advice_when_out_of_memory("nothing"):
        raise RuntimeError(text)


class Started(Trainer):
    """As Ultralytics' loop calls the trainer when a step has failed: it builds the loaders once more."""

    def __init__(self):
        self.optimizer = object()
        self.args = type("Args", (), {"imgsz": 640})
        self.run = type("Run", (), {"phase": type("P", (), {"hyperparameters": type("H", (), {"batch": 16})})})


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (torch.OutOfMemoryError(CUDA), UserError, "hyperparameters.batch = 16 or imgsz = 640.*Tried to allocate"),
        (RuntimeError("unable to find an engine"), RuntimeError, "^unable to find an engine$"),
    ],
)
def test_ultralytics_does_not_halve_the_batch(error, kind, said):
    def fail():
        try:
            raise error
        except RuntimeError:
            Started().get_dataloader("train", 8)

    with pytest.raises(kind, match=said):
        fail()
