"""What a GPU makes of every study: its full-size settings, a few steps on generated data, twice, and what that costs.

    python benchmarks/gpu_check.py                     # all five studies on CUDA; a line and exit 0 where there is none
    python benchmarks/gpu_check.py --study lanes --steps 20 --output lanes.json
    python benchmarks/gpu_check.py --device cpu        # the demos' networks at a tiny size: does the check itself work?

Every phase is trained three times from the same start: twice as the pipeline does, once with every kernel allowed
(cuDNN may choose, nothing has to be deterministic). The two files of weights and histories must have the same sha256.
Time is that of the second epoch's steps, for Ultralytics' loop that of the whole stage, start included; the price of
determinism is the ratio to the third training. Exit code 1 if a phase fails or two trainings differ. Published starting
weights are left out: nothing is downloaded.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("lanes", "offroad", "slopes", "bdd100k", "plates")
TINY_SIDES = {"height": 96, "width": 128}
SEEN = {"lanes": (720, 1280), "offroad": (544, 960), "slopes": (640, 640), "bdd100k": (720, 1280), "plates": (640, 640)}
TIMES = "seconds_per_epoch.json"


def main() -> None:
    """Check the chosen studies and print a table; `--output` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=6, help="batches per epoch, two epochs per training")
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    machine = describe(options.device)
    if machine is None:
        from retrace.nvidia import hindrance

        found = hindrance()
        if found and not found.deliberate:
            raise SystemExit(f"error: nothing was checked: torch cannot use this machine's device: {found.cause}")
        print("skipped: no CUDA device here; nothing was checked (--device cpu tries the check itself)")
        return
    os.chdir(ROOT)
    rows = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for study in options.study:
            rows += check(study, Path(folder) / study, options.device, options.steps)
    show(machine, rows)
    if options.output:
        options.output.write_text(json.dumps({**machine, "phases": rows}, indent=2) + "\n", encoding="utf-8")
    if not all(row["same"] for row in rows):
        raise SystemExit(1)


def describe(device: str) -> dict[str, str] | None:
    """The machine, for the table; None without CUDA."""
    import torch

    if device == "cpu":
        return {"device": "cpu", "torch": torch.__version__}
    if not torch.cuda.is_available():
        return None
    return {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def settings(study: str, device: str, steps: int) -> dict[str, Any]:
    """params.yaml of the check: the study's own, two short epochs, data of the demo's generator, nothing downloaded."""
    from retrace.cli.use import render

    read = YAML(typ="safe", pure=True)  # YAML 1.2, as the stages read it: `on` is a word
    demo = read.load(render(study, demo=True))
    values = demo if device == "cpu" else read.load(render(study, demo=False))
    batch = 1
    for phase in values["phases"].values():
        if phase.get("engine", "fabric") == "fabric":
            shorten(phase, device)
            batch = max(batch, phase.get("batch_size", 1))
    for phase in values["phases"].values():
        if phase["init"] == "pretrain" and values["pretrain"]["method"] != "mae":
            phase["init"] = "none"
    for block in values["phases"].values():
        hyper = block.get("hyperparameters")
        if hyper is not None:
            hyper |= {"epochs": 2, "warmup_epochs": 1} | ({"imgsz": 64, "batch": 4} if device == "cpu" else {})
            batch = max(batch, hyper.get("batch", 1))
    if values["pretrain"]["method"] == "mae":
        mae = values["pretrain"]["mae"]
        mae |= {"epochs": 2} | ({"input_size": [64, 96], "batch_size": 4} if device == "cpu" else {})
        mae["schedule"] |= {"warmup_epochs": 1}
    else:
        values["pretrain"] = {"method": "none"}
    values["data"] = data(study, demo, device, batch * steps)
    values.pop("ablation", None)
    values["rebalance"] = {}
    values["evaluate"] |= {"bootstrap": 100, "samples": 0}
    values["runtime"] = {"threads": 1 if device == "cpu" else 4}
    values["machine"] = {"device": device, "workers": 0 if device == "cpu" else 4}
    return values


def shorten(fabric: dict[str, Any], device: str) -> None:
    """Two epochs; on a CPU also small images and batches."""
    fabric |= {"epochs": 2}
    fabric.get("model", {}).pop("trainable_layers", None)  # without starting weights every block trains
    if "schedule" in fabric:
        fabric["schedule"]["warmup_epochs"] = 1
    if device == "cpu":
        fabric |= {"input_size": [64, 96], "batch_size": 4}
        if fabric.get("augment", {}).get("crop"):
            fabric["augment"]["crop"] = 32
        if fabric.get("resize_range"):
            fabric["resize_range"] = [64, 96]


def data(study: str, demo: dict[str, Any], device: str, train: int) -> dict[str, Any]:
    """The demo's generator at the size of the study's own images."""
    height, width = SEEN[study]
    sides = TINY_SIDES if device == "cpu" else {"height": height, "width": width}
    drawn = demo["data"]["synthetic"] | sides | {"train": train, "val": 8, "test": 8}
    if "unlabeled" in drawn:
        drawn["unlabeled"] = 8
    return {**demo["data"], "synthetic": drawn}


def check(study: str, folder: Path, device: str, steps: int) -> list[dict[str, Any]]:
    """Train every phase of a study three times; one row per phase."""
    folder.mkdir(parents=True)
    values = settings(study, device, steps)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    rows = []
    for stage in ("collect", "rebalance"):
        stop_on_failure(run(folder, f"stages.{stage}", free=False), f"{study}: {stage}")
    trainings = [("stages.pretrain", "pretrain")] if values["pretrain"]["method"] == "mae" else []
    if not trainings:
        stop_on_failure(run(folder, "stages.pretrain", free=False), f"{study}: pretrain")
    for module, name in [*trainings, *(("stages.finetune", phase) for phase in ordered(values["phases"]))]:
        rows.append(compare(study, folder, module, name, values["machine"]["device"]))
        print(f"{study} {name}: {'same bits twice' if rows[-1]['same'] else rows[-1]['error']}", flush=True)
    return rows


def ordered(phases: dict[str, dict[str, Any]]) -> list[str]:
    """Each phase after the one it starts from."""
    done: list[str] = []
    while len(done) < len(phases):
        done += [
            name for name, phase in phases.items() if name not in done and phase["init"] not in set(phases) - set(done)
        ]
    return done


def compare(study: str, folder: Path, module: str, name: str, device: str) -> dict[str, Any]:
    """One phase, three trainings."""
    outs = folder / "models" / study / name
    arguments = [] if name == "pretrain" else [name]
    row: dict[str, Any] = {"study": study, "phase": name, "same": False, "error": None}
    seen = []
    for free in (True, False, False):  # the last one's weights are what the next phase starts from
        shutil.rmtree(outs, ignore_errors=True)
        began = time.monotonic()
        done = run(folder, module, *arguments, free=free)
        if done.returncode:
            return row | {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        key = "free" if free else "deterministic"
        row |= {f"{key}_seconds": round(time.monotonic() - began, 2), f"{key}_epoch": epoch_seconds(folder)}
        seen.append(hashes(outs))
    changed = sorted(file for file in seen[1] if seen[1][file] != seen[2].get(file))
    if changed:
        return row | {"error": f"differ: {', '.join(changed)}"}
    return row | {"same": True}


def run(folder: Path, module: str, *arguments: str, free: bool) -> subprocess.CompletedProcess[str]:
    """A stage in a process of its own, through `inside`."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--inside",
        "free" if free else "fixed",
        module,
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def inside(kind: str, module: str, *arguments: str) -> None:
    """What `run` starts: a stage with its epochs timed; "free": nothing has to be deterministic."""
    import importlib

    import torch

    from retrace import seeds

    if kind == "free":
        torch.use_deterministic_algorithms = lambda *_, **__: None  # type: ignore[assignment]
        seeds.make_deterministic = lambda runtime: torch.set_num_threads(runtime.threads)
        torch.backends.cudnn.benchmark = True
    if module in ("stages.pretrain", "stages.finetune"):
        from retrace.training import loop
        from retrace.training.engines.ultralytics import phase as yolo

        if kind == "free":
            yolo.FIXED["deterministic"] = False
        loop.train_one_epoch = timed(loop.train_one_epoch)
    importlib.import_module(module).main(*arguments)


def timed(train_one_epoch: Any) -> Any:
    """The same, noting how long each epoch took."""
    import torch

    seconds: list[float] = []

    def wrapped(*arguments: Any, **named: Any) -> None:
        began = time.perf_counter()
        train_one_epoch(*arguments, **named)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        Path(TIMES).write_text(json.dumps(seconds), encoding="utf-8")

    return wrapped


def epoch_seconds(folder: Path) -> float | None:
    """Seconds of the second epoch's steps; None for Ultralytics' loop."""
    path = folder / TIMES
    if not path.is_file():
        return None
    seconds = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return round(seconds[-1], 4)


def hashes(outs: Path) -> dict[str, str]:
    """sha256 of every file of a phase."""
    from retrace.files import sha256_of

    return {path.relative_to(outs).as_posix(): sha256_of(path) for path in sorted(outs.rglob("*")) if path.is_file()}


def show(machine: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """A Markdown table."""
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
    print("| study | phase | same bits twice | second epoch, s | without determinism, s | price |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for row in rows:
        same = "yes" if row["same"] else f"NO: {row['error']}"
        print(f"| {row['study']} | {row['phase']} | {same} | {' | '.join(price(row))} |")


def price(row: dict[str, Any]) -> tuple[str, str, str]:
    """(seconds with, seconds without determinism, their ratio) of the second epoch, else of the whole stage."""
    for kind, said in (("epoch", ""), ("seconds", " (whole stage)")):
        fixed, free = row.get(f"deterministic_{kind}"), row.get(f"free_{kind}")
        if fixed and free:
            return f"{fixed}{said}", f"{free}{said}", f"{fixed / free:.2f}x"
    return "-", "-", "-"


def stop_on_failure(done: subprocess.CompletedProcess[str], what: str) -> None:
    """The check cannot go on without data."""
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        main()
