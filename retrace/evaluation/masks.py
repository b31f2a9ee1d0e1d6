"""Score the masks of one split: a confusion matrix per image, then scores, intervals and sample pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from retrace.config.metrics import CLASS, SPLIT, names
from retrace.data.loading import read_mask
from retrace.data.palette import palette
from retrace.documents.samples import Sample
from retrace.documents.scores import Floor, Masks, SegmentationClass, SegmentationSplit
from retrace.evaluation import pictures
from retrace.evaluation.boundary import COUNTS, boundary_counts, radius_of, summarize_boundaries
from retrace.evaluation.error_pictures import draw_masks
from retrace.evaluation.floor import Places, against_floor, constant_masks, named, places, spread
from retrace.evaluation.scores.segmentation import confusion_matrix, scores
from retrace.evaluation.work import Images, Scored, Work
from retrace.statistics.bootstrap import Statistic, Units, intervals, of_totals
from retrace.statistics.estimate import UNDEFINED, Estimate


@dataclass(frozen=True)
class _Counted:
    """What is kept of every image of a split."""

    matrices: np.ndarray  # int64 [N, C, C], rows = truth
    constant: np.ndarray  # int64 [N, C, C], of the answer that looks at no image
    boundaries: np.ndarray  # int64 [N, C, 4]; all 0 where they are not asked for
    sizes: list[int]  # bytes of the predicted mask as a PNG file
    used: np.ndarray  # bool [C]: classes that are predicted anywhere


def score_masks(work: Work, split: str, ids: list[str]) -> Scored:
    """Predict and compare at the label's own resolution.

    Writes confusion_<split>.npy (int64 [N, C, C]), boundary_<split>.npy (int64 [N, C, 4]), sample pictures and
    pictures of errors.
    """
    params, options = work.params, work.params.evaluate
    train = places((read_mask(work.manifest, image) for image in spread(work.train)), len(params.classes))
    counted = _count(work, split, ids, train)
    np.save(work.folder / f"confusion_{split}.npy", counted.matrices, allow_pickle=False)
    focus = [params.class_index(name) for name in params.report.focus_classes]
    seed, (units, kind) = work.bootstrap_seed(split), work.units(split, ids)
    scored = summarize(counted.matrices, units, params.classes, focus, options.bootstrap, seed, options.min_reliable)
    floor = constant_masks(train, counted.constant, params.classes, focus)
    scored = _with_floors(scored, _floors(work, counted.matrices, floor, units, seed))
    if options.boundary is not None:
        np.save(work.folder / f"boundary_{split}.npy", counted.boundaries, allow_pickle=False)
        found = summarize_boundaries(counted.boundaries, units, options.bootstrap, seed)
        scored = _with_boundaries(scored, found["mean_boundary_F1"], found["boundary_F1"])
    masks = weigh(counted.sizes, int(counted.used.sum()), units, options.bootstrap, seed)
    samples = _draw(work, split, ids, scores(counted.matrices)["mIoU"])
    errors = draw_masks(work, split, ids, counted.matrices)
    return scored.model_copy(update={"unit": kind, "masks": masks}), samples, errors


def _count(work: Work, split: str, ids: list[str], train: Places) -> _Counted:
    count, options = len(work.params.classes), work.params.evaluate.boundary
    matrices, constant = np.zeros((2, len(ids), count, count), dtype=np.int64)
    boundaries = np.zeros((len(ids), count, len(COUNTS)), dtype=np.int64)
    sizes, used = [], np.zeros(count, dtype=bool)
    for row, ((_, truth, _), predicted) in enumerate(work.predictions(ids, f"evaluate {split}")):
        assert truth is not None  # only labeled images are scored
        matrices[row] = confusion_matrix(truth, predicted, count)
        constant[row] = confusion_matrix(truth, train.answer(truth.shape), count)
        if options is not None:
            boundaries[row] = boundary_counts(truth, predicted, count, radius_of(options, truth.shape))
        sizes.append(len(mask_png(predicted)))
        used[np.unique(predicted)] = True
    return _Counted(matrices, constant, boundaries, sizes, used)


def _floors(
    work: Work,
    matrices: np.ndarray,
    floor: tuple[Statistic, dict[str, str]],
    units: Units,
    seed: int,
) -> dict[str, Floor]:
    """The best constant answer under the overall scores and `IoU/<class>`."""
    classes, whole = work.params.classes, matrices.sum(0)
    focus = [work.params.class_index(name) for name in work.params.report.focus_classes]
    statistic, answers = floor
    model = of_totals(lambda totals: named(scores(totals, focus, whole), classes), matrices)
    return against_floor(model, statistic, answers, units, work.params.evaluate.bootstrap, seed)


def _with_floors(scored: SegmentationSplit, floors: dict[str, Floor]) -> SegmentationSplit:
    per_class = {}
    for name, row in scored.per_class.items():
        per_class[name] = row.model_copy(update={"floor": floors[f"IoU/{name}"]})
    overall = {name: floor for name, floor in floors.items() if "/" not in name}
    return scored.model_copy(update={"floor": overall, "per_class": per_class})


def _with_boundaries(scored: SegmentationSplit, mean: Estimate, of_class: Sequence[Estimate]) -> SegmentationSplit:
    """The boundary scores too; `of_class` is in the order of the classes."""
    per_class = {}
    for (name, row), score in zip(scored.per_class.items(), of_class, strict=True):
        per_class[name] = row.model_copy(update={"boundary_F1": score})
    return scored.model_copy(update={"mean_boundary_F1": mean, "per_class": per_class})


def summarize(
    per_image: np.ndarray,
    units: Units,
    classes: Sequence[str],
    focus: Sequence[int],
    resamples: int,
    seed: int,
    min_reliable: int,
) -> SegmentationSplit:
    """Every score of one split with its interval, counts and the confusion matrix.

    per_image: int64 [N, C, C], rows = truth. A class seen in fewer than `min_reliable` images is not `reliable`.
    """
    total = per_image.sum(0)
    statistic = of_totals(lambda totals: scores(totals, focus, total), per_image)
    shown = per_image.sum(2) > 0  # [N, C]
    held, of_class = units.holding(shown), names("segmentation", CLASS)
    found = intervals(statistic, units, resamples, seed, dict.fromkeys(of_class, held))
    images = shown.sum(0)  # [C]
    per_class = {
        name: SegmentationClass(
            **{metric: found[metric][index] for metric in of_class if metric in found},
            images=int(images[index]),
            units=int(held[index]),
            pixels=int(total[index].sum()),
            reliable=bool(images[index] >= min_reliable),
            predicted_pixels=int(total[:, index].sum()),
        )
        for index, name in enumerate(classes)
    }
    return SegmentationSplit(
        images=len(per_image),
        units=units.count,
        **{metric: found[metric] for metric in names("segmentation", SPLIT) if metric in found},
        per_class=per_class,
        confusion=total.tolist(),
    )


def mask_png(mask: np.ndarray) -> bytes:
    """A mask (class index, uint8 [H, W]) as the PNG file that `retrace predict` writes; the same bytes every time."""
    encoded, content = cv2.imencode(".png", mask)
    assert encoded
    return content.tobytes()


def weigh(sizes: Sequence[int], classes_used: int, units: Units, resamples: int, seed: int) -> Masks:
    """The sizes of the predicted masks of a split as files.

    sizes: bytes of each image's file; the interval is the 95 % bootstrap over the units. Without
    images mean and median are None. classes_used: classes that occur in any mask.
    """
    rows = np.array([[size, 1] for size in sizes], dtype=np.int64).reshape(-1, 2)
    mean = of_totals(lambda totals: {"bytes_mean": totals[:, 0] / np.maximum(totals[:, 1], 1)}, rows)
    if not len(rows):
        return Masks(bytes_mean=UNDEFINED, bytes_median=None, bytes_total=0, classes_used=classes_used)
    found = intervals(mean, units, resamples, seed)
    return Masks(
        bytes_mean=found["bytes_mean"],
        bytes_median=float(np.median(rows[:, 0])),
        bytes_total=int(rows[:, 0].sum()),
        classes_used=classes_used,
    )


def _draw(work: Work, split: str, ids: list[str], per_image: np.ndarray) -> list[Sample]:
    colors = palette(work.params.classes, work.params.report.colors)
    images = Images(work.manifest, ids)
    samples = []
    for kind, rows in pictures.choose(per_image, ids, work.params.evaluate.samples).items():
        for rank, row in enumerate(rows, start=1):
            image, truth, image_id = images[row]
            assert truth is not None
            file = f"samples/{split}_{kind}_{rank}.jpg"
            predicted = work.predict([image])[0]
            pictures.save_masks(work.folder / file, image, truth, predicted, colors)
            sample = Sample(
                file=file,
                id=image_id,
                split=split,
                kind=kind,
                score=float(per_image[row]),
                panels=pictures.MASK_PANELS,
                legend=pictures.occurring(truth, predicted, work.params.classes, colors),
            )
            samples.append(sample)
    return samples
