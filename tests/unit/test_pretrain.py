"""Stage pretrain through its entry point: what it writes, that it repeats, survives an interruption, and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from retrace.cli.use import use
from retrace.config.load import load
from retrace.config.network import UnetClassic
from retrace.config.pretrain import Mae
from retrace.data.loading import Room
from retrace.files import sha256_of
from retrace.models.build import build
from retrace.models.mae_images import MaskedImages
from retrace.models.segmentation import encoder_of
from retrace.models.weights import load_start
from retrace.training.checkpoints import Scratch
from stages import pretrain
from tests.support.helpers_models import MAE, network, study, write_images
from tests.support.projects import ROOT

PRETRAIN = Path("models/toy/pretrain")
STUDY_NAMES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml") if "." not in path.stem)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with images, made the working folder; deterministic mode is switched off afterwards."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, {"train": 3, "unlabeled": 3, "val": 2, "test": 1})
    threads = torch.get_num_threads()
    yield tmp_path
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run(block, **changes) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(study(block, **changes)), encoding="utf-8")
    pretrain.main()


def hashes() -> dict[str, str]:
    return {str(path): sha256_of(path) for path in sorted(Path("models").rglob("*")) if path.is_file()}


def test_mae_writes_its_encoder_and_says_whether_it_learned(project, no_network):
    run({"method": "mae", "mae": MAE})
    start = json.loads((PRETRAIN / "start.json").read_text())
    assert start["images"] == 6  # unlabeled and train; val and test are never seen
    assert (start["method"], start["encoder"], start["epochs"]) == ("mae", "convnextv2_atto", 2)
    rows = [line.split(",") for line in (PRETRAIN / "history.csv").read_text().splitlines()]
    assert rows[0] == ["epoch", "loss", "lr"]
    assert [row[0] for row in rows[1:]] == ["1", "2"]
    assert float(rows[1][1]) == pytest.approx(start["first_loss"], rel=1e-6)
    assert float(rows[2][1]) == pytest.approx(start["last_loss"], rel=1e-6)
    assert start["decreased"] is (start["last_loss"] < start["first_loss"])
    assert start["files"]["all"]["sha256"] == sha256_of(PRETRAIN / "encoder.safetensors")
    assert json.loads(Path("models/toy/none/start.json").read_text())["method"] == "none"
    assert not list(Path(".retrace").rglob("*.ckpt"))

    pictures = sorted((PRETRAIN / "reconstructions").glob("*.png"))
    assert [path.name for path in pictures] == ["1.png", "2.png", "3.png", "4.png"]
    strip = np.asarray(Image.open(pictures[0]))
    assert strip.shape == (64, 3 * 96 + 8, 3)
    image, masked, painted = strip[:, :96], strip[:, 100:196], strip[:, 200:]
    hidden = (masked == 128).all(axis=2).reshape(2, 32, 3, 32).all(axis=(1, 3))
    assert hidden.sum() == round(0.6 * 6)
    shown = ~hidden.repeat(32, 0).repeat(32, 1)
    assert (image[shown] == masked[shown]).all()
    assert (np.abs(image[shown].astype(int) - painted[shown]) <= 1).all()

    block = {"architecture": "unet", "encoder": "tu-convnextv2_atto", "decoder_channels": [8, 8]}
    module = build(network(block), ["a", "b"])
    load_start(module, network(block), PRETRAIN, "one")
    sent = load_file(PRETRAIN / "encoder.safetensors")
    assert torch.equal(encoder_of(module).model.stem_0.weight, sent["stem.0.weight"])


def test_a_repeated_and_an_interrupted_run_give_the_same_files(project, monkeypatch):
    run({"method": "mae", "mae": MAE})
    whole = hashes()

    class Killed(BaseException):
        pass

    save = Scratch.save

    def save_and_die(self, epoch, state):
        save(self, epoch, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Scratch, "save", save_and_die)
        with pytest.raises(Killed):
            run({"method": "mae", "mae": MAE})
    assert hashes() == whole  # the old outs are still whole
    epochs = []
    with monkeypatch.context() as patch:
        patch.setattr(Scratch, "save", lambda self, epoch, state: (epochs.append(epoch), save(self, epoch, state)))
        run({"method": "mae", "mae": MAE})
    assert epochs == [2]  # it went on and did not start over
    assert hashes() == whole


def test_crops_and_masks_follow_from_seed_epoch_and_index_alone(project):
    from retrace.data.manifest import read_manifest

    ids = ["train_0", "train_1", "unlabeled_0"]
    mae, manifest = Mae(**MAE), read_manifest(Path("data/toy/raw"))
    one = MaskedImages(manifest, ids, mae, 32, 3, Room(2**30))
    two = MaskedImages(manifest, ids, mae, 32, 3, Room(2**30))
    wanted = [(2, 1), (1, 0), (1, 2)]
    torch.manual_seed(1)
    first = {key: one[key] for key in wanted}
    torch.manual_seed(2)
    second = {key: two[key] for key in reversed(wanted)}
    for key in wanted:
        assert torch.equal(first[key][0], second[key][0])
        assert torch.equal(first[key][1], second[key][1])
        assert first[key][0].shape == (3, 64, 96)
    assert not torch.equal(one[1, 1][0], first[2, 1][0])
    assert any(not torch.equal(one[epoch, 1][1], first[2, 1][1]) for epoch in (3, 4, 5))
    assert not torch.equal(MaskedImages(manifest, ids, mae, 32, 4, Room(2**30))[2, 1][0], first[2, 1][0])


def test_none_leaves_every_phase_at_random(project):
    run({"method": "none"})
    start = json.loads((PRETRAIN / "start.json").read_text())
    assert start == json.loads(Path("models/toy/none/start.json").read_text())
    assert start["files"] == {}
    block = UnetClassic(architecture="unet_classic", width=4)
    module = build(block, ["a", "b"])
    before = [tensor.clone() for tensor in module.state_dict().values()]
    assert load_start(module, block, PRETRAIN, "one") == []
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def test_weights_are_copied_whole_after_their_hash_is_checked(project):
    Path("a.pth").write_bytes(b"weights")
    right = sha256_of(Path("a.pth"))
    run({"method": "weights", "weights": {"one": {"path": "a.pth", "sha256": right}}})
    start = json.loads((PRETRAIN / "start.json").read_text())
    assert start["files"] == {"one": {"file": "one.pth", "sha256": right}}
    assert (PRETRAIN / "one.pth").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"method": "weights", "weights": {"one": {"path": "a.pth", "sha256": "0" * 64}}}, "it was not read"),
        ({"method": "weights", "weights": {"two": {"path": "a.pth", "sha256": "0" * 64}}}, "allowed: all, one"),
        ({"method": "weights", "weights": {"all": {"name": "nope", "sha256": "0" * 64}}}, "no such checkpoint"),
        ({"method": "mae", "mae": {**MAE, "encoder": "resnet18"}}, "allowed: ConvNeXt-V2"),
        ({"method": "mae", "mae": {**MAE, "optimizer": {"lr": 1e30}}}, "not finite"),
    ],
)
def test_what_cannot_start_ends_in_one_line_and_writes_nothing(block, text, project, capsys, no_network):
    Path("a.pth").write_bytes(b"weights")
    with pytest.raises(SystemExit) as caught:
        run(block)
    assert caught.value.code == 1
    assert text in capsys.readouterr().err
    assert not Path("models").exists() or not hashes()


def test_no_image_to_pretrain_on(project, capsys):
    for name in ("train", "unlabeled"):
        Path(f"data/toy/splits/{name}.txt").write_text("")
    with pytest.raises(SystemExit):
        run({"method": "mae", "mae": MAE})
    assert "no unlabeled and no training image" in capsys.readouterr().err


@pytest.mark.parametrize("study_name", STUDY_NAMES)
def test_every_study_at_full_scale_says_what_to_download_without_network(study_name, project, capsys, no_network):
    Path("studies").symlink_to(ROOT / "studies")
    use(study_name, demo=False, force=True)
    chosen = load().pretrain
    if chosen.method != "weights":
        assert chosen.weights is None
        return
    with pytest.raises(SystemExit) as caught:
        pretrain.main()
    error = capsys.readouterr().err.strip()
    assert caught.value.code == 1
    assert error.count("\n") == 0 and "Traceback" not in error
    first = min(chosen.weights)
    assert f"error: pretrain.weights.{first}.name" in error
    assert "could not be downloaded" in error and "download https://" in error
    assert f"set pretrain.weights.{first}.path to the file" in error
