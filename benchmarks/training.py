"""Training images/s of `finetune` beside its limit and beside the usual loop: `python -m benchmarks.training`.

Same generated images, model, loss, batch, precision and threads on every side, each in a process of its own, one
epoch a turn, sides alternating:

- limit: the bare model on tensors that are already in memory, channels last, fused optimizer;
- retrace: `train_one_epoch` on the loader of the phase, as `finetune` calls it;
- usual loop: torchvision-references style (`benchmarks.peers`): decode and transform in a DataLoader with two workers,
  contiguous tensors, `loss.item()` every step;
- retrace, bfloat16: the same as retrace with `precision: bf16-mixed`; native numerics only.

`RETRACE_NUMERICS=native` before the command lets every side use the processor's fastest kernels; without it all sides
compute what `runtime.numerics: portable` allows.

For YOLO the sides are two commands: `python -m stages.finetune` and Ultralytics' own `yolo train`.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import RESULTS, alternate, arguments, own_process, rates, save
from benchmarks.peers import references_detection, references_segmentation, yolo_command
from benchmarks.project import parameters, project, run
from retrace import numerics
from retrace.allocator import keep_freed_memory
from retrace.config.load import parse
from retrace.config.phases import FabricPhase, SegmentationPhase
from retrace.config.schema import Params
from retrace.data.manifest import read_manifest
from retrace.data.splits import read_list
from retrace.files import read_json
from retrace.models.build import build
from retrace.seeds import make_deterministic, seed_everything
from retrace.training.detection import detection
from retrace.training.epoch_metrics import Ledger
from retrace.training.job import Job
from retrace.training.launch import launch
from retrace.training.loop import Plan, train_one_epoch
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer
from retrace.training.segmentation import segmentation

SIZE, BATCH, IMAGES = (192, 256), 8, 48
STUDIES = {  # study and phase whose training is timed
    "DeepLabV3-MobileNetV3": ("offroad", "baseline"),
    "U-Net/ConvNeXt-V2-atto": ("lanes", "baseline"),
    "Faster R-CNN-MobileNetV3": ("plates", "mobilenet"),
}
SIDES = {"limit": "32-true", "retrace": "32-true", "usual loop": "32-true"}
if not numerics.is_portable():
    SIDES["retrace, bfloat16"] = "bf16-mixed"
NUMERICS = "portable" if numerics.is_portable() else "native"
YOLO = "YOLO11n (whole command)"
Epoch = Callable[[], None]


def settings(study: str, phase: str, images: int, size: tuple[int, int], threads: int) -> dict[str, Any]:
    """Parameters of a study: its demo model on images of `size` (height, width), trained without augmentation."""
    fabric: dict[str, Any] = {"input_size": list(size), "batch_size": BATCH, "epochs": 1, "precision": "32-true"}
    if study == "plates":
        fabric |= {
            "resize_range": None,
            "augment": {"flip": 0.0, "color": 0.0},
            "model": {"min_size": min(size), "max_size": max(size)},
        }
    else:
        fabric |= {"augment": {"flip": 0.0, "crop": 0, "scale": [1.0, 1.0], "color": 0.0}}
    if study == "offroad":  # the study's network; its demo has another decoder
        fabric |= {"model": {"architecture": "deeplabv3", "encoder": "mobilenet_v3_large", "decoder_channels": None}}
    drawn = {"height": size[0], "width": size[1], "train": images, "val": 4, "test": 4}
    return parameters(
        study,
        {
            "data": {"synthetic": drawn | ({"unlabeled": 8} if study == "lanes" else {})},
            "rebalance": {"min_val_instances": 0, "min_test_instances": 0},
            "phase_defaults": {"fabric": fabric},
            "phases": {"aggressive": {"augment": {"crop": 0}}} if study == "offroad" else {},
            "runtime": {"threads": threads, "numerics": NUMERICS},
            "machine": {"device": "cpu", "workers": 0},
        },
    )


def ours(params: Params, phase: FabricPhase) -> tuple[Epoch, Job]:
    """One epoch of `finetune`'s loop, and its job."""
    raw, splits = Path("data", params.study, "raw"), Path("data", params.study, "splits")
    manifest = read_manifest(raw)
    lists = {name: read_list(splits, name) for name in ("train", "val")}
    fabric = launch(params.machine, phase.precision)
    if isinstance(phase, SegmentationPhase):
        job = segmentation(params, phase, manifest, lists, fabric)
    else:
        job = detection(params, phase, manifest, lists, fabric)
    seed_everything(params.seed)
    model = build(phase.model, params.classes).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(phase.optimizer, model, precision=phase.precision)
    schedule = Schedule(phase.schedule, phase.epochs, len(job.loader))
    wrapped, stepper = fabric.setup(model, optimizer)
    batches: Any = fabric.setup_dataloaders(job.loader, use_distributed_sampler=False)
    plan = Plan(params.seed, phase.epochs)

    def epoch() -> None:
        job.loader.batch_sampler.start_epoch(1)  # type: ignore[union-attr]
        with Monitor(params.study, "benchmark", active=False) as monitor:
            ledger = Ledger(monitor, 1, 0, fabric.device, False)
            train_one_epoch(fabric, wrapped, stepper, schedule, batches, job.task, plan, ledger)

    return epoch, job


def limit(params: Params, phase: FabricPhase, job: Job) -> Epoch:
    """One epoch of forward, loss, backward and step on batches that lie in memory, ready for the network."""
    job.loader.batch_sampler.start_epoch(1)  # type: ignore[union-attr]
    batches = [batch for batch in job.loader]
    seed_everything(params.seed)  # as `ours`: a detector's proposals, and with them its work, depend on its weights
    model = build(phase.model, params.classes).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(phase.optimizer, model)

    def epoch() -> None:
        for batch in batches:
            loss = job.task.compute_loss(model, batch)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def build_side(kind: str, values: dict[str, Any], chosen: str) -> Epoch:
    """One side, in the process that is to run it; the project is the current folder."""
    params = parse(values)
    phase = params.phases[chosen]
    assert isinstance(phase, FabricPhase)
    make_deterministic(params.runtime)
    if kind == "usual loop":
        return (references_detection if params.task == "detection" else references_segmentation)(params, phase)
    keep_freed_memory()
    if kind == "limit":
        return limit(params, phase, ours(params, phase)[1])
    return ours(params, phase.model_copy(update={"precision": SIDES[kind]}))[0]


def compare(name: str, options: Any) -> dict[str, Any]:
    """Images/s of every side for one model."""
    study, chosen = STUDIES[name]
    images, size = (8, (112, 128)) if options.tiny else (IMAGES, SIZE)
    values = settings(study, chosen, images, size, options.threads)
    with project(values, "collect", "rebalance"), contextlib.ExitStack() as processes:
        sides = {kind: processes.enter_context(own_process(build_side, kind, values, chosen)) for kind in SIDES}
        print(f"{name}: {images} images an epoch")
        return {"model": name, "images_per_second": rates(alternate(sides, options.repetitions), images)}


def compare_yolo(options: Any) -> dict[str, Any]:
    """Seconds of two whole commands: both build the same YOLO11n, train and validate it on the same files."""
    images, epochs = (8, 1) if options.tiny else (IMAGES, 4)
    values = parameters(
        "slopes",
        {
            "data": {"synthetic": {"height": 192, "width": 192, "train": images, "val": 6, "test": 4}},
            "rebalance": {"min_val_instances": 1},
            "phases": {
                "baseline": {"hyperparameters": {"epochs": epochs, "imgsz": 192, "batch": BATCH, "patience": 50}}
            },
            "runtime": {"threads": options.threads, "numerics": NUMERICS},
            "machine": {"device": "cpu", "workers": 0},
        },
    )
    with project(values, "collect", "rebalance", "pretrain") as folder:

        def retrace() -> None:
            shutil.rmtree(folder / "models" / "slopes" / "baseline", ignore_errors=True)
            run(folder, sys.executable, "-m", "stages.finetune", "baseline")

        peer = yolo_command(folder, parse(values), "baseline")
        seconds = alternate({"retrace": retrace, "usual loop": peer}, options.repetitions, warm_up=False)
        return {"model": YOLO, "images_per_second": rates(seconds, images * epochs)}


def main() -> None:
    """Time every model and write benchmarks/results/training.json."""
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=[*STUDIES, "YOLO11n"], help="one model; the other rows stay")
    options = parser.parse_args()
    path = RESULTS / "training.json"
    before = read_json(path)["rows"] if path.is_file() and options.only else []
    names = [name for name in STUDIES if options.only in (None, name)]
    rows = [compare(name, options) for name in names]
    if options.only in (None, "YOLO11n"):
        rows.append(compare_yolo(options))
    for row in rows:
        medians = {side: rate["median"] for side, rate in row["images_per_second"].items()}
        row["to_usual"] = {side: rate / medians["usual loop"] for side, rate in medians.items()}
        if "limit" in medians:
            row["to_limit"] = medians["retrace"] / medians["limit"]
    how = {
        "threads": options.threads,
        "numerics": NUMERICS,
        "batch": BATCH,
        "size": SIZE,
        "images": IMAGES,
        "repetitions": options.repetitions,
    }
    order = [*STUDIES, YOLO]
    merged = {row["model"]: row for row in [*before, *rows]}
    save("training", options.tiny, [merged[name] for name in order if name in merged], **how)


if __name__ == "__main__":
    main()
