"""`retrace score` against pycocotools, by hand, and with everything that can be wrong in a file."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as official_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from retrace.scoring.question import Options
from retrace.scoring.reading import ask

SIZE = (120, 90)


def official(truth, results, kind):
    """AP, AP50, AP75, AR and AP by class of pycocotools, NaN where it says -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = json.loads(json.dumps(truth))
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(json.loads(json.dumps(results))), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    found = {name: run.stats[place] for name, place in (("AP", 0), ("AP50", 1), ("AP75", 2), ("AR", 8))}
    for place, category in enumerate(truth["categories"]):
        precision = run.eval["precision"][:, :, place, 0, -1]
        found[f"AP/{category['name']}"] = precision[precision > -1].mean() if (precision > -1).any() else -1
    if kind == "segm":
        found |= {"AP_small": run.stats[3], "AP_medium": run.stats[4], "AP_large": run.stats[5]}
    return {name: np.nan if value == -1 else value for name, value in found.items()}


def random_set(seed, masks=False):
    """A truth with crowds, and results that are near, misplaced, of another class, tied, and sometimes too many."""
    random = np.random.default_rng(seed)
    classes, width, height = int(random.integers(1, 5)), *SIZE
    images = random.permutation(np.arange(1, int(random.integers(2, 12))))
    truth = {
        "images": [{"id": int(one), "file_name": f"{one}.jpg", "width": width, "height": height} for one in images],
        "annotations": [],
        "categories": [{"id": int(one), "name": f"class {one}"} for one in random.permutation(classes) * 3 + 1],
    }
    truth["categories"].sort(key=lambda row: row["id"])
    kinds = [row["id"] for row in truth["categories"]]
    results = []
    for image in truth["images"]:
        for _ in range(random.integers(0, 6)):
            w, h = np.exp(random.uniform(np.log(4), np.log(70), 2))
            x, y = random.uniform(0, width - w), random.uniform(0, height - h)
            category, crowd = int(random.choice(kinds)), int(random.random() < 0.15)
            row = {"id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": category}
            box = [round(float(value), 2) for value in (x, y, w, h)]
            truth["annotations"].append(row | _shaped(box, crowd, random, masks) | {"iscrowd": crowd})
            for _ in range(random.integers(0, 4)):
                near = (np.array(box) + random.normal(0, 0.1, 4) * [w, h, w, h]).clip(1).round(2)
                category = int(random.choice(kinds)) if random.random() < 0.2 else category
                results.append(_result(image["id"], category, near.tolist(), random, masks))
        for _ in range(random.integers(0, 5) if random.random() < 0.95 else 130):
            far = [*random.uniform(0, 60, 2).round(2).tolist(), *random.uniform(3, 50, 2).round(2).tolist()]
            results.append(_result(image["id"], int(random.choice(kinds)), far, random, masks))
    order = random.permutation(len(results))
    return truth, [results[place] for place in order]


def _shaped(box, crowd, random, masks):
    if not masks:
        return {"bbox": box, "area": box[2] * box[3]}
    x, y, w, h = box
    area = round(w * h * random.uniform(0.5, 1), 2)
    if crowd:
        rle = _rle(box)
        return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}, "bbox": box, "area": area}
    return {"segmentation": [[x, y, x + w, y, x + w, y + h, x + w / 2, y + h / 2, x, y + h]], "bbox": box, "area": area}


def _rle(box):
    pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
    x, y, w, h = (int(value) for value in box)
    pixels[y : y + h + 1, x : x + w + 1] = 1
    return official_mask.encode(pixels)


def _result(image, category, box, random, masks):
    row = {"image_id": image, "category_id": category, "score": round(float(random.random()), 1)}
    if not masks:
        return row | {"bbox": box}
    rle = _rle(box)
    return row | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [folder / f"{name}.json" for name in files]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_equal_pycocotools_on_200_random_sets(tmp_path, kind):
    compared = 0
    for seed in range(200):
        truth, results = random_set(seed, masks=kind == "segm")
        if not results or all(row["iscrowd"] for row in truth["annotations"]):
            continue
        expected = official(truth, results, kind)
        first, second = write(tmp_path, truth=truth, a=results)
        question = ask(first, [second], Options(masks=kind == "segm"))
        found = question.answers[0].statistic(np.ones((1, len(question.images))))
        mine = {name: float(found[name][0]) for name in expected}
        assert mine == pytest.approx(expected, abs=1e-12, rel=0, nan_ok=True), seed
        compared += 1
    assert compared > 180
