"""Faster and Mask R-CNN on the stages of a ResNet: C4, as MoCo, and FPN, from torchvision's parts.

Sources: Ren et al., arXiv 1506.01497; He et al., arXiv 1703.06870; Lin et al., arXiv 1612.03144.
The numbers are detectron2's, as MoCo and its successors use them. Two things are torchvision's and
not detectron2's: the box losses are smooth L1 with beta 1/9 where detectron2's default is L1, and
the pyramid's RoIAlign is not shifted by half a pixel (C4's is).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    fastrcnn_loss,
    maskrcnn_inference,
    maskrcnn_loss,
)
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from datasets.views import MEAN, STD
from harness.evaluation.dense.stages import Body, freeze, freeze_norms

RATIOS = (0.5, 1.0, 2.0)
FPN_WIDTH = 256
C4_SCALES = (2, 4, 8, 16, 32)  # anchors of 32 .. 512 pixels on C4's stride of 16
FPN_SCALE = 8  # one anchor size a level: 32 on stride 4 .. 512 on stride 64
ROI = 14  # side of C4's regions before the last stage halves it
BEFORE_NMS = {"c4": (12000, 6000), "fpn": (2000, 1000)}  # proposals (of a level), train and test


@dataclass(frozen=True)
class Shape:
    """What kind of detector: "c4" or "fpn"; classes without the background; with masks or not.

    norm: "sync" (BatchNorm is tuned, and the new layers have it) or "frozen"; freeze_at as in
    `stages.freeze`; regions: of an image, that the heads learn from; proposals: that are scored.
    """

    architecture: str
    classes: int
    masks: bool
    norm: str = "sync"
    freeze_at: int = 0
    regions: int = 512
    proposals: int = 1000


class Whole(GeneralizedRCNNTransform):
    """Normalise and pad only: images arrive at their size, and boxes leave at it."""

    def __init__(self, divisible: int) -> None:
        super().__init__(0, 0, list(MEAN), list(STD), size_divisible=divisible)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None,
               ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image as it is."""
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]],
                    original_image_sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """The detections as they are: masks (n, 1, 28, 28) in their boxes."""
        return result


class Pyramid(nn.Module):
    """All stages and a feature pyramid over them: levels "0", "1", .. and "pool"."""

    def __init__(self, body: Body, norm: str) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            list(body.channels), FPN_WIDTH, extra_blocks=LastLevelMaxPool(),
            norm_layer=nn.BatchNorm2d if norm == "sync" else None)
        self.out_channels = FPN_WIDTH

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, H, W) -> a map of FPN_WIDTH channels for each level."""
        outputs = self.body(x)
        return OrderedDict(self.fpn(OrderedDict((str(i), y) for i, y in enumerate(outputs))))


class Single(nn.Module):
    """The last output of a body, as torchvision's detectors want it."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body
        self.out_channels = body.channels[-1]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, H, W) -> {"0": (B, C, H / stride, W / stride)}."""
        return OrderedDict({"0": self.body(x)[-1]})


class C4Heads(RoIHeads):
    """Heads that run the backbone's last stage on every region; boxes and masks share its output.

    MoCo adds a BatchNorm after it ("Res5ROIHeadsExtraNorm").
    """

    def __init__(self, stage: nn.Module, stride: int, regions: int, box_predictor: nn.Module,
                 mask_predictor: nn.Module | None) -> None:
        super().__init__(None, None, box_predictor, 0.5, 0.5, regions, 0.25, None, 0.05, 0.5, 100)
        self.res5, self.stride = stage, stride
        self.mask_predictor = mask_predictor

    def regions(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """The last stage's output for every box of every image, (R, C, 7, 7)."""
        pooled = roi_align(features["0"], boxes, ROI, 1 / self.stride, sampling_ratio=-1,
                           aligned=True)
        found: Tensor = self.res5(pooled)
        return found

    def forward(self, features: dict[str, Tensor], proposals: list[Tensor],
                image_shapes: list[tuple[int, int]],
                targets: list[dict[str, Tensor]] | None = None,
                ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections otherwise; as torchvision's RoIHeads."""
        if self.training:
            return [], self._losses(features, proposals, targets)
        x = self.regions(features, proposals)
        found = self.postprocess_detections(*self.box_predictor(x.mean((2, 3))), proposals,
                                            image_shapes)
        result = [{"boxes": boxes, "scores": scores, "labels": labels}
                  for boxes, scores, labels in zip(*found, strict=True)]
        if self.mask_predictor is not None:
            logits = self.mask_predictor(self.regions(features, found[0]))
            masks = maskrcnn_inference(logits, found[2])
            for entry, mask in zip(result, masks, strict=True):
                entry["masks"] = mask
        return result, {}

    def _losses(self, features: dict[str, Tensor], proposals: list[Tensor],
                targets: list[dict[str, Tensor]] | None) -> dict[str, Tensor]:
        boxes, matched, labels, regression = self.select_training_samples(proposals, targets)
        x = self.regions(features, boxes)
        logits, deltas = self.box_predictor(x.mean((2, 3)))
        classes, places = fastrcnn_loss(logits, deltas, labels, regression)
        losses = {"loss_classifier": classes, "loss_box_reg": places}
        if self.mask_predictor is not None:
            assert targets is not None
            positive = [row > 0 for row in labels]
            losses["loss_mask"] = maskrcnn_loss(
                self.mask_predictor(x[torch.cat(positive)]),
                [b[keep] for b, keep in zip(boxes, positive, strict=True)],
                [target["masks"] for target in targets],
                [target["labels"] for target in targets],
                [m[keep] for m, keep in zip(matched, positive, strict=True)])
        return losses


def build(body: Body, shape: Shape) -> GeneralizedRCNN:
    """A detector on a body; its new weights are drawn from torch's global generator."""
    freeze(body, shape.freeze_at)
    if shape.norm == "frozen":
        freeze_norms(body)
    if shape.architecture == "c4":
        return _c4(body, shape)
    return _fpn(body, shape)


def _c4(body: Body, shape: Shape) -> GeneralizedRCNN:
    """Proposals on the last but one stage (stride 16 of a ResNet-50)."""
    width = body.channels[-1]
    trunk, last = body.split()
    stride = trunk.strides[-1]
    head = nn.Sequential(last, nn.BatchNorm2d(width)) if shape.norm == "sync" else last
    sizes = (tuple(scale * stride for scale in C4_SCALES),)
    heads = C4Heads(head, stride, shape.regions, _box_predictor(width, shape.classes),
                    MaskRCNNPredictor(width, 256, shape.classes + 1) if shape.masks else None)
    return GeneralizedRCNN(Single(trunk), _rpn(shape, sizes, trunk.channels[-1]), heads, Whole(1))


def _fpn(body: Body, shape: Shape) -> GeneralizedRCNN:
    """Proposals on every level of the pyramid."""
    names = [str(i) for i in range(len(body.strides))]
    norm = nn.BatchNorm2d if shape.norm == "sync" else None
    masks: dict[str, Any] = {}
    if shape.masks:
        masks = {"mask_roi_pool": MultiScaleRoIAlign(names, ROI, 2),
                 "mask_head": MaskRCNNHeads(FPN_WIDTH, (FPN_WIDTH,) * 4, 1, norm_layer=norm),
                 "mask_predictor": MaskRCNNPredictor(FPN_WIDTH, 256, shape.classes + 1)}
    heads = RoIHeads(MultiScaleRoIAlign(names, ROI // 2, 2),
                     TwoMLPHead(FPN_WIDTH * (ROI // 2) ** 2, 1024),
                     _box_predictor(1024, shape.classes), 0.5, 0.5, shape.regions, 0.25, None, 0.05,
                     0.5, 100, **masks)
    sizes = tuple((FPN_SCALE * stride,) for stride in (*body.strides, 2 * body.strides[-1]))
    return GeneralizedRCNN(Pyramid(body, shape.norm), _rpn(shape, sizes, FPN_WIDTH), heads,
                           Whole(max(32, body.strides[-1])))


def _rpn(shape: Shape, sizes: tuple[tuple[int, ...], ...],
         channels: int) -> RegionProposalNetwork:
    anchors = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    # C4 trains on twice as many as it scores, a pyramid on as many (detectron2)
    kept = shape.proposals * (2 if shape.architecture == "c4" else 1), shape.proposals
    limits = [dict(zip(("training", "testing"), counts, strict=True))
              for counts in (BEFORE_NMS[shape.architecture], kept)]
    head = RPNHead(channels, anchors.num_anchors_per_location()[0])
    return RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, *limits, 0.7)


def _box_predictor(channels: int, classes: int) -> FastRCNNPredictor:
    """Class 0 is the background; initialised as in detectron2 (normal, 0.01 and 0.001)."""
    made = FastRCNNPredictor(channels, classes + 1)
    for layer, spread in ((made.cls_score, 0.01), (made.bbox_pred, 0.001)):
        nn.init.normal_(layer.weight, std=spread)
        nn.init.zeros_(layer.bias)
    return made
