"""Real exports from `retrace inspect` to the report: the study file as it was written, with fewer epochs by `-S`."""

import json
import sys

import pytest

from tests.support.projects import make_project, run

pytestmark = pytest.mark.slow

SEGMENTATION = ("epochs=1", "input_size=[64,64]", "batch_size=4")
DETECTION = ("hyperparameters.epochs=1", "hyperparameters.imgsz=64", "hyperparameters.batch=4")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("aquarium_yolo", DETECTION),
        ("plates_coco", DETECTION),
        ("pothole_yoloseg", None),
        ("labelme_examples", None),
        ("camvid", SEGMENTATION),
        ("indoor_pngmask", SEGMENTATION),
        ("lanenet_sample", SEGMENTATION),
        ("kitti_road", SEGMENTATION),
    ],
)
def test_an_inspected_folder_goes_through_all_six_stages(tmp_path, real_data, name, changes):
    project = make_project(tmp_path / "p")
    for words in (("inspect", str(real_data(name))), ("use", name, "--force")):
        run(project, sys.executable, "-m", "retrace", *words, check=True)
    if changes is None:  # whether it is read as masks or as boxes depends on the polygons
        text = (project / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
        changes = SEGMENTATION if "task: segmentation" in text else DETECTION
    settings = [word for change in changes for word in ("-S", f"phases.baseline.{change}")]
    run(project, "dvc", "exp", "run", *settings, check=True)
    metrics = json.loads((project / f"metrics/{name}/baseline.json").read_text(encoding="utf-8"))
    summary = json.loads((project / f"data/{name}/splits/summary.json").read_text(encoding="utf-8"))
    for split, scores in metrics["splits"].items():
        assert scores["images"] == summary["counts"]["after"][split]["images"] > 0
    assert (project / f"reports/{name}/report.html").is_file()
