"""The Ultralytics engine: YOLO detectors with every hyper-parameter given, repeatable and resumable to the bit.

`train` runs one phase, `write_yolo` writes its models/<study>/<phase>/.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from ruamel.yaml import YAML
from torch import Tensor

from retrace.config.training import TrainingParams
from retrace.config.trainings import phase_of
from retrace.config.yolo import UltralyticsPhase
from retrace.data.manifest import Manifest
from retrace.errors import UserError
from retrace.files import LOGS, sha256_of, write_bytes, write_json, write_text
from retrace.models.inference import inference_precision
from retrace.resources import loader_workers
from retrace.seeds import derive, seed_everything
from retrace.training.checkpoints import Scratch
from retrace.training.loop import Result, saved_state
from retrace.training.monitor import Monitor
from retrace.training.record import trace_of
from retrace.training.results import write_results

# what Ultralytics would otherwise choose by itself, by version or by what is installed
FIXED: dict[str, Any] = {
    "task": "detect",
    "mode": "train",
    "pretrained": False,  # weights come from `init`
    "deterministic": True,
    "val": True,
    "split": "val",
    "rect": False,
    "single_cls": False,
    "fraction": 1.0,
    "multi_scale": 0.0,
    "cutmix": 0.0,
    "bgr": 0.0,
    "cls_pw": 0.0,
    "compile": False,
    "augment": False,
    "agnostic_nms": False,
}
QUIET = {"plots": False, "verbose": False, "save_json": False, "profile": False, "resume": False, "exist_ok": True}


def local_file(phase: UltralyticsPhase, name: str) -> list[Path]:
    """The file that `model` of phase `name` names, if any, once its sha256 is right: the outcome depends on it."""
    if phase.model_sha256 is None:
        return []
    path = Path(phase.model)
    if not path.is_file():
        raise UserError(f"phases.{name}.model = {phase.model!r}: no such file; put it there or change the path")
    found = sha256_of(path)
    if found != phase.model_sha256:
        raise UserError(
            f"phases.{name}.model: {path} has sha256 {found}, not {phase.model_sha256}; put that file back, or set "
            f"phases.{name}.model_sha256 to {found} to train this one"
        )
    return [path]


def train(
    params: TrainingParams,
    name: str,
    manifest: Manifest,
    lists: dict[str, list[str]],
    fabric: Fabric,
    scratch: Scratch,
    monitor: Monitor,
    note: dict[str, Any],
) -> tuple[Result, dict[str, int]]:
    """Run the training `name` from its starting weights, or go on from the state in `scratch`; `fabric` is launched.

    Returns the result (`state`: averaged weights of the best epoch) and the counts for train.json: `parameters` and
    `trainable_parameters`. Raises `UserError` for settings that cannot work and losses that are not finite.
    """
    of = phase_of(name)
    phase = params.phases[of]
    assert isinstance(phase, UltralyticsPhase)
    _check(params, manifest, lists)
    # these load Ultralytics
    from retrace.models.yolo_network import build_yolo, start_yolo
    from retrace.training.engines.ultralytics.trainer import Run, Trainer

    seed_everything(derive(params.seed, "weights"))
    network = build_yolo(phase.model, params.classes, f"phases.{of}.model")
    note["start"] = start_yolo(network, Path("models", params.study, phase.init), of)
    kept = LOGS / params.study / name / "checkpoints"

    def keep(epoch: int, state: dict[str, Tensor]) -> None:
        write_bytes(kept / f"epoch{epoch}.pt", _dump(params, phase, state, []))

    state = saved_state(fabric, scratch)
    precision = inference_precision(params.machine, fabric.device.type)
    run = Run(
        phase,
        params.classes,
        params.seed,
        params.runtime,
        fabric,
        manifest,
        lists,
        scratch,
        state,
        monitor,
        trace_of(params.study, name, params.machine),
        keep,
        precision,
    )
    options = {**FIXED, **QUIET, **phase.hyperparameters.model_dump(), "amp": False, "save_period": -1}
    options |= {"model": "yolo11n.yaml", "name": "ultralytics", "device": _device(fabric.device)}
    options |= {"seed": params.seed % 2**31, "workers": loader_workers(params.machine, fabric.device.type)}
    _accept(options, of)
    if state is None or not state["finished"]:  # else it was interrupted between its last epoch and writing the outs
        with _folder(fabric, scratch) as folder:
            trainer = Trainer(run, network, {**options, "project": str(folder)})
            trainer.train()
        state = trainer.saved
    sizes = [parameter.numel() for parameter in network.parameters()]
    counts = {"parameters": sum(sizes), "trainable_parameters": state["trainable"]}
    return Result(**state["result"]), counts


@contextmanager
def _folder(fabric: Fabric, scratch: Scratch) -> Iterator[Path]:
    """Where Ultralytics may write down its settings: only the first process leaves anything in the project."""
    if fabric.is_global_zero:
        yield scratch.folder.absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="retrace-") as folder:
            yield Path(folder)


def write_yolo(
    folder: Path, params: TrainingParams, name: str, result: Result, counts: dict[str, int], processes: int = 1
) -> None:
    """best.pt, model.json, history.csv, hashes.json, train.json, and every setting as training_config.yaml."""
    phase = params.phases[phase_of(name)]
    assert isinstance(phase, UltralyticsPhase)
    hyper = phase.hyperparameters
    write_bytes(folder / "best.pt", _dump(params, phase, result.state, result.history))
    config = {
        "engine": "ultralytics",
        "task": params.task,
        "classes": list(params.classes),
        "model": phase.model,
        "input_size": [hyper.imgsz, hyper.imgsz],
        "iou": hyper.iou,
        "max_det": hyper.max_det,
        "conf": hyper.conf,
    }
    write_json(folder / "model.json", config)
    write_results(
        folder,
        result,
        init=phase.init,
        monitor=phase.monitor,
        epochs_planned=hyper.epochs,
        processes=processes,
        **counts,
    )
    stream = io.StringIO()
    settings = {"model": phase.model, "init": phase.init, "monitor": phase.monitor, "seed": params.seed}
    YAML().dump({**settings, **hyper.model_dump(), **FIXED}, stream)
    write_text(folder / "training_config.yaml", stream.getvalue())


def _dump(params: TrainingParams, phase: UltralyticsPhase, state: dict[str, Tensor], history: list) -> bytes:
    from retrace.models.yolo_network import dump_yolo

    options = {**FIXED, **phase.hyperparameters.model_dump(), "seed": params.seed, "model": phase.model, "data": None}
    columns = dict.fromkeys(key for row in history for key in row)
    return dump_yolo(
        phase.model, params.classes, state, options, {key: [row.get(key) for row in history] for key in columns}
    )


def _check(params: TrainingParams, manifest: Manifest, lists: dict[str, list[str]]) -> None:
    if not any(not box.crowd for image_id in lists["train"] for box in manifest.records[image_id].boxes):
        raise UserError(f"data/{params.study}/splits/train.txt: no image has an object to learn from")


def _accept(options: dict[str, Any], name: str) -> None:
    """Ultralytics knows the ranges of its hyper-parameters."""
    from retrace.compat.ultralytics import get_cfg

    try:
        get_cfg(overrides=options)
    except (TypeError, ValueError) as error:
        raise UserError(f"phases.{name}.hyperparameters: {error}") from None


def _device(device: torch.device) -> str:
    return str(device.index or 0) if device.type == "cuda" else device.type
