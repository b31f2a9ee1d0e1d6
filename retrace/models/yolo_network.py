"""YOLO networks in and out: built from their yaml, started from checked files, written as a `best.pt` without dates.

Import this only where a YOLO is trained; it loads Ultralytics.
"""

import copy
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrace.compat.ultralytics import DetectionModel, package, torch_safe_load
from retrace.config.yolo import YOLO_NAMES
from retrace.documents.start import START, Start
from retrace.errors import UserError
from retrace.files import read_json
from retrace.models.weights import CONFIG, start_file
from retrace.programs import how_to_get

BEST = "best.pt"


def build_yolo(model: str, classes: Sequence[str], where: str = "model") -> nn.Module:
    """A detector with random weights from PyTorch's global generator, float32, on the CPU.

    model: one of `YOLO_NAMES`, or a local .yaml or .pt, of which only the architecture is taken. Raises `UserError`.
    """
    if model in YOLO_NAMES:
        description: Any = f"{model}.yaml"
    else:
        path = Path(model)
        if path.suffix not in (".yaml", ".pt") or not path.is_file():
            raise UserError(
                f"{where} = {model!r}: allowed: {', '.join(YOLO_NAMES)}, or an existing local .yaml or .pt file"
            )
        description = copy.deepcopy(read_yolo(path).yaml) if path.suffix == ".pt" else str(path)
    try:
        network: Any = DetectionModel(description, ch=3, nc=len(classes), verbose=False)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise UserError(f"{where} = {model!r}: does not describe a YOLO detector ({error})") from None
    network.yaml["yaml_file"] = Path(str(network.yaml.get("yaml_file", model))).name  # else an absolute path
    network.names = dict(enumerate(classes))
    network.task = "detect"
    return network


def read_yolo(path: Path) -> Any:
    """The network inside an Ultralytics .pt file, float32; no classes but Ultralytics' and PyTorch's are unpickled."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}")
    try:
        checkpoint, _ = torch_safe_load(str(path), safe_only=True)
        network = checkpoint.get("ema") or checkpoint["model"]
        if not isinstance(network, DetectionModel):
            raise TypeError(f"holds a {type(network).__name__}")
    except Exception as error:  # a damaged or hostile file can fail the readers in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{path}: cannot be read as an Ultralytics detector ({reason})") from None
    return network.float()


def start_yolo(network: Any, folder: Path, phase: str) -> list[str]:
    """Give `network` the starting weights of `phase` from `folder` = models/<study>/<init>; returns lines for the user.

    Only the classification branch of the head, whose width follows the number of classes, may differ in a file that
    was made for other classes. Raises `UserError` naming the tensors that do not fit.
    """
    if (folder / CONFIG).exists():
        classes = read_json(folder / CONFIG)["classes"]
        if len(classes) != len(network.names):
            raise UserError(
                f"{folder / BEST}: was trained for {len(classes)} classes ({', '.join(classes)}), phase {phase} has "
                f"{len(network.names)}; run `dvc repro`"
            )
        _copy(network, read_yolo(folder / BEST).state_dict(), folder / BEST, ())
        return [f"{phase}: starts from {folder}"]
    if Start.read(folder / START).method == "none":
        return []
    path = start_file(folder, phase)
    last = len(network.model) - 1
    branches = (f"model.{last}.cv3.", f"model.{last}.one2one_cv3.")
    left_out = _copy(network, read_yolo(path).state_dict(), path, branches)
    return [f"{phase}: starts from {path}", *left_out]


def _copy(network: nn.Module, given: dict[str, Tensor], path: Path, may_differ: tuple[str, ...]) -> list[str]:
    own = network.state_dict()
    faults = [name for name in own if name not in given or given[name].shape != own[name].shape]
    faults += [name for name in given if name not in own]
    wrong = [name for name in faults if not name.startswith(may_differ or ("\0",))]
    if wrong:
        shown = ", ".join(wrong[:4]) + (f", and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise UserError(f"{path}: does not fit this network: {shown}; give a file made with the same `model`")
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in faults:
                tensor.copy_(given[name])
    return [f"{path}: left out {len(faults)} tensors of the class branch (made for other classes)"] if faults else []


def dump_yolo(
    model: str, classes: Sequence[str], state: dict[str, Tensor], options: dict[str, Any], results: dict[str, Any]
) -> bytes:
    """A checkpoint that plain `YOLO("best.pt")` loads, in float16 as Ultralytics ships them.

    The same weights, options and results give the same bytes: the network is built anew, so that nothing of the run
    (dates, paths, Git, device) and no accident of object identity gets in.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_yolo(model, classes)
    network.load_state_dict(state)
    network = network.half().eval().requires_grad_(False)
    plain = json.loads(json.dumps({"options": options, "results": results}))
    network.args = plain["options"]
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": network,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": plain["options"],
        "train_results": plain["results"],
        "version": package.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()
