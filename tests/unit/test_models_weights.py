"""Weights in and out: round trips, strict transfers that name tensors, and no trust in files."""

import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from retrace.config.network import DeepLabV3, Dpt, FasterRcnn, Model, Unet
from retrace.config.pretrain import Mae
from retrace.errors import UserError
from retrace.files import sha256_of, write_json
from retrace.models import detection
from retrace.models.build import build
from retrace.models.mae import build_mae
from retrace.models.segmentation import core, encoder_of
from retrace.models.weights import (
    load_encoder,
    load_model,
    load_published,
    load_start,
    read_tensors,
    save_model,
    start_file,
    write_tensors,
)

CLASSES = ("a", "b", "c")
UNET = Unet(architecture="unet", encoder="tu-convnextv2_atto", decoder_channels=(8, 8))
DPT = Dpt(architecture="dpt", encoder="tu-vit_tiny_patch16_224", decoder_channels=(8, 8, 8, 8))
DEEPLAB = DeepLabV3(architecture="deeplabv3", encoder="mobilenet_v3_large")
FASTER = FasterRcnn(architecture="fasterrcnn", encoder="mobilenet_v3_large_fpn", min_size=64, max_size=96)


def made(model: Model, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(model, CLASSES)


def pretrained_encoder(name: str, folder: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(5)
    mae = build_mae(
        Mae(encoder=name, input_size=(64, 64), decoder_dim=32, epochs=1, batch_size=1, optimizer={"lr": 1e-3})
    )
    write_tensors(folder / "encoder.safetensors", mae.encoder.state_dict())
    return mae.encoder, folder / "encoder.safetensors"


@pytest.mark.parametrize(("model", "task"), [(UNET, "segmentation"), (FASTER, "detection")])
def test_a_saved_network_comes_back_and_draws_no_random_numbers(model, task, tmp_path):
    module = made(model, 1)
    save_model(tmp_path, module, model, task, CLASSES, (64, 96), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    state = torch.random.get_rng_state()
    again, config = load_model(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not again.training
    assert config["classes"] == list(CLASSES)
    assert config["input_size"] == [64, 96]
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )
    # the library's own names: loads into the bare network too
    core(made(model, 2)).load_state_dict(load_file(tmp_path / "weights.safetensors"))


def test_the_same_weights_are_the_same_bytes_whatever_their_memory_format(tmp_path):
    module = made(UNET)
    write_tensors(tmp_path / "a.safetensors", module.state_dict())
    write_tensors(tmp_path / "b.safetensors", module.to(memory_format=torch.channels_last).state_dict())
    assert sha256_of(tmp_path / "a.safetensors") == sha256_of(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("encoder", "model"), [("convnextv2_atto", UNET), ("vit_tiny_patch16_224", DPT)])
def test_the_pretrained_encoder_arrives_bit_for_bit(encoder, model, tmp_path):
    source, path = pretrained_encoder(encoder, tmp_path)
    module = made(model, 9)
    before = {name: tensor.clone() for name, tensor in core(module).state_dict().items()}
    assert load_encoder(module, path) == []
    arrived = list(encoder_of(module).model.state_dict().values())
    sent = list(source.state_dict().values())
    assert len(arrived) == len(sent)
    assert all(torch.equal(a, b) for a, b in zip(arrived, sent, strict=True))
    rest = {name: tensor for name, tensor in core(module).state_dict().items() if not name.startswith("encoder.")}
    assert rest and all(torch.equal(tensor, before[name]) for name, tensor in rest.items())


def test_every_tensor_that_does_not_fit_is_named_and_nothing_is_copied(tmp_path):
    _, path = pretrained_encoder("convnextv2_atto", tmp_path)
    tensors = load_file(path)
    tensors["stages.9.odd"] = tensors.pop("stem.0.bias")
    tensors["stem.1.weight"] = torch.zeros(7)
    save_file(tensors, path)
    module = made(UNET)
    before = [tensor.clone() for tensor in module.state_dict().values()]
    with pytest.raises(UserError) as caught:
        load_encoder(module, path)
    text = str(caught.value)
    assert "1 missing: stem.0.bias" in text
    assert "1 not known: stages.9.odd" in text
    assert "stem.1.weight ([7] in the file, [40] in the network)" in text
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def test_another_encoder_is_refused(tmp_path):
    _, path = pretrained_encoder("vit_tiny_patch16_224", tmp_path)
    with pytest.raises(UserError, match="does not fit this network's encoder"):
        load_encoder(made(UNET), path)


def test_a_published_segmentation_network_leaves_only_its_own_heads_behind(tmp_path):
    voc = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    torch.save(voc.state_dict(), tmp_path / "voc.pth")
    module = made(DEEPLAB)
    said = load_published(module, DEEPLAB, tmp_path / "voc.pth")
    assert len(said) == 1
    assert "classifier.4.weight, classifier.4.bias, aux_classifier.0.weight" in said[0]
    ours, theirs = core(module).state_dict(), voc.state_dict()
    same = {name for name in ours if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])}
    assert set(ours) - same == {"classifier.4.weight", "classifier.4.bias"}


def test_the_head_is_kept_when_the_number_of_classes_is_the_same(tmp_path):
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    module = made(DEEPLAB)
    assert load_published(module, DEEPLAB, tmp_path / "a.pt") == []
    assert torch.equal(core(module).classifier[4].weight, theirs.classifier[4].weight)


def test_a_published_detector_leaves_its_box_predictor_and_freezes_as_torchvision(tmp_path):
    coco = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    # published files come from frozen BatchNorm, which counts no batches
    state = {name: tensor for name, tensor in coco.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "coco.pth")
    module = made(FASTER)
    said = load_published(module, FASTER, tmp_path / "coco.pth")
    left = [
        f"roi_heads.box_predictor.{part}.{kind}" for part in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
    ]
    assert all(name in said[0] for name in left)
    assert torch.equal(module.roi_heads.box_head.fc6.weight, coco.roi_heads.box_head.fc6.weight)
    assert detection.frozen_eps(module) == 1e-5
    assert not module.backbone.body["0"][0].weight.requires_grad

    folder = tmp_path / "phase"
    save_model(folder, module, FASTER, "detection", CLASSES, (64, 64), (0.5,) * 3, (0.5,) * 3)
    images = [torch.rand(3, 64, 64)]
    again, _ = load_model(folder)
    with torch.no_grad():
        assert torch.equal(again(images)[0]["scores"], module.eval()(images)[0]["scores"])
    child = made(FASTER, 3)
    load_start(child, FASTER, folder, "child")
    assert detection.frozen_eps(child) == 1e-5
    assert not child.backbone.body["0"][0].weight.requires_grad


def test_classifiers_give_their_features_and_keep_their_heads(tmp_path):
    torch.manual_seed(3)
    backbone = mobilenet_v3_large(weights=None)
    torch.save(backbone.state_dict(), tmp_path / "imagenet.pth")
    module = made(DEEPLAB)
    said = load_published(module, DEEPLAB, tmp_path / "imagenet.pth")
    assert "classifier.0.weight" in said[0]
    assert torch.equal(core(module).backbone["0"][0].weight, backbone.features[0][0].weight)
    detector = made(FASTER)
    load_published(detector, FASTER, tmp_path / "imagenet.pth")
    assert torch.equal(detector.backbone.body["0"][0].weight, backbone.features[0][0].weight)

    convnext = timm.create_model("convnextv2_atto", pretrained=False)
    save_file({f"module.{name}": tensor for name, tensor in convnext.state_dict().items()}, tmp_path / "c.safetensors")
    module = made(UNET)
    said = load_published(module, UNET, tmp_path / "c.safetensors")
    assert "head.fc.weight" in said[0]
    assert torch.equal(encoder_of(module).model.stem_0.weight, convnext.stem[0].weight)


def test_an_encoder_file_of_segmentation_models_pytorch(tmp_path):
    model = Unet(architecture="unet", encoder="resnet18", decoder_channels=(8, 8))
    source = made(model, 4)
    save_file(encoder_of(source).state_dict() | {"fc.weight": torch.zeros(2)}, tmp_path / "resnet18.safetensors")
    module = made(model, 8)
    assert "left out fc.weight" in load_published(module, model, tmp_path / "resnet18.safetensors")[0]
    pairs = zip(encoder_of(module).state_dict().values(), encoder_of(source).state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("save", [lambda v, p: torch.save(v, p), lambda v, p: p.write_bytes(pickle.dumps(v))])
def test_nothing_but_tensors_is_unpickled(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save({"weight": Trap()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="evil.pt"):
        read_tensors(tmp_path / "evil.pt")
    assert not Path("trapped").exists()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.bin", b"x", "must be a .safetensors, .pth or .pt file"),
        ("a.safetensors", b"not tensors at all", "cannot be read as weights"),
        ("a.pth", b"PK\x03\x04 cut off", "a.pth"),
        ("a.pt", b"", "a.pt"),
    ],
)
def test_damaged_files_are_refused_in_one_line(name, content, text, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=text) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        read_tensors(tmp_path / "a.pt")


def test_the_start_of_a_phase_is_its_own_file_before_the_common_one(tmp_path):
    for key in ("all", "one"):
        (tmp_path / f"{key}.pt").write_bytes(key.encode())
    files = {key: {"file": f"{key}.pt", "sha256": sha256_of(tmp_path / f"{key}.pt")} for key in ("all", "one")}
    write_json(tmp_path / "start.json", {"method": "weights", "files": files})
    assert start_file(tmp_path, "one").name == "one.pt"
    assert start_file(tmp_path, "two").name == "all.pt"
    (tmp_path / "all.pt").write_bytes(b"changed")
    with pytest.raises(UserError, match="changed since"):
        start_file(tmp_path, "two")
    write_json(tmp_path / "start.json", {"method": "weights", "files": {"one": files["one"]}})
    with pytest.raises(UserError, match="neither 'two' nor 'all'"):
        start_file(tmp_path, "two")
