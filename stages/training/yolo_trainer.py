"""Ultralytics' detection trainer with the kit's own data, checkpoints, history and monitor in place of its own.

The loop, loss, optimizer, schedule, augmentations and weight average are Ultralytics'. What is replaced is what would
make a run unrepeatable: random numbers follow from (seed, epoch, index), the resumable state is kept in full precision
after every epoch, nothing is recovered or halved silently, and no callback but those below is called.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from stages.dataset.manifest import Manifest
from stages.errors import UserError
from stages.metrics.boxes import rounded, truth_of
from stages.metrics.detection import coco_scores
from stages.metrics.matching import Found
from stages.models.predict import SCORE_FLOOR
from stages.models.yolo import ultralytics
from stages.params.phases import UltralyticsPhase
from stages.seeds import derive, make_deterministic, seed_everything
from stages.training.checkpoints import Scratch
from stages.training.ledger import Ledger
from stages.training.loop import Result, Row
from stages.training.monitor import Monitor
from stages.training.yolo_data import Samples

ultralytics()

from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator  # noqa: E402
from ultralytics.utils import nms  # noqa: E402

OWN = {"precision(B)": "precision", "recall(B)": "recall", "mAP50(B)": "mAP50", "mAP50-95(B)": "mAP50-95"}


@dataclass(frozen=True)
class Run:
    """What one training is about and where it leaves its traces."""

    phase: UltralyticsPhase
    classes: Sequence[str]
    seed: int
    threads: int
    manifest: Manifest
    lists: dict[str, list[str]]  # ids of "train" and "val"
    scratch: Scratch
    state: dict[str, Any] | None  # what an interrupted run had saved
    monitor: Monitor
    keep: Callable[[int, dict[str, Tensor]], None]  # called every `save_period` epochs with the averaged weights


class Trainer(DetectionTrainer):
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

    def __init__(self, run: Run, network: nn.Module, options: dict[str, Any]):
        self.run = run
        self._hooks: dict[str, Callable[[], None]] = {
            "on_train_start": self._begin,
            "on_train_epoch_start": self._start_epoch,
            "on_train_batch_start": self._start_batch,
            "on_train_batch_end": self._end_batch,
            "on_train_epoch_end": self._end_epoch,
        }
        super().__init__(overrides=options)
        self.model = network
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

    def get_validator(self) -> "Validator":
        """Scores down to the same confidence as `evaluate`: an average precision needs the whole curve."""
        args = copy.copy(self.args)
        args.conf, args.iou, args.max_det = SCORE_FLOOR, self.run.phase.hyperparameters.iou, self.args.max_det
        return Validator(self.test_loader, save_dir=self.save_dir, args=args)

    def _build_train_pipeline(self) -> None:
        if self.optimizer is not None:  # a second time: Ultralytics ran out of memory and would halve the batch
            raise UserError(
                f"out of memory with hyperparameters.batch = {self.run.phase.hyperparameters.batch} at imgsz = "
                f"{self.args.imgsz}; lower one of them"
            )
        super()._build_train_pipeline()

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":
            make_deterministic(self.run.threads)  # Ultralytics only warns of operations that are not
        if self.run.phase.hyperparameters.amp and self.device.type == "cuda":
            # not through args.amp, which would download a network to test the GPU with
            self.amp, self.scaler = True, torch.amp.GradScaler("cuda")
        self._steps = self.accumulate  # batches per optimizer step, after warm-up
        self._trainable = sum(part.numel() for part in self.model.parameters() if part.requires_grad)
        if self.run.state is not None:
            self._restore(self.run.state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.result = Result(**state["result"])
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.best_fitness = state["best_fitness"]
        self.pending, self._held = state["pending"], state["gradients"]
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
        gradients = {}
        if self.pending:
            gradients = {name: part.grad for name, part in self.model.named_parameters() if part.grad is not None}
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
            "gradients": gradients,
            "trainable": self._trainable,
            "finished": bool(self.stop),
        }
        self.saved = state
        epoch, period = self.epoch + 1, self.run.phase.hyperparameters.save_period
        self.run.scratch.save(epoch, state)
        if period > 0 and epoch % period == 0:
            self.run.keep(epoch, self.ema.ema.state_dict())
        return False

    def _begin(self) -> None:
        self.run.monitor.begin(self.epochs, len(self.train_loader), self.result.history, self.run.phase.monitor)

    def _start_epoch(self) -> None:
        epoch = self.epoch + 1
        seed_everything(derive(self.run.seed, "epoch", epoch))
        self.train_loader.dataset.epoch = epoch
        self.train_loader.generator.manual_seed(derive(self.run.seed, "order", epoch))
        self.train_loader.reset()  # a fresh iterator: workers learn of the epoch, and the order starts from its seed
        offset = self.epoch * len(self.train_loader)
        scaled = self.scaler.is_enabled()
        self._ledger = Ledger(self.run.monitor, epoch, offset, self.device, scaled)
        if self._held:  # the loop has just zeroed the gradients
            for name, parameter in self.model.named_parameters():
                if name in self._held:
                    parameter.grad = self._held[name].to(parameter.device)
            self._held = {}

    def _start_batch(self) -> None:
        self.accumulate = self._steps  # the warm-up now lowers it

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Also takes over the accumulation of gradients, whose count Ultralytics forgets when it is interrupted."""
        self._wanted, self.accumulate = self.accumulate, 1  # so that the loop asks for a step after every batch
        self._files = [self.train_loader.dataset.id_of[path] for path in batch["im_file"]]
        return super().preprocess_batch(batch)

    def optimizer_step(self) -> None:
        """Ultralytics' step, once enough batches have been summed up, with the gradient's norm kept."""
        self.pending += 1
        if self.pending < self._wanted:
            return
        self.scaler.unscale_(self.optimizer)
        self._norm = nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)
        self.pending = 0

    def _end_batch(self) -> None:
        parts = {name.removesuffix("_loss"): value.detach().reshape(()) for name, value in self.loss_items.items()}
        losses = {"loss": torch.stack(list(parts.values())).sum(), **parts}
        groups = {group["param_group"]: group["lr"] for group in self.optimizer.param_groups}
        self._ledger.add(losses, self._norm, {"lr": groups["weight"], "lr_bias": groups["bias"]}, self._files)
        self._norm = None

    def _end_epoch(self) -> None:
        self._ledger.flush()
        if self.result.first_loss is None:
            self.result.first_loss = self._ledger.first_loss

    def validate(self) -> tuple[dict[str, Any], float]:
        """Scores of the average's weights by the evaluator of every engine, Ultralytics' own beside them."""
        own = self.validator(self)
        ids = self.run.lists["val"]
        truths = [truth_of(self.run.manifest.records[id]) for id in ids]
        scores = coco_scores(truths, [self.validator.found[id] for id in ids], self.run.classes)
        losses = {key.removesuffix("_loss"): value for key, value in own.items() if key.startswith("val/")}
        row: Row = {"val_loss": math.fsum(losses.values())}
        row |= {f"val_{key.removeprefix('val/')}": value for key, value in losses.items()}
        row |= {name: None if math.isnan(value) else value for name, value in scores.items()}
        row |= {f"ultralytics_{name}": own[f"metrics/{key}"] for key, name in OWN.items()}
        return row, float(row[self.run.phase.monitor] or 0.0)

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

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False  # the ledger has stopped the run, naming the batch

    def final_eval(self) -> None:
        """`evaluate` scores the shipped file."""


class Validator(DetectionValidator):
    """Also keeps each image's detections, as the predictor would report them: `found` by image id."""

    def run_callbacks(self, event: str) -> None:
        """None, as in training."""

    def init_metrics(self, model: Any) -> None:
        """Called at the start of each pass."""
        super().init_metrics(model)
        self.found: dict[str, Found] = {}

    def postprocess(self, preds: Any) -> Any:
        """Ultralytics validates with several classes a box; its predictor, and so `evaluate`, with the best one."""
        raw = preds[0] if isinstance(preds, (list, tuple)) else preds
        options = {"max_det": self.args.max_det, "end2end": self.end2end}
        outputs = nms.non_max_suppression(raw.clone(), self.args.conf, self.args.iou, **options)
        self._single = [{"bboxes": output[:, :4], "conf": output[:, 4], "cls": output[:, 5]} for output in outputs]
        return super().postprocess(preds)

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Once a batch."""
        for index, single in enumerate(self._single):
            prepared = self._prepare_batch(index, batch)
            native = self.scale_preds(single, prepared)
            numbers = {key: native[key].detach().cpu().double().numpy() for key in ("bboxes", "conf", "cls")}
            id = self.dataloader.dataset.id_of[prepared["im_file"]]
            boxes, labels = numbers["bboxes"].reshape(-1, 4), numbers["cls"].astype("int64")
            self.found[id] = rounded(SimpleNamespace(boxes=boxes, scores=numbers["conf"], labels=labels))
        super().update_metrics(preds, batch)
