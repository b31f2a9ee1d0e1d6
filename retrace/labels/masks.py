"""Suspicious regions of masks: pixels that a model which was not trained on them takes for another class.

Every pixel has the margin of confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating
Uncertainty in Dataset Labels", section 3.2): the probability of the most probable class less that of the label. Pixels
that touch and differ in the same way are one region. The paper's thresholds per class, tried too, found fewer of the
planted errors: of thin objects far away no pixel reaches them.
"""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from retrace.labels.suspects import REGION, Suspect

TOUCH = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are connected


def usual_areas(masks: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """float64 [C]: half of the pixels of a class lie in connected regions of at least this size; infinite without any.

    masks: class index, uint8 [H, W] each. A median by regions would be that of the specks, which are many.
    """
    areas: list[list[int]] = [[] for _ in range(classes)]
    for mask in masks:
        for label in np.unique(mask[mask < classes]).tolist():
            areas[label] += _areas(_regions(mask == label)).tolist()
    return np.array([_middle(found) for found in areas])


def _middle(areas: list[int]) -> float:
    falling = np.sort(np.array(areas))[::-1]
    return float(falling[np.searchsorted(falling.cumsum(), falling.sum() / 2)]) if areas else np.inf


def suspicious_regions(image: str, mask: np.ndarray, probabilities: np.ndarray, usual: np.ndarray) -> list[Suspect]:
    """The regions of one image, each with its suspicion: mean margin x share of an object x size.

    mask: class index, uint8 [H, W]; values beyond the classes are not judged. probabilities: float32 [C, H, W].
    usual: float64 [C], see `usual_areas`.

    - *share*: of the labeled or of the predicted region that it is a part of, whichever is larger: a whole object that
      is labeled otherwise counts fully, a rim along an outline hardly;
    - *size*: the root of its area over the usual one of the smaller of the two classes, at most 1.
    """
    classes = len(probabilities)
    label = np.where(mask < classes, mask, 0).astype(np.int64)
    suggested = probabilities.argmax(0)
    off = (mask < classes) & (suggested != label)
    margin = probabilities.max(0) - np.take_along_axis(probabilities, label[None], 0)[0]
    pair = np.where(off, label * classes + suggested, -1)
    suspects = []
    for code in np.unique(pair[off]).tolist():
        old, new = divmod(code, classes)
        regions = _regions(pair == code)
        areas = _areas(regions)
        margins = ndimage.mean(margin, regions, np.arange(1, len(areas) + 1))
        share = np.maximum(*(_share(regions, areas, whole) for whole in (label == old, suggested == new)))
        size = np.minimum(1.0, np.sqrt(areas / min(usual[old], usual[new])))
        suspicions = np.clip(margins * share * size, 0, 1).tolist()
        for (rows, columns), suspicion in zip(ndimage.find_objects(regions), suspicions, strict=True):
            x, y = float(columns.start), float(rows.start)
            box = (x, y, columns.stop - x, rows.stop - y)
            suspects.append(Suspect(image, REGION, suspicion, box, old, new))
    return suspects


def _regions(chosen: np.ndarray) -> np.ndarray:
    """bool [H, W] -> int32 [H, W]: 1, 2, ... for each connected region, 0 elsewhere."""
    found: np.ndarray = ndimage.label(chosen, TOUCH)[0]
    return found


def _areas(regions: np.ndarray) -> np.ndarray:
    """Pixels of each region."""
    return np.bincount(regions.ravel())[1:]


def _share(regions: np.ndarray, areas: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Of every region, the share of the connected part of `whole` (bool [H, W]) that it lies in."""
    parts = _regions(whole)
    sizes = np.append(0, _areas(parts))
    # all of a region lies in one part, so any of its pixels tells which
    around = ndimage.maximum(sizes[parts], regions, np.arange(1, len(areas) + 1))
    return areas / np.maximum(around, areas)
