"""Fabric from the parameters of the machine: where a training runs, and nothing about what it computes."""

import logging

from lightning_fabric import Fabric

from stages.models.predict import choose_device
from stages.params.phases import Precision
from stages.params.schema import Machine


def launch(machine: Machine, precision: Precision) -> Fabric:
    """A launched Fabric. Raises `UserError` for a device this machine lacks.

    A CPU has no fp16 arithmetic to speak of: there `16-mixed` computes in bfloat16, which needs no loss scaling.
    """
    device = choose_device(machine.device).type
    if device == "cpu" and precision == "16-mixed":
        precision = "bf16-mixed"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every choice on stderr
    fabric = Fabric(
        accelerator=device,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy=machine.strategy,
        precision=precision,
    )
    fabric.launch()
    return fabric


def kind(fabric: Fabric) -> str:
    """What a resumed training has to have in common with the interrupted one, e.g. "cuda x2"."""
    return f"{fabric.device.type} x{fabric.world_size}"
