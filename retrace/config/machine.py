"""Parameters of where and with which arithmetic a stage computes."""

from typing import Literal

from retrace.config.base import Block, Count, Index
from retrace.numerics import Numerics


class Runtime(Block):
    """Hashed: changes the last bits of a CPU result."""

    threads: Count = 2
    # the same bits on every x86-64 processor with AVX2, or each one's fastest kernels
    numerics: Numerics = "portable"


class Machine(Block):
    """Not hashed: where it runs. Of it only devices x nodes changes results; the outs name it."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count = 1
    nodes: Count = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    workers: Index = 0
    # the state after every epoch stays in .retrace/states, for `retrace verify --spot`
    keep_states: bool = False
    # digests of the state after every batch go to logs/<study>/<training>/steps.jsonl
    record_steps: bool = False
