"""Random numbers of one sample: from its seed alone, and felt by nothing else."""

from pathlib import Path

import pytest
import torch

from retrace.config.phases import Augment, SegmentationAugment
from retrace.config.pretrain import Mae
from retrace.data.detection_loading import DetectionTraining
from retrace.data.loading import Room, SegmentationTraining
from retrace.data.manifest import read_manifest
from retrace.models.mae_images import MaskedImages
from retrace.seeds import drawn_from
from tests.support.fixtures_detection import make_shapes
from tests.support.fixtures_training import make_boxes
from tests.support.helpers_models import MAE


def segmentation(folder):
    manifest = read_manifest(make_boxes(folder) / "data/boxes/raw")
    return SegmentationTraining(
        manifest, sorted(manifest.records), (32, 48), SegmentationAugment(flip=0.5, color=0.5), 5, Room(2**30)
    )


def detection(folder):
    project = make_shapes(folder)
    manifest = read_manifest(project / "data/shapes/raw")
    ids = Path(project, "data/shapes/splits/train.txt").read_text().split()
    return DetectionTraining(manifest, ids, (64, 96), Augment(flip=0.5, color=0.1), (48, 80), 128, 5, Room(2**30))


def pretraining(folder):
    manifest = read_manifest(make_boxes(folder) / "data/boxes/raw")
    return MaskedImages(manifest, sorted(manifest.records), Mae(**MAE), 32, 5, Room(2**30))


@pytest.mark.parametrize("make", [segmentation, detection, pretraining])
def test_a_sample_touches_no_generator_not_even_an_accelerators(make, tmp_path, monkeypatch):
    """One process without workers makes its samples itself: a GPU's dropout must not tell it from one with workers."""
    samples = make(tmp_path / "project")
    seeded = []
    for device in (torch.cuda, torch.xpu, torch.mps):
        monkeypatch.setattr(device, "manual_seed_all", seeded.append, raising=False)
        monkeypatch.setattr(device, "manual_seed", seeded.append)
    state = torch.random.get_rng_state()
    first = samples[1, 0][0]
    assert torch.equal(state, torch.random.get_rng_state())
    assert seeded == []
    torch.rand(3)
    assert torch.equal(first, samples[1, 0][0])


def test_the_block_draws_what_its_seed_gives_and_is_left_as_if_nothing_had_been():
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(1)
    before, after = torch.rand(2), torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), before)
    with drawn_from(7):
        assert torch.equal(torch.rand(4), expected)
    assert torch.equal(torch.rand(2), after)
