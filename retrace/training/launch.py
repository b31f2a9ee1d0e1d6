"""Fabric from the parameters of the machine: where a training runs, and nothing about what it computes.

One process per device. `torchrun` starts them, on one machine or several; on one machine `spread` does it by itself,
so that `dvc repro` works unchanged.
"""

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from retrace import numerics
from retrace.config.machine import Machine
from retrace.config.steps import Precision
from retrace.errors import STARTED_HERE, FailedElsewhere, UserError, first_on_machine
from retrace.models.inference import inference_precision
from retrace.models.predict import choose_device, describe_device
from retrace.training.processes import await_others, join_others, of_all

GRACE = 10  # seconds that a process gets to end by itself when another has failed


def launch(machine: Machine, precision: Precision) -> Fabric:
    """A launched Fabric. Raises `UserError` for devices this machine lacks and a precision they must not compute in.

    A CPU has no fp16 arithmetic to speak of: there `16-mixed` computes in bfloat16, which needs no loss scaling, or in
    float32 where results must be the same bits on every processor or bfloat16 is emulated.
    """
    joined = dist.is_torchelastic_launched()
    if joined:
        join_others()
    device = choose_device(machine.device, int(os.environ["LOCAL_WORLD_SIZE"]) if joined else machine.devices).type
    devices, nodes = _extent(machine, device)
    if device == "cpu":
        precision = _on_cpu(precision)
    if device == "cuda" and precision == "bf16-mixed":
        _require_bfloat16(devices)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every choice on stderr
    logging.getLogger("lightning_fabric.utilities.distributed").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy=machine.strategy,
        precision=precision,
        # named, because within a Slurm job Fabric would otherwise count on srun for the processes
        plugins=[TorchElasticEnvironment() if joined else LightningEnvironment()],
    )
    threads = torch.get_num_threads()
    if joined:
        await_others()
    fabric.launch()
    torch.set_num_threads(threads)  # runtime.threads: Fabric would divide the cores among the processes
    return fabric


def _on_cpu(precision: Precision) -> Precision:
    if numerics.is_portable():
        if precision == "bf16-mixed":  # without AVX-512 it is emulated, at a tenth of float32's speed
            raise UserError(
                "precision: bf16-mixed on a CPU needs runtime.numerics: native; portable results are computed in "
                "float32: set precision to 32-true"
            )
        return "32-true"
    if precision != "16-mixed":
        return precision
    if numerics.has_bfloat16():
        return "bf16-mixed"
    if first_on_machine():
        print(
            "precision: 16-mixed trains in float32 here: this CPU emulates half precision (no avx512_bf16 or amx_bf16)",
            file=sys.stderr,
        )
    return "32-true"


def _require_bfloat16(devices: int) -> None:
    """PyTorch emulates bfloat16 on cards before sm_80, at a fraction of float16's speed, and says nothing."""
    for index in range(devices):
        major, minor = torch.cuda.get_device_capability(index)
        if major < 8:
            raise UserError(
                f"precision: bf16-mixed needs a GPU of sm_80 or later; {torch.cuda.get_device_name(index)} is "
                f"sm_{major}{minor}: set precision to 16-mixed or 32-true"
            )


def kind(fabric: Fabric, machine: Machine) -> str:
    """What a resumed training has to have in common with the interrupted one, e.g. "cpu x1".

    On GPUs also the card, as another computes other last bits, and the precision of validation, which decides the best
    epoch: "cuda x2 on Tesla T4 7.5, validated in 16-mixed".
    """
    text = f"{fabric.device.type} x{fabric.world_size}"
    if fabric.device.type == "cuda":
        card = describe_device(fabric.device)
        cards = sorted(set(of_all(fabric, f"{card.device_name} {card.capability}")))
        text += f" on {', '.join(cards)}"
    precision = inference_precision(machine, fabric.device.type)
    return text if precision is None else f"{text}, validated in {precision}"


def spread(machine: Machine, module: str, arguments: Sequence[str]) -> bool:
    """Run `python -m <module> <arguments>` once per device if `machine.devices` asks for several; True when done.

    False: this process trains by itself, alone or as one of those that `torchrun` started. When one of the processes
    fails, the others are ended and `FailedElsewhere` is raised: it has said why.
    """
    if dist.is_torchelastic_launched() or machine.devices * machine.nodes == 1:
        return False
    if machine.nodes > 1:
        raise UserError(
            f"machine.nodes = {machine.nodes}: several machines are started with torchrun, on each of them: torchrun "
            f"--nnodes {machine.nodes} --nproc-per-node {machine.devices} --rdzv-backend c10d --rdzv-endpoint "
            f"<host>:<port> -m {' '.join([module, *arguments])}; see docs/scaling.md"
        )
    _extent(machine, choose_device(machine.device, machine.devices).type)
    logging.disable(logging.CRITICAL)  # the launcher's own account of a failure
    with tempfile.TemporaryDirectory(prefix="retrace-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=machine.devices,
            run_id=f"{STARTED_HERE}{uuid.uuid4().hex}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            shutdown_timeout=GRACE,
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except ChildFailedError as error:
            raise _account(error, machine.devices) from None
        except SignalException as error:
            if error.sigval.name == "SIGINT":
                raise KeyboardInterrupt from None
            raise SystemExit(128 + error.sigval) from None
    return True


def _account(error: ChildFailedError, devices: int) -> UserError:
    """A process that was killed could not say so itself.

    The launcher kills what has not ended `GRACE` seconds after another's failure, and NCCL aborts what waits for a
    process that is gone: neither is the cause.
    """
    failures = sorted(error.failures.items())
    first = min(failure.timestamp for _, failure in failures)  # whole seconds
    killed = [(rank, failure) for rank, failure in failures if failure.exitcode < 0 and failure.timestamp <= first + 1]
    names = {rank: failure.signal_name() for rank, failure in killed}
    said = any(failure.exitcode > 0 for _, failure in failures)
    causes = [rank for rank, name in names.items() if name not in ("SIGTERM", "SIGABRT")]
    if not causes and not said:
        causes = [rank for rank, name in names.items() if name == "SIGABRT"]
    if not causes:
        return FailedElsewhere("a process failed and has said why")
    return UserError(
        f"process {causes[0] + 1} of {devices} was ended by {names[causes[0]]}"
        + (" (out of memory?)" if names[causes[0]] == "SIGKILL" else "")
        + "; run the same command again to go on from the last complete epoch"
    )


def _extent(machine: Machine, device: str) -> tuple[int, int]:
    """(processes on this machine, machines), as `torchrun` started them or as the parameters say."""
    asked = devices, nodes = machine.devices, machine.nodes
    if dist.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes, rest = divmod(int(os.environ["WORLD_SIZE"]), devices)
        if rest:
            raise UserError("torchrun: every machine has to run the same number of processes (--nproc-per-node)")
        if asked not in ((1, 1), (devices, nodes)):
            raise UserError(
                f"params.yaml: machine.devices = {asked[0]} and machine.nodes = {asked[1]}, but torchrun started "
                f"{devices} processes on {nodes} machine(s); make them agree, or leave both at 1"
            )
    present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device)
    if present is not None and devices > present:
        raise UserError(f"{devices} processes on this machine, but it has {present} {device} device(s)")
    return devices, nodes
