"""Real exports from `retrace inspect` to the report: the study file as it was written, with fewer epochs by `-S`.

The large sets in part: tests/unit/test_inspect.py takes the whole ones through the first two stages.
"""

import json
import sys

import pytest

from tests.support.projects import every_fourth, make_project, run

pytestmark = pytest.mark.slow

SEGMENTATION = ("epochs=1", "input_size=[64,64]", "batch_size=4")
DETECTION = ("hyperparameters.epochs=1", "hyperparameters.imgsz=64", "hyperparameters.batch=4")
# how precise the scores and the speed are is not what is tested; keys that the file leaves to their defaults need `++`
QUICK = ("runtime.threads=1", "++evaluate.bootstrap=100", "++evaluate.samples=1", "++evaluate.batch_size=2")

LARGE = ("aquarium_yolo", "camvid", "indoor_pngmask")


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
    data = real_data(name)
    if name in LARGE:
        data = every_fourth(data, tmp_path / name)
    for words in (("inspect", str(data)), ("use", name, "--force")):
        run(project, sys.executable, "-m", "retrace", *words, check=True)
    if changes is None:  # whether it is read as masks or as boxes depends on the polygons
        text = (project / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
        changes = SEGMENTATION if "task: segmentation" in text else DETECTION
    changes = (*QUICK, *(f"phases.baseline.{change}" for change in changes))
    settings = [word for change in changes for word in ("-S", change)]
    run(project, "dvc", "exp", "run", *settings, check=True)
    metrics = json.loads((project / f"metrics/{name}/baseline.json").read_text(encoding="utf-8"))
    summary = json.loads((project / f"data/{name}/splits/summary.json").read_text(encoding="utf-8"))
    for split, scores in metrics["splits"].items():
        assert scores["images"] == summary["counts"]["after"][split]["images"] > 0
    assert (project / f"reports/{name}/report.html").is_file()
