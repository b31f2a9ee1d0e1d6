"""Score the masks of one split: a confusion matrix per image, then scores, intervals and sample pictures."""

from typing import Any

import numpy as np

from stages.dataset.palette import palette
from stages.metrics import pictures
from stages.metrics.segmentation import confusion_matrix, scores, summarize
from stages.metrics.work import Images, Scored, Work


def score_masks(work: Work, split: str, ids: list[str]) -> Scored:
    """Predict, compare at the label's own resolution; writes confusion_<split>.npy (int64 [N, C, C]) and samples."""
    params = work.params
    count = len(params.classes)
    matrices = np.zeros((len(ids), count, count), dtype=np.int64)
    for row, ((_, truth, _), predicted) in enumerate(work.predictions(ids, f"evaluate {split}")):
        assert truth is not None  # only labeled images are scored
        matrices[row] = confusion_matrix(truth, predicted, count)
    np.save(work.folder / f"confusion_{split}.npy", matrices, allow_pickle=False)
    focus = [params.class_index(name) for name in params.report.focus_classes]
    options, seed = params.evaluate, work.bootstrap_seed(split)
    found = summarize(matrices, params.classes, focus, options.bootstrap, seed, options.min_reliable)
    return found, _draw(work, split, ids, scores(matrices)["mIoU"])


def _draw(work: Work, split: str, ids: list[str], per_image: np.ndarray) -> list[dict[str, Any]]:
    colors = palette(work.params.classes, work.params.report.colors)
    images = Images(work.manifest, ids)
    samples = []
    for kind, rows in pictures.choose(per_image, ids, work.params.evaluate.samples).items():
        for rank, row in enumerate(rows, start=1):
            image, truth, id = images[row]
            assert truth is not None
            file = f"samples/{split}_{kind}_{rank}.jpg"
            pictures.save_masks(work.folder / file, image, truth, work.predict([image])[0], colors)
            samples.append({"file": file, "id": id, "split": split, "kind": kind, "score": float(per_image[row])})
    return samples
