"""Networks behind one forward: shapes, sizes, freezing, and one clear line for what cannot be built."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from retrace.config.network import FasterRcnn, UnetClassic
from retrace.errors import UserError
from retrace.models import detection
from retrace.models.build import build
from retrace.models.segmentation import Segmenter, core, encoder_of, encoder_parameters, freeze_encoder
from tests.support.helpers_models import network

CLASSES = ("road", "sky", "tree")
SEGMENTATION = [
    {"architecture": "unet", "encoder": "tu-convnextv2_atto", "decoder_channels": [16, 8, 8, 8]},
    {"architecture": "unet", "encoder": "resnet18", "decoder_channels": [16, 8, 8, 8, 8]},
    {"architecture": "unet", "encoder": "vgg11", "decoder_channels": [8, 8]},
    {"architecture": "unet", "encoder": "efficientnet-b0", "decoder_channels": [8, 8, 8]},
    {"architecture": "dpt", "encoder": "tu-vit_tiny_patch16_224", "decoder_channels": [8, 8, 16, 16]},
    {"architecture": "unet_classic", "width": 4},
    {"architecture": "deeplabv3", "encoder": "mobilenet_v3_large"},
]
NO_VALUES = torch.device(
    "meta"
)  # a network made there has names and shapes: drawing millions of weights takes a second


def made(**block) -> nn.Module:
    torch.manual_seed(0)
    return build(network(block), CLASSES)


@pytest.mark.parametrize("block", SEGMENTATION, ids=lambda b: f"{b['architecture']}-{b.get('encoder', '')}")
def test_logits_have_the_size_of_the_image_without_any_network(block, no_network):
    module = made(**block).eval()
    with torch.no_grad():
        logits = module(torch.randn(2, 3, 50, 77))
    assert logits.shape == (2, 3, 50, 77)
    assert torch.isfinite(logits).all()


def test_padding_changes_nothing_where_none_is_needed():
    module = made(**SEGMENTATION[0]).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(module(images), module.network(images))


def test_padding_goes_to_the_bottom_and_right():
    class Probe(nn.Module):
        def forward(self, x):
            self.seen = x
            return x

    probe = Probe()
    images = torch.randn(1, 3, 5, 9)
    assert torch.equal(Segmenter(probe, 8)(images), images)
    assert probe.seen.shape == (1, 3, 8, 16)
    assert torch.equal(probe.seen[..., :5, :9], images)
    assert probe.seen.abs().sum() == images.abs().sum()


def test_classic_unet_has_31_million_parameters_for_19_classes():
    module = build(UnetClassic(architecture="unet_classic"), [str(i) for i in range(19)])
    count = sum(parameter.numel() for parameter in module.parameters())
    assert round(count / 1e6, 1) == 31.0
    widths = [block[0].out_channels for block in module.network.down]
    assert widths == [64, 128, 256, 512, 1024]


def test_classic_unet_width_narrows_every_level():
    assert [block[0].out_channels for block in made(architecture="unet_classic", width=8).network.down] == [
        8,
        16,
        32,
        64,
        128,
    ]


def test_deeplabv3_trains_on_a_single_image_as_its_double_would():
    module = made(architecture="deeplabv3", encoder="mobilenet_v3_large").train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    image = torch.randn(1, 3, 64, 64)
    alone = module(image)
    assert alone.shape == (1, 3, 64, 64)
    assert torch.allclose(alone, module(torch.cat([image, image]))[:1], atol=1e-5)


def test_batchnorm_follows_the_newest_batch_as_fast_as_asked():
    """Running mean after one batch = momentum * its mean (they start at 0); null leaves the library's own momentum."""
    images = torch.randn(2, 3, 64, 64) + 3
    for wanted, kept in ((0.25, 0.25), (None, 0.01)):
        module = made(architecture="deeplabv3", encoder="mobilenet_v3_large", batchnorm_momentum=wanted).train()
        stem = encoder_of(module)["0"]
        with torch.no_grad():
            expected = kept * stem[0](images).mean((0, 2, 3))
            module(images)
        torch.testing.assert_close(stem[1].running_mean, expected)


def test_freezing_stops_exactly_the_encoder():
    module = made(**SEGMENTATION[0])
    freeze_encoder(module)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in module.named_parameters() if name.startswith("network.encoder.")}
    assert len(encoder_parameters(module)) == len(frozen)


def test_classic_unet_has_no_encoder_to_freeze():
    with pytest.raises(UserError, match="no separate encoder"):
        encoder_of(made(architecture="unet_classic", width=4))


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"architecture": "unet", "encoder": "tu-convnextv2_ato"}, "did you mean convnextv2_atto"),
        ({"architecture": "unet", "encoder": "resnet81"}, "not an encoder of segmentation-models-pytorch"),
        ({"architecture": "unet", "encoder": "tu-vit_tiny_patch16_224"}, "no feature maps at strides"),
        ({"architecture": "dpt", "encoder": "tu-resnet18"}, "needs a timm ViT"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(block, text, no_network):
    with pytest.raises(UserError, match=text) as caught:
        made(**block)
    assert "\n" not in str(caught.value)


ENCODERS = ["mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn", "resnet50_fpn", "resnet50_fpn_v2"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_detectors_train_and_detect(encoder, no_network):
    module = made(architecture="fasterrcnn", encoder=encoder, min_size=64, max_size=96, max_detections=7)
    images = [torch.rand(3, 60, 80), torch.rand(3, 64, 64)]
    boxes = torch.tensor([[5.0, 5.0, 40.0, 40.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([label])} for label in (1, 3)]
    losses = module(images, targets)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    found = module.eval()(images)
    assert all(len(one["boxes"]) <= 7 for one in found)
    assert module.roi_heads.box_predictor.cls_score.out_features == 1 + len(CLASSES)
    assert all(parameter.requires_grad for parameter in module.parameters())


def _proposals(module):
    """How many the region proposal network keeps in training and in evaluation."""
    return module.rpn.train().post_nms_top_n(), module.rpn.eval().post_nms_top_n()


@pytest.mark.parametrize(("encoder", "proposals"), zip(ENCODERS, (1000, 150, 1000, 1000), strict=True))
def test_proposals_and_anchors_are_torchvisions_unless_given(encoder, proposals):
    block = {"architecture": "fasterrcnn", "encoder": encoder, "min_size": 64, "max_size": 96}
    usual = made(**block)
    assert _proposals(usual) == (2000, proposals)
    assert usual.roi_heads.fg_bg_sampler.batch_size_per_image == 512
    sizes = (8, 16, 32, 64, 128) if "resnet" in encoder else (8, 24)
    chosen = {"anchor_sizes": sizes, "rpn_post_nms_top_n_train": 30, "rpn_post_nms_top_n_test": 20}
    module = made(**block, **chosen, box_batch_size_per_image=16)
    assert _proposals(module) == (30, 20)
    assert module.roi_heads.fg_bg_sampler.batch_size_per_image == 16
    given = [sorted({size for level in one.rpn.anchor_generator.sizes for size in level}) for one in (usual, module)]
    assert given == [[32, 64, 128, 256, 512], sorted(sizes)]
    seen = []
    module.roi_heads.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1]))
    module.eval()([torch.rand(3, 64, 96)])
    assert [len(boxes) for boxes in seen] == [20]


@pytest.mark.parametrize("layers", range(7))
def test_trainable_blocks_of_mobilenet_are_torchvisions(layers):
    module = made(architecture="fasterrcnn", encoder="mobilenet_v3_large_fpn")
    with NO_VALUES:
        theirs = mobilenet_backbone(
            backbone_name="mobilenet_v3_large",
            weights=None,
            fpn=True,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=layers,
        )
    model = FasterRcnn(architecture="fasterrcnn", encoder="mobilenet_v3_large_fpn", trainable_layers=layers)
    detection.freeze_blocks(module, model)
    assert _trained(module.backbone.body) == _trained(theirs.body)


@pytest.mark.parametrize("layers", range(6))
def test_trainable_blocks_of_resnet_are_torchvisions(layers):
    module = made(architecture="fasterrcnn", encoder="resnet50_fpn_v2")
    with NO_VALUES:
        theirs = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=layers
        )
    model = FasterRcnn(architecture="fasterrcnn", encoder="resnet50_fpn_v2", trainable_layers=layers)
    detection.freeze_blocks(module, model)
    assert _trained(module.backbone.body) == _trained(theirs.body)


def test_frozen_batchnorm_computes_what_batchnorm_did():
    module = made(architecture="fasterrcnn", encoder="mobilenet_v3_large_fpn").eval()
    for part in module.backbone.body.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = module.backbone(image)["0"]
        assert detection.frozen_eps(module) is None
        detection.freeze_batchnorm(module)
        after = module.backbone.train()(image)["0"]
    assert detection.frozen_eps(module) == 1e-5
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.backbone.body.modules())
    assert any(isinstance(part, FrozenBatchNorm2d) for part in core(module).modules())
    assert torch.allclose(before, after, atol=1e-4)


def _trained(backbone: nn.Module) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
