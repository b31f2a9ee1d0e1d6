"""retrace/compat: private names are used nowhere else, and each entry does what it is there for.

A failure after an upgrade says what the library changed.
"""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retrace.compat import fabric, segmentation_models
from retrace.compat import timm as compat_timm
from retrace.compat import torchvision as compat_torchvision
from retrace.compat.dvc import is_ignored, queue_states
from retrace.compat.pytorch import linear_by_onednn
from tests.support.private_names import library_internals, other_tests, private_names
from tests.support.projects import ROOT, run

CODE = ("retrace", "stages", "scenes")


def test_private_names_of_libraries_are_used_in_compat_only():
    found = {}
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ROOT / "retrace/compat" not in path.parents:
                found[path.relative_to(ROOT).as_posix()] = library_internals(path)
    assert len(found) > 150
    assert {path: uses for path, uses in found.items() if uses} == {}


def test_tests_use_no_private_names_and_no_other_test():
    found = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        found[path.relative_to(ROOT).as_posix()] = private_names(path) + other_tests(path)
    assert len(found) > 80
    assert {path: uses for path, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "import torch._C",
        "encoder._pos_embed(x)",
        "getattr(layer, '_is_cn', False)",
        "from dvc.repo import Repo",
        "from ultralytics.utils import nms",
        "import torch\ntorch.relu = len",
        "class A(Base):\n    def _step(self):\n        super()._step()",
        "class A(Base):\n    def _step(self):\n        return 1",
        "class A(Base):\n    def step(self):\n        return self._state",
    ],
)
def test_the_scan_sees(tmp_path, source):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert library_internals(path)


def test_the_scan_sees_another_test(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("from tests.unit.test_report import page")
    assert other_tests(path)


def test_the_scan_passes_what_is_a_files_own(tmp_path):
    path = tmp_path / "module.py"
    lines = ["import os", "class A:", "    def _b(self):", "        self._c = 1"]
    path.write_text("\n".join([*lines, "    def d(self):", "        os._exit(self._c or self._b())"]))
    assert library_internals(path) == []


def test_pytorch_multiplies_by_onednn():
    torch.manual_seed(0)
    a, b, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)
    for offset in (bias, None):
        torch.testing.assert_close(linear_by_onednn(a, b, offset), F.linear(a, b, offset))


def test_torchvision_trains_on_images_as_they_come():
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    network = nn.Module()
    network.transform = GeneralizedRCNNTransform(32, 64, [0.0] * 3, [1.0] * 3)
    images = [torch.rand(3, 20, 24)]
    compat_torchvision.skip_resize(network)
    assert network.transform(images)[0].image_sizes == [(20, 24)]
    assert network.eval().transform(images)[0].image_sizes != [(20, 24)]


def test_torchvision_marks_the_layers_that_halve_the_resolution():
    from torchvision.models import mobilenet_v3_large

    layers = list(mobilenet_v3_large(weights=None).features.eval())
    x, halved = torch.zeros(1, 3, 64, 64), []
    for index, layer in enumerate(layers):
        before, x = x.shape[-1], layer(x)
        halved += [index] if x.shape[-1] < before and index > 0 else []
    assert compat_torchvision.resolution_changes(layers) == halved


def test_torchvision_has_the_gradient_of_roi_align():
    from torchvision.ops import roi_align

    torch.manual_seed(0)
    maps = torch.randn(2, 3, 8, 9, requires_grad=True)
    rois = torch.tensor([[0, 0.0, 0.0, 12.0, 9.0], [1, 2.0, 3.0, 10.0, 14.0]])
    pooled = roi_align(maps, rois, (2, 4), 0.5, 2)
    grad = torch.randn_like(pooled)
    pooled.backward(grad)
    found = compat_torchvision.roi_align_backward(grad, rois, 0.5, 2, maps.shape)
    torch.testing.assert_close(found, maps.grad)


def test_timm_adds_positions_and_prefix_tokens():
    import timm

    encoder = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, depth=1)
    encoder.eval()
    patches = encoder.patch_embed(torch.rand(2, 3, 224, 224))
    tokens = compat_timm.with_positions(encoder, patches)
    expected = patches + encoder.pos_embed[:, encoder.num_prefix_tokens :]
    torch.testing.assert_close(tokens[:, encoder.num_prefix_tokens :], expected)


def test_timm_builds_convnextv2_with_the_layer_that_we_replace():
    import timm

    network = timm.create_model("convnextv2_atto", pretrained=False)
    assert any(type(part) is compat_timm.GlobalResponseNorm for part in network.modules())


def test_segmentation_models_name_the_file_of_their_weights():
    repo, revision = segmentation_models.checkpoint("vgg11", "imagenet")
    assert "/" in repo and len(revision) == 40
    assert segmentation_models.checkpoint("vgg11", "none") is None
    assert segmentation_models.checkpoint("none", "imagenet") is None


def test_segmentation_models_decode_without_empty_maps():
    torch.manual_seed(0)
    decoder = segmentation_models.UnetDecoder((3, 8, 0, 16), (12, 8), n_blocks=2).eval()
    maps = [torch.rand(1, 3, 32, 32), torch.rand(1, 8, 16, 16), torch.rand(1, 0, 8, 8), torch.rand(1, 16, 4, 4)]
    before = decoder(maps)
    seen = []
    decoder.blocks[0].register_forward_pre_hook(
        lambda block, given, named: seen.append(named["skip_connection"]), with_kwargs=True
    )
    segmentation_models.drop_empty_skips(decoder)
    torch.testing.assert_close(decoder(maps), before)
    assert seen[0].shape[1] == 0  # what the library hands over, else the module is not needed any more


@pytest.mark.parametrize(("precision", "scales"), [("32-true", False), ("bf16-mixed", False), ("16-mixed", True)])
def test_fabric_says_whether_it_scales_the_loss(precision, scales):
    from lightning_fabric.plugins import MixedPrecision, Precision
    from lightning_fabric.strategies import SingleDeviceStrategy

    plugin = Precision() if precision == "32-true" else MixedPrecision(precision, device="cuda" if scales else "cpu")

    class Fabric:
        strategy = SingleDeviceStrategy(precision=plugin)

    assert fabric.scales_loss(Fabric()) is scales


def test_dvc_ignores_and_queues(tmp_path):
    run(tmp_path, "git", "init", "-q", check=True)
    run(tmp_path, "dvc", "init", "-q", check=True)
    (tmp_path / ".dvcignore").write_text("*.tmp\n")
    ignored = is_ignored(tmp_path)
    assert ignored(str(tmp_path / "a.tmp")) and not ignored(str(tmp_path / "a.txt"))
    assert queue_states(tmp_path) == {}


# public methods of Ultralytics that the engine overrides; its documentation does not describe them
OVERRIDDEN = {
    "OpenDataset": ("get_img_files", "get_labels", "build_transforms", "cache_images", "load_image"),
    "OpenTrainer": (
        *("run_callbacks", "get_dataset", "build_dataset", "get_dataloader", "get_validator", "save_model"),
        *("preprocess_batch", "optimizer_step", "validate", "save_metrics", "final_eval"),
    ),
    "OpenValidator": ("run_callbacks", "init_metrics", "postprocess", "update_metrics", "gather_stats"),
}


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_ultralytics_calls_what_the_engine_overrides(name):
    from retrace.compat import ultralytics
    from retrace.training.engines.ultralytics.data import Samples
    from retrace.training.engines.ultralytics.trainer import Trainer
    from retrace.training.engines.ultralytics.validator import Validator

    base = getattr(ultralytics, name)
    (ours,) = [one for one in (Samples, Trainer, Validator) if issubclass(one, base)]
    overrides = [part for part in vars(ours) if not part.startswith("_") and hasattr(base, part)]
    assert sorted(part for part in overrides if callable(getattr(ours, part))) == sorted(OVERRIDDEN[name])
    for method in OVERRIDDEN[name]:
        arguments = list(inspect.signature(getattr(base, method)).parameters)
        assert list(inspect.signature(getattr(ours, method)).parameters) == arguments, method


def test_ultralytics_private_steps_exist():
    from retrace.compat.ultralytics import OpenDataset, OpenTrainer, OpenValidator

    for owner, method in ((OpenTrainer, "_handle_nan_recovery"), (OpenValidator, "_prepare_batch")):
        assert callable(vars(owner).get(method) or getattr(owner, method))
        assert any(method in vars(base) for base in owner.__mro__[1:])
    assert any("_ImageCache" in vars(base) for base in OpenDataset.__mro__)


def test_ultralytics_does_not_give_up_and_keeps_the_number_of_threads():
    from retrace.compat import ultralytics

    boxes = torch.tensor([[[10.0], [10.0], [5.0], [5.0], [0.9]]])  # [1, 4 + classes, 1]
    (found,) = ultralytics.suppress(boxes, 0.1, 0.5)
    assert found.shape == (1, 6)
    package = ultralytics.ultralytics()
    assert package.utils.nms.non_max_suppression.keywords == {"max_time_img": float("inf")}
    assert torch.get_num_threads() == package.utils.torch_utils.NUM_THREADS
    assert "max_time_img" in inspect.signature(package.utils.nms.non_max_suppression).parameters
