"""Parameters of where and with which arithmetic a stage computes."""

from typing import Literal

from retrace.config.base import Block, Count, Index, NotNegative
from retrace.numerics import Numerics

InferencePrecision = Literal["32-true", "16-mixed"]


class Runtime(Block):
    """Hashed: changes the last bits of a CPU result."""

    threads: Count = 2
    # the same bits on every x86-64 processor with AVX2, or each one's fastest kernels
    numerics: Numerics = "portable"


class Machine(Block):
    """Not hashed: where it runs. Of it only devices x nodes changes results, and on a GPU
    inference_precision; the outs name both."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count = 1
    nodes: Count = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    # processes that load images for each training process; null: from the cores on a GPU, 0 on a CPU
    workers: Index | None = None
    cache_gib: NotNegative | None = None  # of decoded images held in memory; null: a third of it
    # of evaluate, predict and the validation of a training on a GPU; null: evaluate and predict in
    # 32-true, validation as the training. A CPU always does what null says.
    inference_precision: InferencePrecision | None = None
    # the state after every epoch stays in .retrace/states, for `retrace verify --spot`
    keep_states: bool = False
    # digests of the state after every batch go to logs/<study>/<training>/steps.jsonl
    record_steps: bool = False
