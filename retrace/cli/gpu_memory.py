"""The check of `retrace doctor` that compares the trainings of params.yaml with the memory of the GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retrace import nvidia
from retrace.cli import use
from retrace.cli.findings import OK, WARNING, Finding
from retrace.cli.hardware import parameters
from retrace.config.load import parse
from retrace.config.reading import yaml_mapping
from retrace.config.schema import Params
from retrace.documents.gpu import GpuNeeds, Need, needed_gib
from retrace.resources import GIB

NEEDS = "gpu.json"  # beside the study files
# keys of a training's block that the memory of a step does not depend on
FREE = {
    *("note", "init", "epochs", "batch_size", "accumulate", "schedule", "monitor", "patience", "save_period", "seed"),
    *("optimizer", "decoder_depth", "crop_scale", "mask_ratio", "augment", "loss"),
}
YOLO = ("imgsz", "amp")


@dataclass(frozen=True)
class Wanted:
    """A training of params.yaml.

    block: what its memory depends on. accumulate: None where there is no such key. key: of its batch size.
    """

    name: str
    block: dict[str, Any]
    batch: int
    accumulate: int | None
    key: str


def check_gpu_memory() -> list[Finding]:
    """Silent without a GPU that trains, and for trainings whose settings are not those of a study file."""
    params = parameters()
    if params is None or params.machine.device not in ("auto", "cuda") or not nvidia.sees_cuda():
        return []
    import torch

    count = min(params.machine.devices, torch.cuda.device_count())
    has = min(torch.cuda.get_device_properties(index).total_memory for index in range(count)) / GIB
    findings, largest = [], ("", 0.0)
    for wanted, needs in _known(params):
        takes = _takes(wanted, needs, params.machine.devices)
        largest = max(largest, (wanted.name, takes), key=lambda pair: pair[1])
        if takes > has:
            found = f"{wanted.name} takes about {takes:.1f} GiB (computed), the GPU has {has:.1f} GiB"
            findings.append(Finding("gpu memory", WARNING, found, _remedy(wanted, needs, has)))
    if largest[0] and not findings:
        found = f"the largest training, {largest[0]}, takes about {largest[1]:.1f} of {has:.1f} GiB (computed)"
        findings.append(Finding("gpu memory", OK, found))
    return findings


def _known(params: Params) -> Iterator[tuple[Wanted, list[Need]]]:
    """The trainings that are as in the full-size study file, with their rows of studies/gpu.json."""
    file = use.folder() / NEEDS
    if params.study not in use.names() or not file.is_file():
        return
    needs = GpuNeeds.read(file)
    name = f"studies/{params.study}.yaml"
    study = parse(yaml_mapping(use.render(params.study, demo=False), name), name)
    full = {wanted.name: wanted.block for wanted in _wanted(study)}
    for wanted in _wanted(params):
        rows = needs.of(params.study, wanted.name)
        if rows and full.get(wanted.name) == wanted.block:
            yield wanted, rows


def _wanted(params: Params) -> Iterator[Wanted]:
    mae = params.pretrain.mae
    if params.pretrain.method == "mae" and mae is not None:
        yield Wanted("pretrain", mae.model_dump(exclude=FREE), mae.batch_size, None, "pretrain.mae.batch_size")
    for name, phase in params.phases.items():
        if phase.engine == "fabric":
            block = phase.model_dump(exclude=FREE) | {"crop": getattr(phase.augment, "crop", 0)}
            yield Wanted(name, block, phase.batch_size, phase.accumulate, f"phases.{name}.batch_size")
        else:
            block = {"model": phase.model, **phase.hyperparameters.model_dump(include=set(YOLO))}
            yield Wanted(name, block, phase.hyperparameters.batch, None, f"phases.{name}.hyperparameters.batch")


def _takes(wanted: Wanted, needs: list[Need], devices: int) -> float:
    """GiB of a card: each gets its share of a batch. Between the computed sizes, of the next larger one, or in
    proportion to the largest."""
    batch = -(-wanted.batch // devices)
    larger = [row for row in needs if row.batch_size >= batch]
    if larger:
        return larger[-1].needed_gib
    return needed_gib(needs[0].tensors_mib * batch // needs[0].batch_size)


def _remedy(wanted: Wanted, needs: list[Need], has: float) -> str:
    fitting = next((row for row in needs if row.needed_gib <= has), None)
    if fitting is None:
        return f"lower the input size of {wanted.name}, or take a larger GPU"
    text = f"set {wanted.key}: {fitting.batch_size}"
    if wanted.accumulate is not None:
        accumulate = -(-wanted.batch * wanted.accumulate // fitting.batch_size)
        text += f" and phases.{wanted.name}.accumulate: {accumulate}, which keeps the images per step"
    return text
