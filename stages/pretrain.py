"""Starting weights for the phases: self-supervised, from a checked file, or none: `python -m stages.pretrain`.

Writes models/<study>/pretrain/ and models/<study>/none/. Interrupted, `mae` goes on from the last complete epoch.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from stages.dataset.loading import training_loader
from stages.dataset.manifest import Manifest, read_manifest
from stages.dataset.splits import read_list
from stages.dataset.transforms import normalize
from stages.errors import UserError, stage
from stages.files import sha256_of, whole_folder, write_json
from stages.journal import journal
from stages.models.mae import FCMAE, ViTMAE, build_mae, reconstruction_loss
from stages.models.mae_images import MaskedImages, collate, write_pictures
from stages.models.published import fetch
from stages.models.weights import START, write_tensors
from stages.params import Params, load
from stages.params.phases import Mae
from stages.seeds import derive, make_deterministic, seed_everything
from stages.training.checkpoints import Scratch, fingerprint
from stages.training.launch import kind, launch, spread
from stages.training.loop import Plan, Result, Task, fit
from stages.training.monitor import Monitor
from stages.training.optimisation import Schedule, build_optimizer
from stages.training.processes import require_equal, together
from stages.training.results import write_history

NAME = "pretrain"
ENCODER = "encoder.safetensors"
PICTURES = 4
LISTS = ("unlabeled", "train")  # never val or test: what is scored must not have been seen
Note = dict[str, Any]


def masked_autoencoder(params: Params, note: Note) -> None:
    """Train the encoder to paint hidden patches of the unlabeled and the training images; no label is read."""
    mae = params.pretrain.mae
    assert mae is not None  # the schema sees to it
    fabric = launch(params.machine, mae.precision)
    with together(fabric):
        _train(params, mae, note, fabric)


def _train(params: Params, mae: Mae, note: Note, fabric: Fabric) -> None:
    manifest, ids, files = _images(params)
    note["images"] = len(ids)

    seed_everything(derive(params.seed, "mae weights"))
    model = build_mae(mae)
    images = MaskedImages(manifest, ids, mae, model.patch, params.seed)
    share = {"rank": fabric.global_rank, "world": fabric.world_size}
    loader = training_loader(images, mae.batch_size, params.seed, params.machine.workers, collate, **share)
    optimizer = build_optimizer(mae.optimizer, model, precision=mae.precision)
    plan = Plan(params.seed, mae.epochs, clip_norm=mae.optimizer.clip_norm, save_period=mae.save_period)
    identity = params.model_dump(mode="json", include={"study", "task", "seed", "runtime"})
    mark = fingerprint({**identity, "mae": mae.model_dump(mode="json")}, files, kind(fabric))
    require_equal(fabric, mark)
    scratch = Scratch(params.study, NAME, mark)
    schedule = Schedule(mae.schedule, mae.epochs, len(loader))
    task = Task(Loss(model.patch), _ids, amount=_hidden)
    with Monitor(params.study, NAME, active=fabric.is_global_zero) as monitor, together(fabric):
        result = fit(fabric, model, optimizer, schedule, loader, task, plan, scratch, monitor)
    if fabric.is_global_zero:
        _write_mae(params, mae, model, images, result, fabric)
        _write_none(params)
        scratch.remove()
    fabric.barrier()


class Loss:
    """compute_loss of the loop: (model, (images uint8 [B, 3, H, W], masked bool [B, L], ids)) -> the one loss."""

    def __init__(self, patch: int):
        self._patch = patch

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor, list[str]]) -> dict[str, Tensor]:
        images, masked, _ = batch
        images = normalize(images)
        return {"loss": reconstruction_loss(model(images, masked), images, masked, self._patch)}


def published_weights(params: Params, note: Note) -> None:
    """Copy each checkpoint of `pretrain.weights` beside start.json, once its hash is right."""
    chosen = params.pretrain.weights
    assert chosen  # the schema sees to it
    unknown = sorted(set(chosen) - set(params.phases) - {"all"})
    if unknown:
        allowed = ", ".join(["all", *params.phases])
        raise UserError(f"params.yaml: pretrain.weights.{unknown[0]}: no such phase; allowed: {allowed}")
    files = {}
    with whole_folder(_folder(params, NAME)) as folder:
        for key, weights in sorted(chosen.items()):
            source = fetch(weights, key)
            copy = folder / f"{key}{source.suffix.lower()}"
            shutil.copyfile(source, copy)
            files[key] = {"file": copy.name, "sha256": sha256_of(copy)}
        write_json(folder / START, _start("weights", files=files))
    _write_none(params)
    note["files"] = {key: weights.name or weights.path for key, weights in sorted(chosen.items())}


def no_weights(params: Params, note: Note) -> None:
    """Every phase starts from random numbers."""
    with whole_folder(_folder(params, NAME)) as folder:
        write_json(folder / START, _start("none"))
    _write_none(params)


METHODS: dict[str, Callable[[Params, Note], None]] = {
    "mae": masked_autoencoder,
    "weights": published_weights,
    "none": no_weights,
}


def _images(params: Params) -> tuple[Manifest, list[str], list[Path]]:
    """The pool to train on, and the files that say what it is (the manifest holds every image's sha256)."""
    raw, splits = Path("data", params.study, "raw"), Path("data", params.study, "splits")
    manifest = read_manifest(raw)
    ids = sorted({id for name in LISTS for id in read_list(splits, name)})
    if not ids:
        raise UserError(
            f"{splits}: no unlabeled and no training image to pre-train on; set data.unlabeled or method: none"
        )
    return manifest, ids, [raw / "manifest.jsonl", *(splits / f"{name}.txt" for name in LISTS)]


def _write_mae(
    params: Params, mae: Mae, model: FCMAE | ViTMAE, images: MaskedImages, result: Result, fabric: Fabric
) -> None:
    model.load_state_dict(result.state)
    losses = [float(row["train_loss"] or 0.0) for row in result.history]  # never None: a non-finite loss has stopped it
    first, last = losses[0], losses[-1]
    with whole_folder(_folder(params, NAME)) as folder:
        write_tensors(folder / ENCODER, model.encoder.state_dict())
        rows = [{"epoch": row["epoch"], "loss": row["train_loss"], "lr": row["lr"]} for row in result.history]
        write_history(folder / "history.csv", rows)
        with fabric.autocast():
            write_pictures(folder / "reconstructions", model, images, PICTURES)
        start = _start("mae", files={"all": {"file": ENCODER, "sha256": sha256_of(folder / ENCODER)}})
        start |= {"encoder": mae.encoder, "first_loss": first, "last_loss": last, "decreased": last < first}
        write_json(folder / START, start | {"images": len(images), "epochs": len(losses)})


def _start(method: str, files: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
    """start.json. The losses are the means over the first and the last epoch; null where nothing was trained."""
    trained = ("encoder", "first_loss", "last_loss", "decreased", "images", "epochs")
    return {"method": method, **dict.fromkeys(trained), "files": files or {}}


def _write_none(params: Params) -> None:
    with whole_folder(_folder(params, "none")) as folder:
        write_json(folder / START, _start("none"))


def _folder(params: Params, name: str) -> Path:
    return Path("models", params.study, name)


def _hidden(batch: tuple[Tensor, Tensor, list[str]]) -> Tensor:
    return batch[1].sum()


def _ids(batch: tuple[Tensor, Tensor, list[str]]) -> list[str]:
    return batch[2]


@stage
def main() -> None:
    """Write the starting weights of params.yaml's study."""
    params = load()
    method = params.pretrain.method
    if method == "mae" and spread(params.machine, "stages.pretrain", []):
        return
    if method != "mae" and dist.is_torchelastic_launched():
        raise UserError(f"pretrain.method = {method!r} trains nothing; run it without torchrun")
    make_deterministic(params.runtime.threads)
    with journal(params.study, "pretrain") as note:
        note["method"] = method
        METHODS[method](params, note)


if __name__ == "__main__":
    main()
