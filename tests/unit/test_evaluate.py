"""`evaluate` on a small hand-made project: what it writes is what an independent reading of the shipped files gives."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import confusion_matrix as sk_confusion

from retrace.cli.predict import predict
from retrace.config import merge
from retrace.config.load import load, parse
from retrace.config.network import UnetClassic
from retrace.data.splits import write_list
from retrace.documents.manifest import Record, write_records
from retrace.evaluation import error_pictures
from retrace.evaluation.error_pictures import chosen_cells, chosen_classes, draw_masks
from retrace.models.build import build
from retrace.models.predict import load_predictor
from retrace.models.weights import save_model
from stages import evaluate
from tests.support.fixtures_documents import training

CLASSES = ["Background", "White Solid", "White Dashed"]
PARAMS = {
    "study": "lanes",
    "task": "segmentation",
    "phase": "baseline",
    "seed": 3,
    "classes": CLASSES,
    "data": {
        "root": "data/external/lanes",
        "source": {
            "kind": "masks",
            "images": "images",
            "masks": "masks",
            "values": {"Background": [0], "White Solid": [1], "White Dashed": [2]},
            "split": {"by": "ratio", "val": 0.2, "test": 0.2},
        },
    },
    "phases": {
        name: {
            "init": "none",
            "model": {"architecture": "unet_classic", "width": 4},
            "input_size": [32, 48],
            "epochs": 1,
            "batch_size": 2,
            "optimizer": {"lr": 0.1},
            "monitor": "mIoU",
        }
        for name in ("baseline", "second")
    },
    "evaluate": {"bootstrap": 100, "min_reliable": 2, "samples": 1, "batch_size": 2},
    "report": {"title": "test", "focus_classes": ["White Solid", "White Dashed"], "colors": {"White Solid": "#ff0000"}},
    "runtime": {"threads": 1},
    "machine": {"device": "cpu"},
}
SIZES = [(50, 70), (64, 96), (64, 96), (33, 90), (64, 96)]  # native sizes differ
SPLITS = {"train": ["a0", "a3"], "val": ["a0", "a1", "a2"], "test": ["a3", "a4"]}


def set_params(root: Path, **changes) -> None:
    values = merge(PARAMS, changes)
    parse(dict(values))
    (root / "params.yaml").write_text(json.dumps(values))  # JSON is YAML


def make_data(root: Path) -> None:
    random = np.random.default_rng(3)
    raw = root / "data/lanes/raw"
    records = []
    for index, (height, width) in enumerate(SIZES):
        image_id = f"a{index}"
        mask = np.zeros((height, width), np.uint8)
        mask[height // 2 :, : width // 3] = 1  # class 2 is in no truth
        mask[:4] = 255
        image = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        image[mask == 1] //= 4
        for folder, array in (("images", image), ("masks", mask)):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(raw / folder / f"{image_id}.png")
        sums = [
            hashlib.sha256((raw / folder / f"{image_id}.png").read_bytes()).hexdigest()
            for folder in ("images", "masks")
        ]
        row = {
            "sha256": sums[0],
            "mask_sha256": sums[1],
            "phash": f"{index:x}" * 16,
            "group": image_id,
            "split": "val",
            "source": image_id,
        }
        records.append(
            Record(image_id, f"images/{image_id}.png", f"masks/{image_id}.png", width=width, height=height, **row)
        )
    write_records(raw / "manifest.jsonl", records)
    for split, ids in SPLITS.items():
        write_list(root / "data/lanes/splits", split, ids)


def make_model(folder: Path) -> None:
    model = UnetClassic(architecture="unet_classic", width=4)
    torch.manual_seed(1)
    network = build(model, CLASSES)
    folder.mkdir(parents=True)
    save_model(folder, network, model, "segmentation", CLASSES, (32, 48), (0.4, 0.5, 0.5), (0.2, 0.2, 0.3))
    training(best_epoch=2, best_value=0.5).write(folder / "train.json")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    make_model(tmp_path / "models/lanes/baseline")
    set_params(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run_again(project: Path, **changes) -> dict[str, str]:
    shutil.rmtree(project / "metrics", ignore_errors=True)
    set_params(project, **changes)
    evaluate.main("baseline")
    return tree(project / "metrics")


def test_scores_are_those_of_the_shipped_file(project):
    evaluate.main("baseline")
    found = json.loads((project / "metrics/lanes/baseline.json").read_text())
    folder = project / "metrics/lanes/baseline"

    # again, by other means: PIL, the network straight from its tensors, scikit-learn
    predictor = load_predictor(project / "models/lanes/baseline", torch.device("cpu"))
    matrices = []
    for image_id in SPLITS["val"]:
        image = Image.open(project / f"data/lanes/raw/images/{image_id}.png")
        truth = np.asarray(Image.open(project / f"data/lanes/raw/masks/{image_id}.png"))
        small = torch.from_numpy(np.asarray(image.resize((48, 32), Image.Resampling.BILINEAR)).copy())
        pixels = small.permute(2, 0, 1)[None] / 255
        pixels = (pixels - torch.tensor([0.4, 0.5, 0.5]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.2, 0.3]).view(
            1, 3, 1, 1
        )
        with torch.no_grad():
            logits = F.interpolate(predictor.network(pixels), truth.shape, mode="bilinear")
        guess = logits.argmax(1)[0].numpy()
        matrices.append(sk_confusion(truth[truth != 255], guess[truth != 255], labels=range(3)))
    stored = np.load(folder / "confusion_val.npy")
    assert stored.dtype == np.int64
    np.testing.assert_array_equal(stored, matrices)
    val = found["splits"]["val"]
    total = sum(matrices)
    assert val["confusion"] == total.tolist() and val["images"] == 3
    assert val["pixel_accuracy"]["value"] == pytest.approx(np.trace(total) / total.sum())
    assert val["per_class"]["White Dashed"]["IoU"]["value"] is None
    assert val["per_class"]["White Solid"]["images"] == 3 and val["per_class"]["White Solid"]["reliable"]
    assert val["focus_mIoU"]["value"] == val["per_class"]["White Solid"]["IoU"]["value"]
    for name in ("mIoU", "balanced_accuracy"):
        assert val[name]["value"] is not None and val[name]["low"] is None  # three images

    weights = (project / "models/lanes/baseline/weights.safetensors").read_bytes()
    expected = {"file": "weights.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    assert found["weights"] == expected and found["training"]["best_epoch"] == 2
    assert found["parameters"] == sum(p.numel() for p in predictor.network.parameters())
    assert (folder / "images_test.txt").read_text().split() == SPLITS["test"]


def test_what_a_predicted_mask_weighs_and_which_classes_it_uses(project):
    """The figures are those of the files that `retrace predict` writes for the same images."""
    evaluate.main("baseline")
    splits = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]
    sizes, used = [], set()
    for image_id in SPLITS["val"]:
        image = project / f"data/lanes/raw/images/{image_id}.png"
        predict(load(project / "params.yaml"), image, "baseline", 1, None, project / "out")
        mask = project / f"out/{image_id}_mask.png"
        sizes.append(mask.stat().st_size)
        used |= set(np.unique(np.asarray(Image.open(mask))))
    found = splits["val"]["masks"]
    assert (found["bytes_total"], found["classes_used"]) == (sum(sizes), len(used))
    assert found["bytes_median"] == sorted(sizes)[1]
    assert found["bytes_mean"]["value"] == pytest.approx(sum(sizes) / 3)
    assert found["bytes_mean"]["low"] is None  # three images are too few for an interval
    assert splits["test"]["masks"]["bytes_total"] != found["bytes_total"]


def test_sample_pictures_are_listed_and_exist(project):
    evaluate.main("baseline")
    folder = project / "metrics/lanes/baseline"
    samples = json.loads((folder / "samples.json").read_text())
    assert [(s["split"], s["kind"]) for s in samples[:3]] == [("val", "best"), ("val", "median"), ("val", "worst")]
    assert samples[0]["score"] >= samples[1]["score"] >= samples[2]["score"]
    assert len({s["id"] for s in samples if s["split"] == "val"}) == 3  # none shown twice
    assert {s["file"] for s in samples} == {f"samples/{p.name}" for p in (folder / "samples").iterdir()}
    with Image.open(folder / samples[0]["file"]) as picture:
        assert picture.format == "JPEG" and picture.height == SIZES[int(samples[0]["id"][1])][0]


def test_pictures_of_errors_show_the_images_with_the_most_of_each_error(project):
    """Their cells, images and counts are those of the stored confusion matrices."""
    run_again(project, evaluate={"samples": 2})
    folder = project / "metrics/lanes/baseline"
    rows = [row for row in json.loads((folder / "errors.json").read_text()) if row["split"] == "val"]
    matrices, ids = np.load(folder / "confusion_val.npy"), (folder / "images_val.txt").read_text().split()
    cells = {}
    for row in rows:
        cells.setdefault((CLASSES.index(row["truth"]), CLASSES.index(row["predicted"])), []).append(row)
    total = matrices.sum(0)
    beside = {cell for cell in np.ndindex(3, 3) if cell[0] != cell[1] and total[cell]}
    assert beside and beside == {cell for cell in cells if cell[0] != cell[1]}
    for (truth, given), shown in cells.items():
        if truth == given:
            counts = matrices[:, truth].sum(1) + matrices[:, :, truth].sum(1) - 2 * matrices[:, truth, truth]
        else:
            counts = matrices[:, truth, given]
        assert [row["pixels"] for row in shown] == sorted((n for n in counts.tolist() if n), reverse=True)[:2]
        assert all(counts[ids.index(row["id"])] == row["pixels"] for row in shown)
    assert {row["file"] for row in rows} == {f"errors/{path.name}" for path in (folder / "errors").glob("val_*")}


def test_marks_of_an_error_lie_where_the_error_is(tmp_path, monkeypatch):
    """A thin error is still seen in a picture a tenth as large."""
    image = np.full((1000, 1500, 3), 120, np.uint8)
    truth, predicted = np.zeros((2, 1000, 1500), np.uint8)
    truth[100:900, 200:203] = 1  # missed
    predicted[400:600, 900:1200] = 1  # wrongly given
    monkeypatch.setattr(error_pictures, "Images", lambda manifest, ids: [(image, truth, "wide")])
    params = SimpleNamespace(classes=["other", "thing"], evaluate=SimpleNamespace(samples=1))
    work = SimpleNamespace(params=params, manifest=None, predict=lambda images: [predicted], folder=tmp_path)
    counts = np.bincount(2 * truth.ravel() + predicted.ravel(), minlength=4).reshape(1, 2, 2)
    rows = draw_masks(work, "val", ["wide"], counts)
    assert next(row for row in rows if row.truth == row.predicted == "thing").file == "errors/val_1_1_1.jpg"
    shown = np.asarray(Image.open(tmp_path / "errors/val_1_1_1.jpg")).astype(int)
    assert shown.shape == (160, 240, 3)  # what a gallery shows
    red, _, blue = (shown[:, :, place] for place in range(3))
    assert (red - 120)[20:140, 32].min() > 30 and (red - 120)[:, 60:140].max() < 30
    assert (blue - red)[66:94, 146:190].min() > 100 and (blue - red)[:60, 140:].max() < 30


def test_cells_with_the_largest_shares_are_chosen():
    counts = np.array([[90, 10, 0], [1, 1, 0], [0, 0, 7]])
    assert chosen_cells(counts) == [(1, 0), (0, 1)]
    assert chosen_classes(np.array([11, 11, 0]), np.array([101, 12, 7])) == [(1, 1), (0, 0)]
    many = np.ones((40, 40), int)
    assert len(chosen_cells(many)) == 24 == len(chosen_classes(np.ones(40, int), np.ones(40, int)))


def test_outs_are_the_same_on_every_run_and_for_any_worker_count(project):
    first = run_again(project)
    assert run_again(project, machine={"workers": 2}) == first
    errors = sum("errors/" in name for name in first)
    assert errors > 0
    assert len(first) - errors == 1 + 2 * 3 + 2 + 5  # json; ids, units and confusions; two lists of pictures; samples


def test_batch_size_does_not_change_the_scores(project):
    run_again(project, evaluate={"batch_size": 1})
    alone = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]
    run_again(project, evaluate={"batch_size": 4})
    together = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]
    assert alone == together


def test_speed_goes_to_the_logs_only(project):
    evaluate.main("baseline")
    speed = json.loads((project / "logs/lanes/baseline/speed.json").read_text())
    assert 0 < speed["latency_ms_low"] <= speed["latency_ms"] <= speed["latency_ms_high"]
    assert speed["images_per_second"] > 0 and speed["runs"] >= 5 and speed["input_size"] == [32, 48]
    assert "latency" not in (project / "metrics/lanes/baseline.json").read_text()
    assert json.loads((project / "logs/lanes/baseline/evaluate.json").read_text())["status"] == "SUCCESS"


def test_images_without_truth_and_empty_splits(project, capsys):
    manifest = project / "data/lanes/raw/manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"masks/a3.png"', "null").replace('"masks/a4.png"', "null"))
    evaluate.main("baseline")
    assert "test: 2 of 2 images have no mask" in capsys.readouterr().out
    test = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]["test"]
    assert test["images"] == 0 and test["mIoU"]["value"] is None
    assert test["masks"]["bytes_mean"]["value"] is None and test["masks"]["bytes_total"] == 0


def weights_of(root: Path) -> Path:
    return root / "models/lanes/baseline/weights.safetensors"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda root: None, "allowed: baseline, second"),
        (lambda root: weights_of(root).unlink(), "weights.safetensors"),
        (lambda root: weights_of(root).write_bytes(b"x" * 90), "weights.safetensors"),
        (lambda root: set_params(root, machine={"device": "mps"}), "machine.device = 'mps'"),
        (lambda root: (root / "data/lanes/splits/val.txt").unlink(), "val.txt"),
    ],
)
def test_wrong_input_is_one_message_and_no_half_written_out(project, capsys, damage, message):
    damage(project)
    with pytest.raises(SystemExit) as stopped:
        evaluate.main("nonsense" if "allowed" in message else "baseline")
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and message in error and "Traceback" not in error
    assert not list((project / "metrics").rglob("*")) if (project / "metrics").exists() else True


def test_model_of_other_classes_is_refused(project, capsys):
    config = project / "models/lanes/baseline/model.json"
    config.write_text(config.read_text().replace("White Solid", "Yellow"))
    with pytest.raises(SystemExit):
        evaluate.main("baseline")
    assert "trained for other classes" in capsys.readouterr().err


def test_images_of_one_group_and_near_duplicates_are_one_unit(project):
    raw = project / "data/lanes/raw"
    rows = [json.loads(line) for line in (raw / "manifest.jsonl").read_text().splitlines()]
    rows[1]["group"] = rows[0]["group"] = "drive"
    rows[2]["phash"] = rows[3]["phash"][:-1] + "2"  # one bit apart; a3 is in test
    rows[4]["phash"] = rows[3]["phash"]
    (raw / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def units(split, **options):
        run_again(project, evaluate=options)
        document = json.loads((project / "metrics/lanes/baseline.json").read_text())
        names = (project / f"metrics/lanes/baseline/units_{split}.txt").read_text().split()
        assert len(set(names)) == document["splits"][split]["units"]
        return names

    assert units("val") == ["a0", "a0", "a2"]
    assert units("test") == ["a2", "a2"]  # a3 resembles a2, and a4 is its copy
    assert units("test", unit="group") == ["a3", "a4"] and units("val", unit="group") == ["a0", "a0", "a2"]
    assert units("val", unit="image") == ["a0", "a1", "a2"]


def test_the_floor_stands_beside_every_score(project):
    evaluate.main("baseline")
    val = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]["val"]
    assert set(val["floor"]) == {"mIoU", "focus_mIoU", "pixel_accuracy", "balanced_accuracy"}
    for row in (*val["floor"].values(), val["per_class"]["Background"]["floor"]):
        assert 0 < row["value"] < 1 and row["beaten"] is None and row["answer"]
    assert val["per_class"]["White Dashed"]["floor"]["value"] is None


def test_boundaries_are_scored_where_they_are_asked_for(project):
    run_again(project)
    plain = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]["val"]
    assert "mean_boundary_F1" not in plain and "boundary_F1" not in plain["per_class"]["Background"]
    found = []
    for tolerance, unit in ((3.0, "pixels"), (200.0, "pixels"), (1.0, "diagonal")):
        run_again(project, evaluate={"boundary": {"tolerance": tolerance, "unit": unit}})
        val = json.loads((project / "metrics/lanes/baseline.json").read_text())["splits"]["val"]
        counts = np.load(project / "metrics/lanes/baseline/boundary_val.npy")
        assert counts.shape == (3, 3, 4) and val["mIoU"] == plain["mIoU"]
        assert val["per_class"]["White Dashed"]["boundary_F1"]["value"] is None
        found.append(val["mean_boundary_F1"]["value"])
    assert 0 <= found[0] <= found[1] == found[2]
