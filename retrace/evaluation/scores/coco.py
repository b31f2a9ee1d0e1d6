"""COCO's AP and AR by faster-coco-eval, the same for every engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from retrace.evaluation.scores.matching import AREAS, Found, Truth

COCO_SCORES = ("AP50", "AP", "AR", "AP_small", "AP_medium", "AP_large")


def coco_scores(truths: Sequence[Truth], founds: Sequence[Found], classes: Sequence[str]) -> dict[str, float]:
    """`COCO_SCORES` and `AP50/<class>`, `AP/<class>` by faster-coco-eval; NaN where there is no object to find."""
    data: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    data["categories"] = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
    results = []
    for image, (truth, found) in enumerate(zip(truths, founds, strict=True), start=1):
        data["images"].append({"id": image})
        for box, label, crowd in zip(truth.boxes.tolist(), truth.labels.tolist(), truth.crowd.tolist(), strict=True):
            row = {"image_id": image, "category_id": label + 1, "bbox": box, "area": box[2] * box[3]}
            data["annotations"].append(row | {"id": len(data["annotations"]) + 1, "iscrowd": int(crowd)})
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": label + 1, "bbox": box, "score": score})
    if not data["annotations"]:
        return dict.fromkeys([*COCO_SCORES, *(f"{key}/{name}" for name in classes for key in ("AP50", "AP"))], np.nan)
    truth_set = COCO(data)
    evaluation = COCOeval_faster(truth_set, truth_set.loadRes(results), iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # [T, R, K, A, M], [T, K, A, M]
    scores = {"AP50": _defined(precision[0, :, :, 0, -1]), "AP": _defined(precision[:, :, :, 0, -1])}
    scores["AR"] = _defined(recall[:, :, 0, -1])
    for area, name in enumerate(list(AREAS)[1:], start=1):
        scores[f"AP_{name}"] = _defined(precision[:, :, :, area, -1])
    for index, name in enumerate(classes):
        scores[f"AP50/{name}"] = _defined(precision[0, :, index, 0, -1])
        scores[f"AP/{name}"] = _defined(precision[:, :, index, 0, -1])
    return scores


def _defined(values: np.ndarray) -> float:
    known = values[values > -1]  # -1: no object of this class and size
    return float(known.mean()) if known.size else float("nan")
