"""Published checkpoints: names to addresses, downloads checked by sha256, and files that fit the networks."""

import hashlib
import http.server
import re
import threading

import pytest
import torch
from segmentation_models_pytorch.encoders import encoders
from torchvision.models import vgg11

from retrace.config import read_yaml
from retrace.config.network import Unet
from retrace.config.pretrain import Weights
from retrace.errors import UserError
from retrace.files import sha256_of
from retrace.models import published
from retrace.models.build import build
from retrace.models.published import address, fetch
from retrace.models.segmentation import encoder_of
from retrace.models.weights import load_published, write_tensors
from tests.support.helpers_models import network
from tests.support.projects import ROOT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
            "https://download.pytorch.org/models/deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        ),
        (
            "FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT",
            "https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        ),
        ("yolo11s", "https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo11s.pt"),
        ("convnextv2_atto.fcmae", "https://huggingface.co/timm/convnextv2_atto.fcmae/resolve/main/model.safetensors"),
        (
            "vgg11.imagenet",
            "https://huggingface.co/smp-hub/vgg11.imagenet/resolve/ad8b90e1051c38fdbf399cf5016886a1be357390/model.safetensors",
        ),
    ],
)
def test_named_checkpoints_have_an_address(name, expected, no_network):
    assert address(name) == expected


@pytest.mark.parametrize(
    "name", ["yolo11x", "Nothing_Weights.DEFAULT", "convnextv2_atto.nope", "../yolo11s", "a.b.c", ""]
)
def test_unknown_names_are_refused(name, no_network):
    with pytest.raises(UserError, match="no such checkpoint; allowed"):
        address(name)


def test_without_network_it_says_what_to_download_and_where_to_put_it(no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        fetch(Weights(name="yolo11s", sha256="0" * 64), "toe_drain")
    text = str(caught.value)
    assert "download https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo11s.pt" in text
    assert "set pretrain.weights.toe_drain.path to the file" in text
    assert "\n" not in text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_local_file_is_read_only_with_the_right_hash(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"weights")
    right = sha256_of(tmp_path / "a.pt")
    path = str(tmp_path / "a.pt")
    assert fetch(Weights(path=path, sha256=right)) == tmp_path / "a.pt"
    with pytest.raises(UserError, match=rf"has sha256 {right}, not {'0' * 64}; it was not read"):
        fetch(Weights(path=path, sha256="0" * 64))
    with pytest.raises(UserError, match="no such file"):
        fetch(Weights(path=path + "x", sha256=right))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """`site(file name) -> (its sha256, the paths asked for)`: every checkpoint lies under that name there."""
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "site"))

        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def offer(name, content=b"published" * 1000):
        (tmp_path / "site" / name).write_bytes(content)
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setattr(published, "address", lambda *_: url)
        return sha256_of(tmp_path / "site" / name), asked

    yield offer
    server.shutdown()
    server.server_close()


def test_a_download_is_kept_once_its_hash_is_right(site, tmp_path):
    right, asked = site("net.pth")
    with pytest.raises(UserError, match="it was not read"):
        fetch(Weights(name="net", sha256="0" * 64))
    assert not list((tmp_path / ".retrace").rglob("*.p*"))
    path = fetch(Weights(name="net", sha256=right))
    assert path.read_bytes() == b"published" * 1000
    assert fetch(Weights(name="net", sha256=right)) == path
    assert len(asked) == 2  # the third time nothing is asked for
    path.write_bytes(b"spoiled")
    assert sha256_of(fetch(Weights(name="net", sha256=right))) == right


def test_without_sha256_the_digits_in_the_published_name_are_checked(site, tmp_path):
    content = b"published" * 1000
    digits = hashlib.sha256(content).hexdigest()[:8]
    _, asked = site(f"net-{digits}.pth", content)
    assert fetch(Weights(name="net")).read_bytes() == content
    assert fetch(Weights(name="net")).name == f"{digits}-net-{digits}.pth"
    assert len(asked) == 1
    found, _ = site("other-00000000.pth")
    with pytest.raises(UserError, match=f"has sha256 {found}, not 00000000... as its published name says; it was not"):
        fetch(Weights(name="other"))
    assert len(list((tmp_path / ".retrace").rglob("*.p*"))) == 1


def test_a_download_that_nothing_vouches_for_waits_until_its_sha256_is_pinned(site):
    found, asked = site("model.safetensors")
    with pytest.raises(UserError) as caught:
        fetch(Weights(name="vgg11.imagenet"), "one")
    text = str(caught.value)
    assert text.startswith("pretrain.weights.one.sha256: missing") and "\n" not in text
    assert f"sha256 {found}" in text and "set pretrain.weights.one.sha256 to that" in text
    assert sha256_of(fetch(Weights(name="vgg11.imagenet", sha256=found), "one")) == found
    assert len(asked) == 1  # what waited was used


@pytest.mark.parametrize("phase", ["unet_vgg11", "unet_efficientnet"])
def test_the_published_encoders_of_bdd100k_are_the_librarys_own_files_and_fit(phase, tmp_path, no_network):
    values = read_yaml(ROOT / "studies/bdd100k.yaml")
    name, model = values["pretrain"]["weights"][phase]["name"], network(values["phases"][phase]["model"])
    encoder, tag = name.split(".")
    assert encoder == model.encoder
    settings = encoders[encoder]["pretrained_settings"][tag]
    assert f"/{settings['repo_id']}/resolve/{settings['revision']}/model.safetensors" in address(name)
    # the classifier is what such a file has beyond the encoder
    heads = {"vgg11": ("classifier.6", 4096), "efficientnet-b0": ("_fc", 1280)}
    head, width = heads[encoder]
    module = build(model, values["classes"])
    tensors = {key: torch.randn_like(value.float()) for key, value in encoder_of(module).state_dict().items()}
    extra = {f"{head}.weight": torch.zeros(1000, width), f"{head}.bias": torch.zeros(1000)}
    write_tensors(tmp_path / "file.safetensors", tensors | extra)
    said = load_published(module, model, tmp_path / "file.safetensors")
    (line,) = said
    assert line.startswith(f"{tmp_path / 'file.safetensors'}: left out ") and "(made for other classes)" in line
    assert f"{head}.weight" in line and f"{head}.bias" in line
    loaded = encoder_of(module).state_dict()
    assert all(torch.equal(loaded[key].float(), tensors[key]) for key in tensors if not key.endswith("batches_tracked"))


def test_torchvisions_vgg11_fits_too_and_its_name_carries_its_hash(tmp_path, no_network):
    model = Unet(architecture="unet", encoder="vgg11")
    torch.save(vgg11().state_dict(), tmp_path / "vgg11.pth")
    module = build(model, ["a", "b"])
    assert "left out classifier.0.weight" in load_published(module, model, tmp_path / "vgg11.pth")[0]
    assert re.search(r"-[0-9a-f]{8}\.pth$", address("VGG11_Weights.IMAGENET1K_V1"))
