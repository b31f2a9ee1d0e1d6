"""The detection studies through DVC at tiny size: every phase trains and is scored, and two clones agree to the bit."""

import pytest

from tests.support.projects import make_project, out_hashes, run, tiny_params
from tests.support.warm import FRESH

pytestmark = pytest.mark.slow
EVALUATED = ("evaluate",)  # with all that it needs; the report quotes times


@pytest.mark.parametrize(
    ("study", "best"),
    [
        ("slopes", ["baseline/best.pt", "toe_drain/best.pt"]),
        ("plates", ["mobilenet/weights.safetensors", "resnet50/weights.safetensors", "yolo/best.pt"]),
    ],
)
def test_two_clones_with_empty_caches_give_the_same_bytes(tmp_path, study, best):
    hashes = []
    for name, environment in (("one", {}), ("another/place", FRESH)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        project = make_project(tmp_path / name, tiny_params(study))
        run(project, "dvc", "repro", *EVALUATED, check=True, env=environment)
        hashes.append(out_hashes(project))
        for path in best:
            assert (project / "models" / study / path).is_file()
        assert not [path for path in (project / "data").rglob("*") if path.suffix in (".cache", ".npy")]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4 + 3 * len(best)  # raw, splits, pretrain, none; per phase model, metrics and its folder
