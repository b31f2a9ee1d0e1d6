"""torchvision's Faster R-CNN detectors, built without weights.

Images go in as a list of float [3, H, W] in 0...1 (the network normalises and resizes them itself); boxes are
(x1, y1, x2, y2) in pixels; label 0 is the background, so class index c is label c + 1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models import detection as tv
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

from retrace.compat.torchvision import resolution_changes
from retrace.config.network import MOBILENET_BLOCKS, RESNET_BLOCKS, FasterRcnn
from retrace.models.layers.frozen_norm import FrozenNorm
from retrace.models.layers.roi_align import replace

FASTER_RCNN: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v3_large_fpn": tv.fasterrcnn_mobilenet_v3_large_fpn,
    "mobilenet_v3_large_320_fpn": tv.fasterrcnn_mobilenet_v3_large_320_fpn,
    "resnet50_fpn": tv.fasterrcnn_resnet50_fpn,
    "resnet50_fpn_v2": tv.fasterrcnn_resnet50_fpn_v2,
}
RESNET_LAYERS = ("layer4", "layer3", "layer2", "layer1", "conv1")
MOBILENET_LEVELS = 3  # of the feature pyramid
TRAINED = 3  # backbone blocks, torchvision's default
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchor boxes, torchvision's
EPS = 1e-5  # of BatchNorm2d
PROBE = 256  # pixels, a multiple of every stride


def fasterrcnn(model: FasterRcnn, classes: int) -> nn.Module:
    """Faster R-CNN by `encoder` name; every layer trains, with live BatchNorm, as torchvision does from scratch.

    The 320 variant differs in keeping 150 proposals in evaluation; its usual sizes are min_size 320, max_size 640.
    """
    proposals = model.rpn_post_nms_top_n_test
    network = FASTER_RCNN[model.encoder](
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=model.min_size,
        max_size=model.max_size,
        box_detections_per_img=model.max_detections,
        box_batch_size_per_image=model.box_batch_size_per_image,
        rpn_post_nms_top_n_train=model.rpn_post_nms_top_n_train,
        **({} if proposals is None else {"rpn_post_nms_top_n_test": proposals}),
    )
    if model.anchor_sizes is not None:
        _set_anchors(network, model.encoder, model.anchor_sizes)
    replace(network)
    _measure_strides(network)
    return network


def _set_anchors(network: Any, encoder: str, sizes: Sequence[int]) -> None:
    """Other anchor sizes; as many as before keep the shapes of the published weights.

    A ResNet's pyramid has one size at each of its levels, MobileNet's has every size at each of its own.
    """
    levels: list[tuple[int, ...]] = [(size,) for size in sizes]
    if encoder.startswith("mobilenet"):
        levels = [tuple(sizes)] * MOBILENET_LEVELS
    rpn = network.rpn
    before = rpn.anchor_generator.num_anchors_per_location()
    rpn.anchor_generator = AnchorGenerator(tuple(levels), (ASPECT_RATIOS,) * len(levels))
    after = rpn.anchor_generator.num_anchors_per_location()
    if after != before:
        rpn.head = RPNHead(network.backbone.out_channels, after[0])


def _measure_strides(network: Any) -> None:
    """Let the RoI pooling see an image of exact strides first.

    torchvision infers the feature maps' strides from the first batch a network sees, for good: a small or odd one
    rounds to a wrong stride, and a resumed training, whose first batch is another, would go on differently.
    """
    network.backbone.eval()
    with torch.no_grad():
        maps = network.backbone(torch.zeros(1, 3, PROBE, PROBE))
        network.roi_heads.box_roi_pool(maps, [torch.tensor([[0.0, 0.0, 64.0, 64.0]])], [(PROBE, PROBE)])
    network.backbone.train()


def frozen_eps(module: nn.Module) -> float | None:
    """The eps of the network's frozen BatchNorm layers; None if it has none."""
    return next((float(part.eps) for part in module.modules() if isinstance(part, FrozenBatchNorm2d)), None)


def freeze_batchnorm(module: Any, eps: float = EPS) -> None:
    """Replace the backbone's BatchNorm layers by frozen ones with the same numbers, in place."""
    for parent in list(module.backbone.body.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenNorm(child.num_features, eps=eps)
                frozen.load_state_dict(child.state_dict())  # torchvision drops the batch counter itself
                setattr(parent, name, frozen.to(child.weight.device))


def freeze_blocks(module: Any, model: FasterRcnn) -> None:
    """Train only the top `trainable_layers` blocks of the backbone (of 5 for ResNet, 6 for MobileNet).

    torchvision's rule for a backbone that starts from weights; from scratch every block trains.
    """
    body = module.backbone.body
    trained = TRAINED if model.trainable_layers is None else model.trainable_layers
    if model.encoder.startswith("resnet50"):
        kept = RESNET_LAYERS[:trained] + (("bn1",) if trained == RESNET_BLOCKS else ())
        frozen = [parameter for name, parameter in body.named_parameters() if not name.startswith(kept)]
    else:
        layers = list(body.children())
        # a block begins where the resolution halves (torchvision's `_mobilenet_extractor`)
        starts = [0, *resolution_changes(layers), len(layers) - 1]
        first = starts[MOBILENET_BLOCKS - trained] if trained else len(layers)
        frozen = [parameter for layer in layers[:first] for parameter in layer.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)


def use_published(module: nn.Module, model: FasterRcnn, whole_detector: bool) -> None:
    """What torchvision does when the backbone starts from published weights: `freeze_blocks`, and BatchNorm is frozen
    except in resnet50_fpn_v2.

    The published whole detector resnet50_fpn (COCO_V1) was trained with eps = 0 in its frozen BatchNorm; the others
    with 1e-5.
    """
    if model.encoder != "resnet50_fpn_v2":
        freeze_batchnorm(module, 0.0 if whole_detector and model.encoder == "resnet50_fpn" else EPS)
    freeze_blocks(module, model)
