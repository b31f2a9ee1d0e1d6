"""Self-supervised pre-training: a masked autoencoder on the kit's own loop, on one or several devices."""

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from retrace.allocator import advice_when_out_of_memory, smaller_batch
from retrace.config.pretrain import Mae
from retrace.config.training import TrainingParams
from retrace.data.loading import Room, training_loader
from retrace.data.manifest import Manifest, read_manifest
from retrace.data.splits import read_list
from retrace.data.transforms import normalize
from retrace.documents.start import StartFile
from retrace.errors import UserError
from retrace.files import sha256_of, whole_folder
from retrace.models.initial import start_folder, write_none, write_start
from retrace.models.mae import FCMAE, ViTMAE, build_mae, reconstruction_loss
from retrace.models.mae_images import MaskedImages, collate, write_pictures
from retrace.models.predict import describe_device
from retrace.models.weights import write_tensors
from retrace.resources import cache_bytes, loader_workers
from retrace.seeds import derive, seed_everything
from retrace.training.checkpoints import Scratch, fingerprint
from retrace.training.launch import kind, launch
from retrace.training.loop import Plan, Result, Task, fit
from retrace.training.monitor import Monitor
from retrace.training.optimizers import Schedule, build_optimizer
from retrace.training.processes import require_equal, together
from retrace.training.record import trace_of, write_hashes
from retrace.training.results import write_history

NAME = "pretrain"
ENCODER = "encoder.safetensors"
PICTURES = 4
LISTS = ("unlabeled", "train")  # never val or test: what is scored must not have been seen


def masked_autoencoder(params: TrainingParams, note: dict[str, Any]) -> None:
    """Train the encoder to paint hidden patches of the unlabeled and the training images; no label is read."""
    mae = params.pretrain.mae
    assert mae is not None  # the schema sees to it
    fabric = launch(params.machine, mae.precision)
    with together(fabric), advice_when_out_of_memory(smaller_batch("pretrain.mae", mae.batch_size)):
        _train(params, mae, note, fabric)


def _train(params: TrainingParams, mae: Mae, note: dict[str, Any], fabric: Fabric) -> None:
    manifest, ids, files = _images(params)
    note |= describe_device(fabric.device)._asdict() | {"images": len(ids), "processes": fabric.world_size}

    seed_everything(derive(params.seed, "mae weights"))
    model = build_mae(mae)
    room, device = Room(cache_bytes(params.machine)), fabric.device.type
    images = MaskedImages(manifest, ids, mae, model.patch, params.seed, room)
    workers = loader_workers(params.machine, device)
    loader = training_loader(
        images, mae.batch_size, params.seed, workers, collate, fabric.global_rank, fabric.world_size, device
    )
    optimizer = build_optimizer(mae.optimizer, model, precision=mae.precision, device=device)
    plan = Plan(params.seed, mae.epochs, clip_norm=mae.optimizer.clip_norm, save_period=mae.save_period)
    identity = params.model_dump(mode="json", include={"study", "task", "seed", "runtime"})
    mark = fingerprint(
        "pretrain", {**identity, "mae": mae.model_dump(mode="json")}, files, kind(fabric, params.machine)
    )
    require_equal(fabric, mark)
    scratch = Scratch(params.study, NAME, mark, keeps=params.machine.keep_states)
    trace = trace_of(params.study, NAME, params.machine)
    schedule = Schedule(mae.schedule, mae.epochs, len(loader))
    task = Task(Loss(model.patch), _ids, amount=_hidden)
    with Monitor(params.study, NAME, active=fabric.is_global_zero) as monitor, together(fabric):
        result = fit(fabric, model, optimizer, schedule, loader, task, plan, scratch, monitor, trace)
    if fabric.is_global_zero:
        _write_mae(params, mae, model, images, result, fabric)
        write_none(params.study)
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


def _images(params: TrainingParams) -> tuple[Manifest, list[str], list[Path]]:
    """The pool to train on, and the files that say what it is (the manifest holds every image's sha256)."""
    raw, splits = Path("data", params.study, "raw"), Path("data", params.study, "splits")
    manifest = read_manifest(raw)
    ids = sorted({image_id for name in LISTS for image_id in read_list(splits, name)})
    if not ids:
        raise UserError(
            f"{splits}: no unlabeled and no training image to pre-train on; set data.unlabeled or method: none"
        )
    return manifest, ids, [raw / "manifest.jsonl", *(splits / f"{name}.txt" for name in LISTS)]


def _write_mae(
    params: TrainingParams, mae: Mae, model: FCMAE | ViTMAE, images: MaskedImages, result: Result, fabric: Fabric
) -> None:
    model.load_state_dict(result.state)
    losses = [float(row["train_loss"] or 0.0) for row in result.history]  # never None: a non-finite loss has stopped it
    first, last = losses[0], losses[-1]
    with whole_folder(start_folder(params.study, NAME)) as folder:
        write_tensors(folder / ENCODER, model.encoder.state_dict())
        rows = [{"epoch": row["epoch"], "loss": row["train_loss"], "lr": row["lr"]} for row in result.history]
        write_history(folder / "history.csv", rows)
        write_hashes(folder, result.hashes)
        with fabric.autocast():
            write_pictures(folder / "reconstructions", model, images, PICTURES)
        write_start(
            folder,
            "mae",
            {"all": StartFile(file=ENCODER, sha256=sha256_of(folder / ENCODER))},
            encoder=mae.encoder,
            first_loss=first,
            last_loss=last,
            images=len(images),
            epochs=len(losses),
            processes=fabric.world_size,
        )


def _hidden(batch: tuple[Tensor, Tensor, list[str]]) -> Tensor:
    return batch[1].sum()


def _ids(batch: tuple[Tensor, Tensor, list[str]]) -> list[str]:
    return batch[2]
