"""Ultralytics' detection trainer with the kit's own data, checkpoints, history and monitor in place of its own.

The loop, loss, optimizer, schedule, augmentations and weight average are Ultralytics'. What is replaced is what would
make a run unrepeatable: random numbers follow from (seed, epoch, index), the resumable state is kept in full precision
after every epoch, nothing is recovered or halved silently, and no callback but those below is called.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from retrace.allocator import out_of_memory, ran_out_of_memory
from retrace.compat.ultralytics import OpenTrainer
from retrace.config.machine import InferencePrecision, Runtime
from retrace.config.yolo import UltralyticsPhase
from retrace.data.manifest import Manifest
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import truth_of
from retrace.models.predict import SCORE_FLOOR
from retrace.seeds import derive, make_deterministic, seed_everything
from retrace.training.checkpoints import Scratch
from retrace.training.digests import State
from retrace.training.engines.ultralytics.data import Samples
from retrace.training.engines.ultralytics.share import deal, share_of, sum_gradients
from retrace.training.engines.ultralytics.validator import Validator
from retrace.training.epoch_metrics import Ledger
from retrace.training.loop import Result, Row
from retrace.training.monitor import Monitor
from retrace.training.processes import align_buffers
from retrace.training.record import Recorder, Trace

OWN = {"precision(B)": "precision", "recall(B)": "recall", "mAP50(B)": "mAP50", "mAP50-95(B)": "mAP50-95"}


@dataclass(frozen=True)
class Run:
    """What one training is about and where it leaves its traces."""

    phase: UltralyticsPhase
    classes: Sequence[str]
    seed: int
    runtime: Runtime
    fabric: Fabric  # launched; each of its processes runs a `Trainer` on its share of every batch
    manifest: Manifest
    lists: dict[str, list[str]]  # ids of "train" and "val"
    scratch: Scratch
    state: dict[str, Any] | None  # what an interrupted run had saved
    monitor: Monitor
    trace: Trace
    keep: Callable[[int, dict[str, Tensor]], None]  # called every `save_period` epochs with the averaged weights
    precision: InferencePrecision | None = None  # of validation; None: that of the training


class Trainer(OpenTrainer):
    """`Trainer(run, network, options).train()`, then `result`: the weights are those of the average (EMA)."""

    model: Any
    optimizer: Any
    scheduler: Any
    ema: Any
    validator: Any
    metrics: Any
    fitness: Any
    best_fitness: Any
    loss_items: Any
    share: int  # samples of the batch at hand that this process has
    files: list[str]  # their ids

    def __init__(self, run: Run, network: nn.Module, options: dict[str, Any]):
        self.run = run
        self._hooks: dict[str, Callable[[], None]] = {
            "on_pretrain_routine_end": self._after_setup,
            "on_train_start": self._begin,
            "on_train_epoch_start": self._start_epoch,
            "on_train_batch_start": self._start_batch,
            "on_train_batch_end": self._end_batch,
            "on_train_epoch_end": self._end_epoch,
        }
        super().__init__(overrides=options)
        self.model = network
        self.device = run.fabric.device
        self.result = Result()
        self.pending = 0  # batches whose gradients wait for the next optimizer step
        self._held: dict[str, Tensor] = {}  # their sum, of an interrupted run
        self._norm: Tensor | None = None

    def run_callbacks(self, event: str) -> None:
        """Only the hooks above: none of the trackers, uploads or reports that Ultralytics adds by itself."""
        if hook := self._hooks.get(event):
            hook()

    def get_dataset(self) -> dict[str, Any]:
        """In place of a data.yaml."""
        names = dict(enumerate(self.run.classes))
        return {"train": "train", "val": "val", "names": names, "nc": len(names), "channels": 3}

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Samples:
        """The images of split list `img_path`."""
        trains = mode == "train"
        return Samples(
            self.run.manifest,
            self.run.lists[img_path],
            self.run.seed,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=trains,
            hyp=self.args,
            rect=not trains,
            cache=self.args.cache or None,
            stride=int(self.model.stride.max()),
            pad=0.0,  # Ultralytics pads more to validate than to predict, and so logs what no saved file scores
            data=self.data,
        )

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """This process's part of split list `dataset_path`."""
        if mode == "train" and self.optimizer is not None:
            # a second time: Ultralytics takes an error for lack of memory and would halve the batch
            cause = sys.exc_info()[1]
            if cause is not None and not ran_out_of_memory(cause):
                raise cause  # a library without a kernel for an operation, which no smaller batch gives it
            remedy = (
                f"lower hyperparameters.batch = {self.run.phase.hyperparameters.batch} or imgsz = {self.args.imgsz}"
            )
            raise out_of_memory(cause or RuntimeError("nothing more"), remedy)
        return deal(self.run.fabric, super().get_dataloader(dataset_path, batch_size, rank, mode), mode == "train")

    def get_validator(self) -> Validator:
        """Scores down to the same confidence as `evaluate`: an average precision needs the whole curve."""
        args = copy.copy(self.args)
        args.conf, args.iou, args.max_det = SCORE_FLOOR, self.run.phase.hyperparameters.iou, self.args.max_det
        return Validator(self.run.fabric, self.test_loader, save_dir=self.save_dir, args=args)

    def _after_setup(self) -> None:
        if self.device.type == "cpu":
            make_deterministic(self.run.runtime)  # Ultralytics only warns of operations that are not
        if self.run.phase.hyperparameters.amp and self.device.type == "cuda":
            # not through args.amp, which would download a network to test the GPU with
            self.amp, self.scaler = True, torch.amp.GradScaler("cuda")
        self._steps = self.accumulate  # batches per optimizer step, after warm-up
        self._trainable = sum(part.numel() for part in self.model.parameters() if part.requires_grad)
        if self._several:
            self.model.register_forward_hook(self._weigh)  # after the weight average has made its copy
        if self.run.state is not None:
            self._restore(self.run.state)

    @property
    def _several(self) -> bool:
        return self.run.fabric.world_size > 1

    def _restore(self, state: dict[str, Any]) -> None:
        self.result = Result(**state["result"])
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.best_fitness = state["best_fitness"]
        self.pending, self._held = state["pending"], state["gradients"] if self.run.fabric.is_global_zero else {}
        self.start_epoch = self.result.epochs_run
        self.scheduler.last_epoch = self.start_epoch - 1
        if hasattr(self.model.model[-1], "one2one_cv2"):  # heads with two losses shift their weight every epoch
            self.model.criterion = self.model.init_criterion()
            self.model.criterion.updates = self.start_epoch - 1
            self.model.criterion.update()

    def save_model(self) -> bool:
        """The resumable state in full precision; Ultralytics' own is rounded to float16."""
        if self.stop and self.epoch + 1 < self.epochs:
            self.result.stopped = "early"
        if self._recorder:
            self._recorder.epoch(self.result.history[-1])
        state = {
            "result": {name: getattr(self.result, name) for name in Result.__dataclass_fields__},
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": {name: getattr(self.stopper, name) for name in ("best_fitness", "best_epoch", "possible_stop")},
            "best_fitness": self.best_fitness,
            "pending": self.pending,
            "gradients": self._waiting(),
            "trainable": self._trainable,
            "finished": bool(self.stop),
        }
        self.saved = state
        epoch, period = self.epoch + 1, self.run.phase.hyperparameters.save_period
        if not self.run.fabric.is_global_zero:
            return False
        self.run.scratch.save(epoch, state)
        if period > 0 and epoch % period == 0:
            self.run.keep(epoch, self.ema.ema.state_dict())
        return False

    def _record(self) -> Recorder:
        state = State(self.model, self.optimizer, self.ema.ema, self.device, self._carried)
        recorder = Recorder(self.result.hashes, state, self.run.trace)
        recorder.begin()
        return recorder

    def _carried(self) -> dict[str, Any]:
        """What the next step depends on besides weights and optimizer."""
        gradients = {**self._held, **self._waiting()}
        return {"scaler": self.scaler.state_dict(), "updates": self.ema.updates, "gradients": gradients}

    def _waiting(self) -> dict[str, Tensor]:
        """Gradients of batches that wait for the next optimizer step."""
        if not self.pending:
            return {}
        return {name: part.grad for name, part in self.model.named_parameters() if part.grad is not None}

    def _begin(self) -> None:
        self._recorder = self._record() if self.run.fabric.is_global_zero else None
        self.run.monitor.begin(self.epochs, len(self.train_loader), self.result.history, self.run.phase.monitor)

    def _start_epoch(self) -> None:
        epoch = self.epoch + 1
        seed_everything(derive(self.run.seed, "epoch", epoch))
        self.train_loader.dataset.epoch = epoch
        self.train_loader.generator.manual_seed(derive(self.run.seed, "order", epoch))
        self.train_loader.reset()  # a fresh iterator: workers learn of the epoch, and the order starts from its seed
        offset = self.epoch * len(self.train_loader)
        scaled = self.scaler.is_enabled()
        several = self.run.fabric if self._several else None
        self._ledger = Ledger(self.run.monitor, epoch, offset, self.device, scaled, several)
        self._index = 0
        if self._held:  # the loop has just zeroed the gradients
            for name, parameter in self.model.named_parameters():
                if name in self._held:
                    parameter.grad = self._held[name].to(parameter.device)
            self._held = {}

    def _start_batch(self) -> None:
        self.accumulate = self._steps  # the warm-up now lowers it
        loader = self.train_loader
        self.share, self._whole = share_of(self.run.fabric, len(loader.dataset), loader.batch_size, self._index)
        self._index += 1

    def _weigh(self, model: nn.Module, inputs: Any, output: Any) -> Any:
        """A process without a sample of this batch runs on one that another has; its loss must not count."""
        return output if self.share else (output[0] * 0, output[1])

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Also takes over the accumulation of gradients, whose count Ultralytics forgets when it is interrupted."""
        self._wanted, self.accumulate = self.accumulate, 1  # so that the loop asks for a step after every batch
        self.files = [self.train_loader.dataset.id_of[path] for path in batch["im_file"]][: self.share]
        self._batch = super().preprocess_batch(batch)
        return self._batch

    def optimizer_step(self) -> None:
        """Ultralytics' step, once enough batches have been summed up, with the gradient's norm kept.

        Its loss is a sum over images, so the gradients of several processes add up.
        """
        self.pending += 1
        if self.pending < self._wanted:
            return
        if self._several:
            sum_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        self._norm = nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)
        self.pending = 0

    def _end_batch(self) -> None:
        weight = self.share * self.run.fabric.world_size / self._whole  # so that the mean of all is the batch's
        items = {name.removesuffix("_loss"): value.detach().reshape(()) for name, value in self.loss_items.items()}
        parts = {name: value * weight for name, value in items.items()} if self._several else items
        losses = {"loss": torch.stack(list(parts.values())).sum(), **parts}
        groups = {group["param_group"]: group["lr"] for group in self.optimizer.param_groups}
        self._ledger.add(losses, self._norm, {"lr": groups["weight"], "lr_bias": groups["bias"]}, self.files)
        if self._recorder:
            self._recorder.batch(self.files, self._batch)
        self._norm = None

    def _end_epoch(self) -> None:
        self._ledger.flush()
        if self.result.first_loss is None:
            self.result.first_loss = self._ledger.first_loss
        if self._several:
            align_buffers(self.run.fabric, self.model)
            align_buffers(self.run.fabric, self.ema.ema)
            if self.pending:  # the first process carries them on, as it would after an interruption
                sum_gradients(self.model.parameters())
                if not self.run.fabric.is_global_zero:
                    self.optimizer.zero_grad()

    def validate(self) -> tuple[dict[str, Any], float]:
        """Scores of the average's weights by the evaluator of every engine, Ultralytics' own beside them."""
        with self._validation_precision():
            own = self.validator(self)
        row = self._scores(own) if self.run.fabric.is_global_zero else None
        row = self.run.fabric.broadcast(row) if self._several else row
        assert row is not None
        return row, float(row[self.run.phase.monitor] or 0.0)

    @contextmanager
    def _validation_precision(self) -> Iterator[None]:
        """Ultralytics' validator computes as `amp` of its trainer says."""
        trained = self.amp
        self.amp = trained if self.run.precision is None else self.run.precision == "16-mixed"
        yield
        self.amp = trained

    def _scores(self, own: dict[str, Any]) -> Row:
        ids = self.run.lists["val"]
        truths = [truth_of(self.run.manifest.records[image_id]) for image_id in ids]
        scores = coco_scores(truths, [self.validator.found[image_id] for image_id in ids], self.run.classes)
        losses = {name.removesuffix("_loss"): round(value, 5) for name, value in self.validator.losses.items()}
        row: Row = {"val_loss": math.fsum(losses.values())}
        row |= {f"val_{name}": value for name, value in losses.items()}
        row |= {name: None if math.isnan(value) else value for name, value in scores.items()}
        row |= {f"ultralytics_{name}": own[f"metrics/{key}"] for key, name in OWN.items()}
        return row

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """One row of history.csv, and the weights if they are the best so far (the first of equals)."""
        row: Row = {"epoch": self.epoch + 1, **self._ledger.means(), **self.metrics}
        self.result.history.append(row)
        self.result.last_loss = row["train_loss"]
        if self.best_fitness is None or self.fitness > self.best_fitness:
            self.best_fitness = self.fitness
            self.result.best_epoch, self.result.best_value = self.epoch + 1, row[self.run.phase.monitor]
            self.result.state = {
                name: value.detach().cpu().clone() for name, value in self.ema.ema.state_dict().items()
            }
        self.run.monitor.epoch(row, self.result.best_epoch, self.result.best_value)

    def final_eval(self) -> None:
        """`evaluate` scores the shipped file."""
