"""How many planted label errors `retrace label-check` finds: `python -m benchmarks.label_errors`.

Run in the folder of a project whose study has been evaluated (a demo of minutes: `retrace use slopes --demo`). Of the
objects in val and test, 5 % are spoiled in four ways, and all are ranked by the phase's predictions; again and again
with other draws. An error is found where one of the first suspects, a tenth as many as there are objects, lies on it.
The model did not see these labels, as in `label-check`; its training labels are as they were drawn.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.harness import RESULTS, arguments, save
from retrace.config.load import load
from retrace.config.schema import Params
from retrace.data.loading import read_mask
from retrace.data.manifest import Manifest, read_manifest
from retrace.documents.manifest import Box, Record
from retrace.documents.scores import read_scores
from retrace.evaluation.scores.matching import iou
from retrace.files import read_json
from retrace.labels.masks import TOUCH, suspicious_regions, usual_areas
from retrace.labels.predictions import held_out, of_boxes, probabilities_of
from retrace.labels.suspects import KINDS, Suspect, ranked
from retrace.seeds import derive

SHARE, FIRST = 0.05, 0.1  # of the objects: spoiled, looked at
SMALLEST = 20  # pixels of an object in a mask that is spoiled
COVERED = 0.3  # share of a spoiled region that a suspect must hold
OBJECT = 0.5  # IoU of a suspect with a spoiled box


@dataclass(frozen=True)
class Planted:
    """One error; `on` says whether a suspect of its image lies on it."""

    image: str
    kind: str
    on: Callable[[Suspect], bool]


def spoiled_boxes(manifest: Manifest, ids: Sequence[str], classes: int, seed: int) -> tuple[Manifest, list[Planted]]:
    """The manifest with errors in the boxes of `ids`, and which."""
    random = np.random.default_rng(seed)
    objects = [(name, k) for name in ids for k, box in enumerate(manifest.records[name].boxes) if not box.crowd]
    kinds = [kind for kind in KINDS if classes > 1 or kind != "wrong class"]
    chosen = random.permutation(len(objects))[: max(1, round(SHARE * len(objects)))]
    boxes: dict[str, dict[int, list[Box]]] = {}
    planted = []
    for turn, index in enumerate(chosen.tolist()):
        name, position = objects[index]
        record, kind = manifest.records[name], kinds[turn % len(kinds)]
        old = record.boxes[position]
        new = _spoiled(old, kind, record, classes, random)
        boxes.setdefault(name, {})[position] = new
        planted.append(Planted(name, kind, _on_a_box([old, *new])))
    records = dict(manifest.records)
    for name, changed in boxes.items():
        before = records[name].boxes
        after = [one for position, box in enumerate(before) for one in changed.get(position, [box])]
        records[name] = replace(records[name], boxes=tuple(after))
    return Manifest(manifest.folder, records), planted


def _spoiled(box: Box, kind: str, record: Record, classes: int, random: np.random.Generator) -> list[Box]:
    """What stands in place of a box: nothing, another class, moved by a quarter to a half, or two."""
    x, y, width, height = box.xywh
    if kind == "missing":
        return []
    if kind == "wrong class":
        return [Box((box.label + int(random.integers(1, classes))) % classes, box.xywh)]
    if kind == "badly placed":
        across, down = random.choice([-1, 1], 2) * random.uniform(0.25, 0.5, 2) * (width, height)
        left = float(np.clip(x + across, 0, record.width - width))
        top = float(np.clip(y + down, 0, record.height - height))
        return [Box(box.label, (left, top, width, height))]
    dx, dy, wider, higher = random.uniform(-0.08, 0.08, 4).tolist()
    return [box, Box(box.label, (x + dx * width, y + dy * height, width * (1 + wider), height * (1 + higher)))]


def _on_a_box(boxes: Sequence[Box]) -> Callable[[Suspect], bool]:
    places = np.array([box.xywh for box in boxes])

    def on(suspect: Suspect) -> bool:
        overlaps = iou(np.array([suspect.box]), places, np.zeros(len(places), bool))
        return float(overlaps.max()) >= OBJECT

    return on


Masks = dict[str, np.ndarray]


def objects_in(masks: Masks, background: int) -> list[tuple[str, int, int]]:
    """(image, class, number) of every connected region of `SMALLEST` pixels that is not background."""
    found = []
    for name, mask in masks.items():
        for label in sorted(set(np.unique(mask).tolist()) - {background, 255}):
            areas = np.bincount(ndimage.label(mask == label, TOUCH)[0].ravel())[1:]
            found += [(name, label, number) for number in (np.flatnonzero(areas >= SMALLEST) + 1).tolist()]
    return found


def spoiled_masks(masks: Masks, classes: int, background: int, seed: int) -> tuple[Masks, list[Planted]]:
    """The masks with errors, and which; `wrong class` needs a third class beside the background."""
    random = np.random.default_rng(seed)
    objects = objects_in(masks, background)
    kinds = [kind for kind in KINDS if classes > 2 or kind != "wrong class"]
    chosen = random.permutation(len(objects))[: max(1, round(SHARE * len(objects)))]
    spoiled = {name: mask.copy() for name, mask in masks.items()}
    planted = []
    for turn, index in enumerate(chosen.tolist()):
        name, label, number = objects[index]
        kind, mask = kinds[turn % len(kinds)], spoiled[name]
        before, region = mask.copy(), ndimage.label(masks[name] == label, TOUCH)[0] == number
        if kind in ("missing", "badly placed"):
            mask[region] = background
        if kind == "wrong class":
            mask[region] = random.choice([other for other in range(classes) if other not in (label, background)])
        if kind in ("badly placed", "duplicated"):
            mask[_moved(region, 0.45 if kind == "badly placed" else 1.2, random)] = label
        planted.append(Planted(name, kind, _on_pixels(before != mask)))
    return spoiled, planted


def _moved(region: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """The region to the left or right by a share of its width."""
    rows, columns = np.nonzero(region)
    step = int(random.choice([-1, 1])) * max(3, round(share * (int(np.ptp(columns)) + 1)))
    inside = (columns + step >= 0) & (columns + step < region.shape[1])
    moved = np.zeros_like(region)
    moved[rows[inside], columns[inside] + step] = True
    return moved


def _on_pixels(changed: np.ndarray) -> Callable[[Suspect], bool]:
    def on(suspect: Suspect) -> bool:
        x, y, width, height = (int(value) for value in suspect.box)
        return bool(changed[y : y + height, x : x + width].sum() >= COVERED * changed.sum() > 0)

    return on


Draw = tuple[int, list[Suspect], list[Planted]]  # number of objects, suspects in order, errors


def draws_of_boxes(params: Params, phase: str, draws: int) -> Iterator[Draw]:
    """Of a detection study."""
    manifest, lists = _labels(params, phase)
    ids = [name for listed in lists.values() for name in listed]
    objects = sum(not box.crowd for name in ids for box in manifest.records[name].boxes)
    for draw in range(draws):
        spoiled, planted = spoiled_boxes(manifest, ids, len(params.classes), derive(params.seed, "labels", draw))
        yield objects, ranked(of_boxes(params, phase, spoiled, lists)), planted


def draws_of_masks(params: Params, phase: str, draws: int) -> Iterator[Draw]:
    """Of a segmentation study; the most frequent class counts as background."""
    manifest, lists = _labels(params, phase)
    ids = [name for listed in lists.values() for name in listed]
    seen = {name: found.astype(np.float16) for name, found in probabilities_of(params, phase, manifest, ids)}
    masks, classes = {name: read_mask(manifest, name) for name in ids}, len(params.classes)
    background = int(sum(np.bincount(mask.ravel(), minlength=256)[:classes] for mask in masks.values()).argmax())
    objects = len(objects_in(masks, background))
    for draw in range(draws):
        spoiled, planted = spoiled_masks(masks, classes, background, derive(params.seed, "labels", draw))
        usual = usual_areas(spoiled.values(), classes)
        suspects: list[Suspect] = []
        for name, mask in spoiled.items():
            suspects += suspicious_regions(name, mask, seen[name].astype(np.float32), usual)
        yield objects, ranked(suspects), planted


def _labels(params: Params, phase: str) -> tuple[Manifest, dict[str, list[str]]]:
    scores = read_scores(Path("metrics", params.study, f"{phase}.json"))
    return read_manifest(Path("data", params.study, "raw")), held_out(params.study, phase, scores)


Row = dict[str, Any]


def measure(params: Params, phase: str, draws: int) -> Row:
    """How many errors were planted and found, by kind, and the smallest and largest share found in a draw."""
    spoiled: Counter[str] = Counter()
    found: Counter[str] = Counter()
    shares, objects = [], 0
    source = draws_of_boxes if params.task == "detection" else draws_of_masks
    for objects, suspects, planted in source(params, phase, draws):
        first = suspects[: math.ceil(FIRST * objects)]
        hits = [error for error in planted if any(one.image == error.image and error.on(one) for one in first)]
        spoiled.update(error.kind for error in planted)
        found.update(error.kind for error in hits)
        shares.append(len(hits) / len(planted))
    kinds = [kind for kind in KINDS if spoiled[kind]]
    return {
        "study": params.study,
        "phase": phase,
        "objects": objects,
        "draws": draws,
        "planted": {kind: spoiled[kind] for kind in kinds},
        "found": {kind: found[kind] for kind in kinds},
        "lowest": min(shares),
        "highest": max(shares),
    }


def main() -> None:
    """Measure, print, and put the row in place of the study's old one."""
    parser = arguments(__doc__, repetitions=20)
    parser.add_argument("--phase", help="default: the active phase")
    given = parser.parse_args()
    params = load()
    row = measure(params, given.phase or params.phase, 2 if given.tiny else given.repetitions)
    path = RESULTS / "label_errors.json"
    rows = read_json(path)["rows"] if path.is_file() else []
    others = [old for old in rows if old["study"] != row["study"]]
    save("label_errors", given.tiny, sorted([*others, row], key=lambda one: str(one["study"])))


if __name__ == "__main__":
    main()
