"""Ultralytics' validator, which leaves what the evaluator of every engine needs, from all processes that train."""

from types import SimpleNamespace
from typing import Any

from lightning_fabric import Fabric

from retrace.evaluation.scores.matching import Found, rounded
from retrace.models.yolo import ultralytics
from retrace.training.engines.ultralytics.share import Scored, put_together

ultralytics()

from ultralytics.models.yolo.detect import DetectionValidator  # noqa: E402
from ultralytics.utils import nms  # noqa: E402


class Validator(DetectionValidator):
    """Also keeps each image's detections, as the predictor would report them: `found` by image id; mean `losses`."""

    def __init__(self, fabric: Fabric, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._fabric = fabric

    def run_callbacks(self, event: str) -> None:
        """None, as in training."""

    def init_metrics(self, model: Any) -> None:
        """Called at the start of each pass."""
        super().init_metrics(model)
        self._scored: list[Scored] = []

    def postprocess(self, preds: Any) -> Any:
        """Ultralytics validates with several classes a box; its predictor, and so `evaluate`, with the best one."""
        raw = preds[0] if isinstance(preds, (list, tuple)) else preds
        options = {"max_det": self.args.max_det, "end2end": self.end2end}
        outputs = nms.non_max_suppression(raw.clone(), self.args.conf, self.args.iou, **options)
        self._single = [{"bboxes": output[:, :4], "conf": output[:, 4], "cls": output[:, 5]} for output in outputs]
        return super().postprocess(preds)

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Once a batch."""
        found: dict[str, Found] = {}
        for index, single in enumerate(self._single):
            prepared = self._prepare_batch(index, batch)
            native = self.scale_preds(single, prepared)
            numbers = {key: native[key].detach().cpu().double().numpy() for key in ("bboxes", "conf", "cls")}
            image_id = self.dataloader.dataset.id_of[prepared["im_file"]]
            boxes, labels = numbers["bboxes"].reshape(-1, 4), numbers["cls"].astype("int64")
            found[image_id] = rounded(SimpleNamespace(boxes=boxes, scores=numbers["conf"], labels=labels))
        super().update_metrics(preds, batch)
        stats = {key: list(values) for key, values in self.metrics.stats.items()}
        losses = {name: value.cpu().numpy().reshape(()).copy() for name, value in self.loss.items()}
        self._scored.append(Scored(losses, stats, found))
        self.metrics.clear_stats()
        for value in self.loss.values():
            value.zero_()

    def gather_stats(self) -> None:
        """Every process gets what all of them have, in the order of the list."""
        self.losses, self.metrics.stats, self.found = put_together(self._fabric, self._scored)
