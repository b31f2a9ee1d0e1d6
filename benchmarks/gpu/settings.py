"""params.yaml of a check: a study's full-size settings, two short epochs, drawn images, nothing downloaded."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

STUDIES = ("lanes", "offroad", "slopes", "bdd100k", "plates")
NEEDS = Path("studies/gpu.json")  # what they need of a GPU, where `retrace doctor` finds it
TINY_SIDES = {"height": 96, "width": 128}
SIDES = {
    "lanes": (720, 1280),
    "offroad": (544, 960),
    "slopes": (640, 640),
    "bdd100k": (720, 1280),
    "plates": (640, 640),
}


def settings(study: str, device: str, steps: int) -> dict[str, Any]:
    """The parameters.

    Args:
        study: one of `STUDIES`.
        device: `cuda`: the study's own network, input size, batch and precision; `cpu`: those of the demo, tiny.
        steps: batches per epoch of the phase with the largest batch.
    """
    from retrace.cli.use import render

    read = YAML(typ="safe", pure=True)  # YAML 1.2, as the stages read it: `on` is a word
    demo = read.load(render(study, demo=True))
    values = demo if device == "cpu" else read.load(render(study, demo=False))
    batch = 1
    for phase in values["phases"].values():
        if phase.get("engine", "fabric") == "fabric":
            shorten(phase, device)
            batch = max(batch, phase.get("batch_size", 1))
        else:
            shorten_yolo(phase["hyperparameters"], device)
            batch = max(batch, phase["hyperparameters"].get("batch", 1))
        if phase["init"] == "pretrain" and values["pretrain"]["method"] != "mae":
            phase["init"] = "none"
    if values["pretrain"]["method"] == "mae":
        mae = values["pretrain"]["mae"]
        mae |= {"epochs": 2} | ({"input_size": [64, 96], "batch_size": 4} if device == "cpu" else {})
        mae["schedule"] |= {"warmup_epochs": 1}
    else:
        values["pretrain"] = {"method": "none"}
    values["data"] = data(study, demo, device, batch * steps)
    values.pop("ablation", None)
    values["rebalance"] = {"min_units": 1}  # the scores say nothing here
    values["evaluate"] |= {"bootstrap": 100, "samples": 0}
    values["runtime"] = {"threads": 1 if device == "cpu" else 4}
    values["machine"] = {"device": device, "workers": 0 if device == "cpu" else 4}
    return values


def shorten(phase: dict[str, Any], device: str) -> None:
    """Two epochs; on a CPU also small images and batches."""
    phase |= {"epochs": 2}
    phase.get("model", {}).pop("trainable_layers", None)  # without starting weights every block trains
    if "schedule" in phase:
        phase["schedule"]["warmup_epochs"] = 1
    if device == "cpu":
        phase |= {"input_size": [64, 96], "batch_size": 4}
        if phase.get("augment", {}).get("crop"):
            phase["augment"]["crop"] = 32
        if phase.get("resize_range"):
            phase["resize_range"] = [64, 96]


def shorten_yolo(hyperparameters: dict[str, Any], device: str) -> None:
    """The same for Ultralytics' hyperparameters."""
    hyperparameters |= {"epochs": 2, "warmup_epochs": 1}
    if device == "cpu":
        hyperparameters |= {"imgsz": 64, "batch": 4}


def data(study: str, demo: dict[str, Any], device: str, train: int) -> dict[str, Any]:
    """The data block: the demo's generator at the size of the study's own images."""
    height, width = SIDES[study]
    sides = TINY_SIDES if device == "cpu" else {"height": height, "width": width}
    drawn = demo["data"]["synthetic"] | sides | {"train": train, "val": 8, "test": 8}
    if "unlabeled" in drawn:
        drawn["unlabeled"] = max(train, 24)  # enough for two folders and a clip
    return {**demo["data"], "synthetic": drawn}


def ordered(phases: dict[str, dict[str, Any]]) -> list[str]:
    """The names of phases, each after the one it starts from."""
    done: list[str] = []
    while len(done) < len(phases):
        for name, phase in phases.items():
            waits = phase["init"] in phases and phase["init"] not in done
            if name not in done and not waits:
                done.append(name)
    return done


def batch_keys(block: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """(the mapping that holds them, key of the batch size, key of the accumulation) of a phase or of `pretrain.mae`.

    Ultralytics accumulates by itself up to `nbs` images, so there is nothing to set for it.
    """
    if "hyperparameters" in block:
        return block["hyperparameters"], "batch", ""
    return block, "batch_size", "accumulate"
