"""What fits which card: the committed figures, the table and the comments made from them, and how they are counted."""

import pytest
import torch
from torch import nn

from benchmarks.gpu.counting import SINGLE, measure
from benchmarks.gpu.fits import comment, trainings, with_comment, with_table
from retrace.cli.use import render
from retrace.config.load import parse
from retrace.config.reading import yaml_mapping
from retrace.documents.gpu import CARDS, GpuNeeds, needed_gib
from tests.support.projects import ROOT

STUDIES = ("lanes", "offroad", "slopes", "bdd100k", "plates")


@pytest.fixture(scope="module")
def needs():
    return GpuNeeds.read(ROOT / "studies/gpu.json")


def full(study):
    return parse(yaml_mapping(render(study, demo=False), study), study)


def test_every_training_has_its_row_and_fits_a_card_of_16_gb(needs):
    for study in STUDIES:
        params = full(study)
        named = {training for of, training in trainings(needs) if of == study}
        assert named == {*params.phases, *(["pretrain"] if params.pretrain.method == "mae" else [])}
        for name in named:
            need = needs.fitting(study, name, CARDS[16])
            assert need is not None and need.as_in_study
            block = params.pretrain.mae if name == "pretrain" else params.phases[name]
            if name != "pretrain" and block.engine == "ultralytics":
                assert need.batch_size == block.hyperparameters.batch
            else:
                assert (need.batch_size, need.accumulate) == (block.batch_size, getattr(block, "accumulate", 1))
            for gib in CARDS.values():
                assert needs.fitting(study, name, gib) is not None


def test_the_images_of_a_step_are_the_same_on_every_card(needs):
    for study, name in trainings(needs):
        rows = needs.of(study, name)
        accumulating = [row for row in rows if row.accumulate > 1]
        assert len({row.batch_size * row.accumulate for row in accumulating}) <= 1
        assert [row.needed_gib for row in rows] == sorted([row.needed_gib for row in rows], reverse=True)
        for row in rows:
            assert row.needed_gib == round(needed_gib(row.tensors_mib), 2)


def test_the_page_and_the_study_files_are_made_from_the_figures(needs):
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    assert with_table(page, needs) == page and page.count("computed |") == len(trainings(needs))
    for study in STUDIES:
        text = (ROOT / f"studies/{study}.yaml").read_text(encoding="utf-8")
        assert with_comment(text, needs, study) == text and comment(needs, study) in text


def test_the_demo_of_plates_trains_resnet50_without_accumulating():
    demo = parse(yaml_mapping(render("plates", demo=True), "plates"), "plates").phases["resnet50"]
    study = full("plates").phases["resnet50"]
    assert (demo.batch_size, demo.accumulate) == (4, 1)
    assert study.batch_size * study.accumulate == full("plates").phases["mobilenet"].batch_size


def test_counting_by_hand():
    """A layer of 2^20 weights on 4,096 rows. At the peak, in the backward pass, three tensors are alive: the input and
    the gradient of the output, 16 MiB each, and the gradient of the weights."""

    def step(accumulate):
        layer = nn.Linear(1024, 1024, bias=False)
        return measure(layer, lambda model: model(torch.empty(4096, 1024)).sum(), states=2, accumulate=accumulate)

    once, twice = step(1), step(2)
    assert once.static_mib == 4 + 2 * 4  # the weights and two states of each
    assert once.peak_mib == 16 + 16 + 4
    assert twice.peak_mib == 16 + 16 + 4 + 4, "the second batch meets the gradients of the first"
    assert (
        twice.seconds > once.seconds > 2 * 4096 * 2**20 * 2 / SINGLE
    )  # forward and the gradient of the weights, float32


def test_a_larger_batch_takes_more():
    def step(batch):
        network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3))
        return measure(network, lambda model: model(torch.empty(batch, 3, 128, 128)).sum(), states=1)

    one, four = step(1), step(4)
    assert 3 < four.peak_mib / one.peak_mib < 4.5 and one.static_mib == four.static_mib
