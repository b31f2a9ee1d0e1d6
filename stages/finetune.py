"""One training of a phase, from its starting weights to its best epoch: `python -m stages.finetune <training>`.

<training> is a phase, or `<phase>-<seed>` for one of its repeats. Writes models/<study>/<training>/.
Interrupted, it goes on from the last complete epoch when it is run again unchanged.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from retrace.allocator import advice_when_out_of_memory, keep_freed_memory, smaller_batch
from retrace.config.phases import DetectionPhase, Phase, SegmentationPhase
from retrace.config.training import TrainingParams, load_training
from retrace.config.trainings import phase_of
from retrace.config.yolo import UltralyticsPhase
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.splits import read_list
from retrace.errors import UserError, stage
from retrace.files import whole_folder
from retrace.models.build import build
from retrace.models.predict import describe_device
from retrace.models.segmentation import encoder_parameters, freeze_encoder
from retrace.models.weights import load_start, save_model
from retrace.progress import on_terminal
from retrace.provenance.run_log import journal
from retrace.seeds import derive, make_deterministic, seed_everything
from retrace.training.checkpoints import Scratch, fingerprint
from retrace.training.detection import detection
from retrace.training.engines.ultralytics import phase as yolo
from retrace.training.job import Job
from retrace.training.launch import kind, launch, spread
from retrace.training.loop import Plan, Result, fit
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer
from retrace.training.processes import require_equal, together, together_from_the_start
from retrace.training.record import trace_of
from retrace.training.results import write_results
from retrace.training.segmentation import segmentation

TorchPhase = SegmentationPhase | DetectionPhase


def fabric_engine(params: TrainingParams, name: str, phase: TorchPhase, note: dict[str, Any]) -> None:
    """Train a torch model on the kit's own loop, on one or several devices."""
    fabric = launch(params.machine, phase.precision)
    remedy = smaller_batch(f"phases.{name}", phase.batch_size, phase.accumulate)
    with together(fabric), advice_when_out_of_memory(remedy):
        _train(params, name, phase, note, fabric)


def _train(params: TrainingParams, name: str, phase: TorchPhase, note: dict[str, Any], fabric: Fabric) -> None:
    note |= describe_device(fabric.device)._asdict() | {"processes": fabric.world_size}
    raw, splits = Path("data", params.study, "raw"), Path("data", params.study, "splits")
    manifest, lists = read_manifest(raw), _lists(splits)
    start = Path("models", params.study, phase.init)

    if isinstance(phase, SegmentationPhase):
        job = segmentation(params, phase, manifest, lists, fabric)
    else:
        job = detection(params, phase, manifest, lists, fabric)
    model, optimizer = build_network(params, phase, start, name, note, fabric)
    schedule = Schedule(phase.schedule, phase.epochs, len(job.loader), phase.accumulate)
    plan = Plan(
        params.seed,
        phase.epochs,
        phase.accumulate,
        phase.optimizer.clip_norm,
        phase.patience,
        phase.save_period,
        phase.ema,
    )
    files = _dependencies(manifest, splits, start)
    mark = fingerprint("finetune", _identity(params, name, phase), files, kind(fabric, params.machine))
    require_equal(fabric, mark)
    scratch = Scratch(params.study, name, mark, keeps=params.machine.keep_states)
    with Monitor(params.study, name, active=fabric.is_global_zero) as monitor, together(fabric):
        trace = trace_of(params.study, name, params.machine)
        result = fit(fabric, model, optimizer, schedule, job.loader, job.task, plan, scratch, monitor, trace)
    if fabric.is_global_zero:
        _write(params, name, phase, model, job, result, fabric.world_size)
        scratch.remove()
    fabric.barrier()


def ultralytics_engine(params: TrainingParams, name: str, phase: UltralyticsPhase, note: dict[str, Any]) -> None:
    """Train a YOLO detector on Ultralytics' loop, on one or several devices."""
    fabric = launch(params.machine, "32-true")  # mixed precision is `hyperparameters.amp`
    with together(fabric):
        note |= describe_device(fabric.device)._asdict() | {"processes": fabric.world_size}
        raw, splits = Path("data", params.study, "raw"), Path("data", params.study, "splits")
        manifest, lists = read_manifest(raw), _lists(splits)
        start = Path("models", params.study, phase.init)
        files = _dependencies(manifest, splits, start, yolo.local_file(phase, phase_of(name)))
        mark = fingerprint("finetune", _identity(params, name, phase), files, kind(fabric, params.machine))
        require_equal(fabric, mark)
        scratch = Scratch(params.study, name, mark, keeps=params.machine.keep_states)
        with Monitor(params.study, name, active=fabric.is_global_zero) as monitor, together(fabric):
            result, counts = yolo.train(params, name, manifest, lists, fabric, scratch, monitor, note)
        if fabric.is_global_zero:
            with whole_folder(Path("models", params.study, name)) as folder:
                yolo.write_yolo(folder, params, name, result, counts, fabric.world_size)
            scratch.remove()
        fabric.barrier()


def _lists(splits: Path) -> dict[str, list[str]]:
    lists = {name: read_list(splits, name) for name in ("train", "val")}
    for name, ids in lists.items():
        if not ids:
            raise UserError(f"{splits / name}.txt: empty; a phase needs {name} images: see data.source and rebalance")
    return lists


def build_network(
    params: TrainingParams, phase: TorchPhase, start: Path, name: str, note: dict[str, Any], fabric: Fabric
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network with its starting weights, and its optimizer. Phases that start from nothing start alike."""
    seed_everything(derive(params.seed, "weights"))
    model = build(phase.model, params.classes)
    note["start"] = load_start(model, phase.model, start, phase_of(name))
    if on_terminal() and fabric.is_global_zero:
        print(*note["start"], sep="\n", file=sys.stderr)
    if phase.freeze == "encoder":
        freeze_encoder(model)
    if phase.sync_batchnorm and fabric.world_size > 1:
        if fabric.device.type != "cuda":
            of = phase_of(name)
            raise UserError(f"phases.{of}.sync_batchnorm: PyTorch has it for CUDA devices only; set it to false here")
        # not torch's own conversion, which drops the activation inside timm's BatchNormAct2d
        from timm.layers import convert_sync_batchnorm

        model = convert_sync_batchnorm(model)
    model = model.to(memory_format=torch.channels_last)
    encoder = encoder_parameters(model) if phase.optimizer.encoder_lr is not None else ()
    return model, build_optimizer(phase.optimizer, model, encoder, phase.precision, fabric.device.type)


def _dependencies(manifest: Manifest, splits: Path, start: Path, more: Iterable[Path] = ()) -> list[Path]:
    files = [manifest.folder / "manifest.jsonl", splits / "train.txt", splits / "val.txt", *more]
    return files + sorted(path for path in start.rglob("*") if path.is_file())


def _identity(params: TrainingParams, name: str, phase: Phase) -> dict[str, Any]:
    """The parameters that decide the outcome: those that dvc.yaml lists for this stage."""
    block = params.model_dump(mode="json", include={"study", "task", "classes", "seed", "runtime"})
    focus = list(params.report.focus_classes)
    return {**block, "focus_classes": focus, "phase": name, "block": phase.model_dump(mode="json")}


def _write(
    params: TrainingParams, name: str, phase: TorchPhase, model: nn.Module, job: Job, result: Result, processes: int
) -> None:
    model.load_state_dict(result.state)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    with whole_folder(Path("models", params.study, name)) as folder:
        save_model(folder, model, phase.model, params.task, params.classes, phase.input_size, job.mean, job.std)
        write_results(
            folder,
            result,
            init=phase.init,
            monitor=phase.monitor,
            epochs_planned=phase.epochs,
            parameters=sum(size for size, _ in sizes),
            trainable_parameters=sum(size for size, trains in sizes if trains),
            processes=processes,
        )


ENGINES: dict[str, Callable[..., None]] = {"fabric": fabric_engine, "ultralytics": ultralytics_engine}


@stage
def main(name: str) -> None:
    """Train the phase `name` of params.yaml, or one of its repeats."""
    with together_from_the_start():
        _main(name)


def _main(name: str) -> None:
    params = load_training()
    if name not in params.trainings:
        raise UserError(f"params.yaml: no phase or repeat {name!r}; allowed: {', '.join(params.trainings)}")
    trained = params.trainings[name]
    phase = params.phases[trained.phase]
    params = params.model_copy(update={"seed": trained.seed})
    if spread(params.machine, "stages.finetune", [name]):
        return
    keep_freed_memory()
    make_deterministic(params.runtime)
    with journal(params.study, "finetune", name) as note:
        ENGINES[phase.engine](params, name, phase, note)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m stages.finetune <training>")
    main(sys.argv[1])
