"""torchvision's classifiers, segmenters and detectors with random weights, as small as they can be made."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import (
    convnext,
    densenet,
    detection,
    efficientnet,
    maxvit,
    mobilenetv3,
    regnet,
    resnet,
    segmentation,
    swin_transformer,
)
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import MultiScaleRoIAlign

from tests.zoo.specimen import Specimen, images

Make = Callable[..., nn.Module]


class Row(NamedTuple):
    """A line of a table.

    name: torchvision's. make: what builds it, given the rates. size: pixels of its images. refuses: as a specimen's.
    noise: the names of its rates; "own" is a dropout that torchvision writes into a head, and no argument turns off.
    """

    name: str
    make: Make
    size: int = 32
    noise: str = ""
    refuses: Mapping[str, str] = {}


def _narrow(make: Make, width: int) -> Make:
    """AlexNet or a VGG with a hidden layer of 16 in place of two of 4096, the larger part of its parameters."""

    def build(num_classes: int, dropout: float) -> nn.Module:
        with torch.device("meta"):
            module = make(num_classes=num_classes, dropout=dropout)
            hidden = nn.Linear(width, 16), nn.ReLU(inplace=True), nn.Dropout(dropout)
            module.classifier = nn.Sequential(nn.Dropout(dropout), *hidden, nn.Linear(16, num_classes))
        module.to_empty(device="cpu")
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                layer.reset_parameters()
        return module

    return build


def _vgg(**settings: Any) -> nn.Module:
    return models.VGG(models.vgg.make_layers([8, "M", 16, "M", 16], batch_norm=True), **settings)


class _ThinResNet(resnet.ResNet):
    """An eighth as wide after its stem, and with a block a stage."""

    def __init__(self, block: Any, num_classes: int, **settings: Any) -> None:
        super().__init__(block, [1, 1, 1, 1], **settings)
        self.fc = nn.Linear(64 * block.expansion, num_classes)

    def _make_layer(self, block: Any, planes: int, *how: Any, **more: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *how, **more)


def _googlenet(num_classes: int, **settings: Any) -> nn.Module:
    """An eighth as wide."""

    def eighth(make: Make) -> Make:
        return lambda inputs, *widths, **how: make(max(3, inputs // 8), *(each // 8 for each in widths), **how)

    def aside(inputs: int, num_classes: int, dropout: float) -> nn.Module:
        part = InceptionAux(inputs // 8, num_classes, dropout=dropout)
        part.fc1, part.fc2 = nn.Linear(2048, 16), nn.Linear(16, num_classes)
        return part

    blocks = [eighth(BasicConv2d), eighth(Inception), aside]
    module = models.GoogLeNet(num_classes, init_weights=False, dropout_aux=0.0, blocks=blocks, **settings)
    module.fc = nn.Linear(128, num_classes)
    return module


def _regnet(num_classes: int) -> nn.Module:
    blocks = regnet.BlockParams.from_init_params(depth=4, w_0=8, w_a=16.0, w_m=1.5, group_width=8, se_ratio=0.25)
    return regnet.RegNet(blocks, num_classes=num_classes, stem_width=8)


def _bottlenecks() -> list[mobilenetv3.InvertedResidualConfig]:
    config = partial(mobilenetv3.InvertedResidualConfig, dilation=1, width_mult=1.0)
    return [
        config(8, 3, 16, 8, True, "RE", 2),
        config(8, 5, 24, 16, True, "HS", 2),
        config(16, 5, 32, 16, True, "HS", 1),
    ]


_FUSED = [FusedMBConvConfig(1, 3, 1, 8, 8, 2), FusedMBConvConfig(4, 3, 2, 8, 16, 1), MBConvConfig(4, 3, 2, 16, 24, 2)]
_PLAIN = [MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(6, 5, 2, 8, 16, 3, 1.0, 1.0)]
_NEXT = [convnext.CNBlockConfig(8, 16, 2), convnext.CNBlockConfig(16, None, 2)]
_SWIN = {"patch_size": [4, 4], "embed_dim": 12, "depths": [1, 2], "num_heads": [2, 3], "window_size": [4, 4]}
_SWIN_2 = _SWIN | {
    "block": swin_transformer.SwinTransformerBlockV2,
    "downsample_layer": swin_transformer.PatchMergingV2,
}
_RESIDUALS = [[1, 8, 1, 1], [6, 16, 1, 2], [6, 24, 2, 2]]

_CLASSIFIERS = (
    Row("alexnet", _narrow(models.alexnet, 9216), 64, "dropout"),
    Row("vgg11_bn", _narrow(_vgg, 784), 32, "dropout"),
    Row("resnet18", partial(_ThinResNet, resnet.BasicBlock)),
    Row("resnext50_32x4d", partial(_ThinResNet, resnet.Bottleneck, groups=4)),
    Row("densenet121", partial(densenet.DenseNet, 4, (1, 1, 1, 1), 8), 32, "drop_rate"),
    Row("googlenet", _googlenet, 32, "dropout"),
    Row("squeezenet1_1", models.squeezenet1_1, 32, "dropout"),
    Row("mobilenet_v2", partial(models.mobilenet_v2, inverted_residual_setting=_RESIDUALS), 32, "dropout"),
    Row("mobilenet_v3_small", partial(models.MobileNetV3, _bottlenecks(), 32), 32, "dropout"),
    Row("shufflenet_v2_x0_5", partial(models.ShuffleNetV2, [2, 2, 2], [8, 8, 16, 24, 32])),
    Row("mnasnet0_5", partial(models.MNASNet, 0.1), 32, "dropout"),
    Row("efficientnet_b0", partial(efficientnet.EfficientNet, _PLAIN), 32, "dropout stochastic_depth_prob"),
    Row("efficientnet_v2_s", partial(efficientnet.EfficientNet, _FUSED), 32, "dropout stochastic_depth_prob"),
    Row("regnet_y_400mf", _regnet),
    Row("convnext_tiny", partial(convnext.ConvNeXt, _NEXT), 32, "stochastic_depth_prob"),
    Row("swin_t", partial(models.SwinTransformer, **_SWIN), 32, "dropout attention_dropout stochastic_depth_prob"),
    Row("swin_v2_t", partial(models.SwinTransformer, **_SWIN_2), 32, "dropout attention_dropout stochastic_depth_prob"),
    Row("vit_b_16", partial(models.VisionTransformer, 32, 8, 2, 2, 16, 32), 32, "dropout attention_dropout"),
    Row("maxvit_t", partial(maxvit.MaxVit, (64, 64), 8, 4, [8, 16], [1, 1], 8), 64, "stochastic_depth_prob"),
)


def _trunk(channels: int = 16) -> nn.Sequential:
    """A MobileNet without its head, whose features are an eighth of an image's size."""
    net = models.MobileNetV2(inverted_residual_setting=[[1, 8, 1, 2], [6, channels, 1, 2]])
    return net.features[:-1]


def _segmenter(make: Make, head: Make, num_classes: int) -> nn.Module:
    return make(IntermediateLayerGetter(_trunk(), {"2": "out"}), head(16, num_classes))


def _lraspp(num_classes: int) -> nn.Module:
    parts = IntermediateLayerGetter(_trunk(), {"1": "low", "2": "high"})
    return segmentation.LRASPP(parts, 8, 16, num_classes, inter_channels=8)


_SEGMENTERS = (
    Row("fcn", partial(_segmenter, segmentation.FCN, FCNHead), 32, "own"),
    Row("deeplabv3", partial(_segmenter, segmentation.DeepLabV3, DeepLabHead), 32, "own"),
    Row("lraspp", _lraspp),
)

_SIDE, _POINTS = 64, 4
_SCALE = {"min_size": _SIDE, "max_size": _SIDE}


def _backbone(channels: int = 16) -> nn.Module:
    trunk = _trunk(channels)
    trunk.out_channels = channels  # type: ignore[assignment]  (where torchvision looks for it)
    return trunk


def _anchors(*sizes: int) -> AnchorGenerator:
    return AnchorGenerator((sizes,), ((1.0,),))


def _rcnn(make: Make, num_classes: int, **parts: Any) -> nn.Module:
    """One that samples every proposal in training, so that its losses are no matter of luck."""
    aligned = partial(MultiScaleRoIAlign, ["0"], sampling_ratio=2)
    every = {"rpn_batch_size_per_image": 4096, "box_batch_size_per_image": 4096, "box_score_thresh": 0.0}
    heads = {"box_head": TwoMLPHead(16 * 9, 16), "box_predictor": FastRCNNPredictor(16, num_classes)}
    pools = {
        f"{name.removesuffix('_head')}_roi_pool": aligned(output_size=4) for name in parts if name.endswith("_head")
    }
    few = {"rpn_post_nms_top_n_train": 16, "rpn_post_nms_top_n_test": 8}
    anchors = _anchors(16, 32)
    given = every | heads | pools | few | parts | _SCALE
    return make(_backbone(), rpn_anchor_generator=anchors, box_roi_pool=aligned(output_size=3), **given)


def _mask_rcnn(num_classes: int) -> nn.Module:
    parts = {"mask_head": MaskRCNNHeads(16, [8], 1), "mask_predictor": MaskRCNNPredictor(8, 8, num_classes)}
    return _rcnn(detection.MaskRCNN, num_classes, **parts)


def _keypoint_rcnn(num_classes: int) -> nn.Module:
    parts = {"keypoint_head": KeypointRCNNHeads(16, [8]), "keypoint_predictor": KeypointRCNNPredictor(8, _POINTS)}
    return _rcnn(detection.KeypointRCNN, num_classes, **parts)


def _dense(make: Make, *sizes: int, num_classes: int) -> nn.Module:
    """Without proposals; its norm has 32 groups."""
    return make(_backbone(32), num_classes, anchor_generator=_anchors(*sizes), score_thresh=0.0, **_SCALE)


def _ssdlite(num_classes: int) -> nn.Module:
    parts = IntermediateLayerGetter(_trunk(), {"1": "0", "2": "1"})
    boxes = DefaultBoxGenerator([[2], [2]])
    head = SSDLiteHead([8, 16], boxes.num_anchors_per_location(), num_classes, nn.BatchNorm2d)
    return detection.ssd.SSD(parts, boxes, (_SIDE, _SIDE), num_classes, head=head, score_thresh=0.0)


_NUMBERS = {"samples": "reads a tensor's value as a Python number"}
_PROPOSALS = {"samples": "draws only in training mode"}

_DETECTORS = (
    Row("fasterrcnn", partial(_rcnn, detection.FasterRCNN), _SIDE, "", _PROPOSALS),
    Row("maskrcnn", _mask_rcnn, _SIDE, "", _PROPOSALS),
    Row("keypointrcnn", _keypoint_rcnn, _SIDE, "", _PROPOSALS),
    Row("retinanet", partial(_dense, detection.RetinaNet, 16, 32), _SIDE, "", _NUMBERS),
    Row("fcos", partial(_dense, detection.FCOS, 16), _SIDE, "", _NUMBERS),
    Row("ssdlite", _ssdlite, _SIDE, "", _NUMBERS),
)


def specimens() -> list[Specimen]:
    """Every line of the tables."""
    tables = ((_CLASSIFIERS, None), (_SEGMENTERS, None), (_DETECTORS, _photographs))
    return [
        Specimen(f"torchvision/{row.name}", _builder(row), inputs or images(row.size), _noise(row), row.refuses)
        for rows, inputs in tables
        for row in rows
    ]


def _noise(row: Row) -> dict[str, dict[str, float]]:
    return {kind: {kind: 0.5} for kind in row.noise.split()}


def _builder(row: Row) -> Make:
    kinds = row.noise.split()

    def build(own: float = 0.0, **rates: float) -> nn.Module:
        module = row.make(num_classes=3, **{kind: 0.0 for kind in kinds if kind != "own"} | rates)
        if "own" in kinds:
            for layer in module.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = own
        return module

    return build


def _photographs() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Two images, and what is to be found in them: in evaluation a detector takes it too, and leaves it."""
    (batch,), _ = images(_SIDE)()
    return (list(batch), [_target(8.0), _target(20.0)]), {}


def _target(corner: float) -> dict[str, Tensor]:
    box = torch.tensor([[corner, corner, corner + 30.0, corner + 34.0]], dtype=torch.float64)
    points = torch.linspace(corner + 2, corner + 28, _POINTS)
    mask = torch.zeros(1, _SIDE, _SIDE, dtype=torch.uint8)
    mask[:, int(corner) : int(corner) + 20, int(corner) : int(corner) + 20] = 1
    seen = torch.stack([points, points, torch.ones_like(points)], dim=-1)
    return {"boxes": box, "labels": torch.tensor([1]), "masks": mask, "keypoints": seen[None]}
