"""The price of `runtime.numerics: portable` for every built-in network: `python -m benchmarks.portable`.

One epoch of the phase's own loop (the pre-training's steps, for masked autoencoders) on the same generated images, in
processes of their own, sides alternating: `portable`, held to what every x86-64 processor with AVX2 computes alike, and
`native`, this processor's fastest kernels. YOLO is timed as a whole command.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.harness import alternate, arguments, own_process, rates, save
from benchmarks.pretraining import CASES, steps
from benchmarks.project import parameters, project, run
from benchmarks.training import IMAGES, SIZE, STUDIES, Epoch, build_side, settings
from retrace import numerics
from retrace.config.machine import Runtime
from retrace.config.pretrain import Mae
from retrace.config.steps import AdamW
from retrace.models.mae import build_mae, random_mask
from retrace.seeds import make_deterministic, seed_everything

SIDES: tuple[numerics.Numerics, ...] = ("portable", "native")
YOLO = "YOLO11n (whole command)"


def environment(side: numerics.Numerics) -> dict[str, str]:
    """The variables of a process with these numerics, without those of this one."""
    set_here = {*numerics.PORTABLE, *numerics.BEYOND, numerics.MARK}
    kept = {name: value for name, value in os.environ.items() if name not in set_here}
    return kept | ({numerics.MARK: "native"} if side == "native" else {})


@contextlib.contextmanager
def variables(side: numerics.Numerics) -> Iterator[None]:
    """Processes started within it have these numerics."""
    before, during = dict(os.environ), environment(side)
    os.environ.clear()
    os.environ.update(during)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def mae_side(name: str, side: numerics.Numerics, threads: int, tiny: bool) -> Epoch:
    """Four steps of a masked autoencoder, in the process that is to run them."""
    make_deterministic(Runtime(threads=threads, numerics=side))
    encoder, size, batch, ratio = CASES[name]
    batch, count = (2, 1) if tiny else (batch, 4)
    optimizer = AdamW(lr=1e-4)
    mae = Mae(encoder=encoder, input_size=size, mask_ratio=ratio, decoder_dim=192, epochs=1, batch_size=batch,
              optimizer=optimizer)  # fmt: skip
    seed_everything(0)
    model = build_mae(mae)
    tokens = (size[0] // model.patch) * (size[1] // model.patch)
    images = torch.randn(batch, 3, *size)
    masked = torch.stack([random_mask(tokens, ratio, index) for index in range(batch)])
    return steps(model, model.patch, images, masked, count)


def pretraining(name: str, options: Any) -> dict[str, Any]:
    """Images/s of both sides of a masked autoencoder."""
    images = (2 if options.tiny else CASES[name][2]) * (1 if options.tiny else 4)
    with contextlib.ExitStack() as processes:
        sides = {}
        for side in SIDES:
            with variables(side):
                sides[side] = processes.enter_context(own_process(mae_side, name, side, options.threads, options.tiny))
        return {"model": name, "images_per_second": rates(alternate(sides, options.repetitions), images)}


def training(name: str, options: Any) -> dict[str, Any]:
    """Images/s of both sides of a phase of Lightning Fabric's engine."""
    study, chosen = STUDIES[name]
    images, size = (8, (112, 128)) if options.tiny else (IMAGES, SIZE)
    values = settings(study, chosen, images, size, options.threads)
    with project(values, "collect", "rebalance"), contextlib.ExitStack() as processes:
        sides = {}
        for side in SIDES:
            own = values | {"runtime": {"threads": options.threads, "numerics": side}}
            with variables(side):
                sides[side] = processes.enter_context(own_process(build_side, "retrace", own, chosen))
        return {"model": name, "images_per_second": rates(alternate(sides, options.repetitions), images)}


def yolo(options: Any) -> dict[str, Any]:
    """Images/s of the whole command, starting Python included."""
    images, epochs = (8, 1) if options.tiny else (IMAGES, 4)
    with contextlib.ExitStack() as folders:
        sides = {}
        for side in SIDES:
            hyperparameters = {"epochs": epochs, "imgsz": 192, "batch": 8, "patience": 50}
            changes = {
                "data": {"synthetic": {"height": 192, "width": 192, "train": images, "val": 6, "test": 4}},
                "rebalance": {"min_val_instances": 1},
                "phases": {"baseline": {"hyperparameters": hyperparameters}},
                "runtime": {"threads": options.threads, "numerics": side},
                "machine": {"device": "cpu", "workers": 0},
            }
            with variables(side):
                prepared = project(parameters("slopes", changes), "collect", "rebalance", "pretrain")
                folder = folders.enter_context(prepared)

            def train(side: numerics.Numerics = side, folder: Any = folder) -> None:
                shutil.rmtree(folder / "models" / "slopes" / "baseline", ignore_errors=True)
                with variables(side):
                    run(folder, sys.executable, "-m", "stages.finetune", "baseline")

            sides[side] = train
        seconds = alternate(sides, options.repetitions, warm_up=False)
    return {"model": YOLO, "images_per_second": rates(seconds, images * epochs)}


def main() -> None:
    """Time every model and write benchmarks/results/portable.json."""
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rows = [training(name, options) for name in STUDIES]
    rows += [pretraining(name, options) for name in CASES]
    rows.append(yolo(options))
    for row in rows:
        medians = {side: rate["median"] for side, rate in row["images_per_second"].items()}
        row["price"] = medians["native"] / medians["portable"]
    save("portable", options.tiny, rows, threads=options.threads, size=SIZE, repetitions=options.repetitions)


if __name__ == "__main__":
    main()
