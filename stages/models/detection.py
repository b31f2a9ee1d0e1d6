"""torchvision's Faster R-CNN detectors, built without weights.

Images go in as a list of float [3, H, W] in 0...1 (the network normalises and resizes them itself); boxes are
(x1, y1, x2, y2) in pixels; label 0 is the background, so class index c is label c + 1.
"""

from collections.abc import Callable

from torch import nn
from torchvision.models import detection as tv
from torchvision.ops import FrozenBatchNorm2d

from stages.errors import UserError
from stages.params.phases import Model

FASTER_RCNN: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v3_large_fpn": tv.fasterrcnn_mobilenet_v3_large_fpn,
    "mobilenet_v3_large_320_fpn": tv.fasterrcnn_mobilenet_v3_large_320_fpn,
    "resnet50_fpn": tv.fasterrcnn_resnet50_fpn,
    "resnet50_fpn_v2": tv.fasterrcnn_resnet50_fpn_v2,
}
RESNET_BLOCKS = ("layer4", "layer3", "layer2", "layer1", "conv1")
EPS = 1e-5  # of BatchNorm2d


def fasterrcnn(model: Model, classes: int) -> nn.Module:
    """Faster R-CNN by `encoder` name; every backbone layer trains, with live BatchNorm, as torchvision does from scratch.

    The 320 variant differs in keeping 150 proposals in evaluation; its usual sizes are min_size 320, max_size 640.
    """
    if model.encoder not in FASTER_RCNN:
        raise UserError(f"model.encoder = {model.encoder!r}: fasterrcnn takes {', '.join(FASTER_RCNN)}")
    if model.min_size > model.max_size:
        raise UserError(f"model.min_size = {model.min_size} is larger than model.max_size = {model.max_size}")
    return FASTER_RCNN[model.encoder](
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=model.min_size,
        max_size=model.max_size,
        box_detections_per_img=model.max_detections,
    )


def frozen_eps(module: nn.Module) -> float | None:
    """The eps of the network's frozen BatchNorm layers; None if it has none."""
    return next((float(part.eps) for part in module.modules() if isinstance(part, FrozenBatchNorm2d)), None)


def freeze_batchnorm(module: nn.Module, eps: float = EPS) -> None:
    """Replace the backbone's BatchNorm layers by frozen ones with the same numbers, in place."""
    for parent in list(module.backbone.body.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, eps=eps)
                frozen.load_state_dict({key: value for key, value in child.state_dict().items() if key in frozen.state_dict()})
                setattr(parent, name, frozen.to(child.weight.device))


def use_pretrained_backbone(module: nn.Module, model: Model, published_detector: bool) -> None:
    """What torchvision does when its backbone starts from published weights: the lowest blocks do not train
    (`trainable_layers` of 5 for ResNet, 6 for MobileNet do) and BatchNorm is frozen (not in resnet50_fpn_v2).

    The published detector resnet50_fpn (COCO_V1) was trained with eps = 0 in its frozen BatchNorm; everything else uses 1e-5.
    """
    body = module.backbone.body
    if model.encoder != "resnet50_fpn_v2":
        freeze_batchnorm(module, 0.0 if published_detector and model.encoder == "resnet50_fpn" else EPS)
    if model.encoder.startswith("resnet50"):
        blocks = len(RESNET_BLOCKS)
        kept = RESNET_BLOCKS[: model.trainable_layers] + (("bn1",) if model.trainable_layers == blocks else ())
        frozen = [parameter for name, parameter in body.named_parameters() if not name.startswith(kept)]
    else:
        # a block begins where the resolution halves (torchvision's `_mobilenet_extractor`)
        layers = list(body.children())
        starts = [0] + [i for i, layer in enumerate(layers) if getattr(layer, "_is_cn", False)] + [len(layers) - 1]
        blocks = len(starts)
        first = len(layers) if model.trainable_layers == 0 else starts[blocks - min(model.trainable_layers, blocks)]
        frozen = [parameter for layer in layers[:first] for parameter in layer.parameters()]
    if model.trainable_layers > blocks:
        raise UserError(f"model.trainable_layers = {model.trainable_layers}: {model.encoder} has {blocks} blocks")
    for parameter in frozen:
        parameter.requires_grad_(False)
