"""The options of the dense evaluations and their published variants. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.evaluation.dense.schedule import Schedule, variant
from methods.options import option

VOC_SIDES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
COCO_SIDES = (640, 672, 704, 736, 768, 800)
COCO_DROPS = (6 / 9, 8 / 9)


@dataclass(frozen=True)
class Detection(Schedule):
    """Options of Faster R-CNN; the defaults are MoCo's of VOC07+12."""

    source: ClassVar[str] = "voc_detection"
    masks: ClassVar[bool] = False

    architecture: str = option("c4", choices=("c4", "fpn"), help="c4: proposals on the last stage "
                               "but one, the last stage on each region; fpn: feature pyramid",
                               source="Base-RCNN-C4-BN.yaml of facebookresearch/moco")
    train_sides: tuple[int, ...] = option(VOC_SIDES, at_least=16, help="shorter side in pixels, "
                                          "one drawn for each image",
                                          source="pascal_voc_R_50_C4_24k.yaml")
    test_side: int = option(800, at_least=16, source="pascal_voc_R_50_C4_24k.yaml")
    max_side: int = option(1333, at_least=16, help="limit of the longer side",
                           source="detectron2's default")
    regions: int = option(512, at_least=1, help="regions of an image that the heads learn from",
                          source="detectron2's default")
    proposals: int = option(1000, at_least=1, help="regions of an image that are scored, after NMS",
                            source="Base-RCNN-C4-BN.yaml")
    ap_rule: str = option("11point", choices=("11point", "area"), help="VOC only: average "
                          "precision by VOC2007's rule or by the area",
                          source="detectron2 on VOC2007 test, which MoCo reports")


class Boxes(Detection):
    """Options of Faster R-CNN on COCO."""

    source: ClassVar[str] = "coco"


class Instances(Boxes):
    """Options of Mask R-CNN: instances as well as boxes."""

    masks: ClassVar[bool] = True


Coco = variant(
    Instances, "Coco", "coco_R_50_C4_2x.yaml of facebookresearch/moco",
    iterations=180000, warmup=1000, drops=COCO_DROPS, train_sides=COCO_SIDES)
CocoC41x = variant(
    Coco, "CocoC41x", "MoCo, arXiv 1911.05722, Table 5 (c): 1x", iterations=90000)
CocoFpn1x = variant(
    Coco, "CocoFpn1x", "MoCo, arXiv 1911.05722, Table 5 (a): R50-FPN, 1x",
    iterations=90000, architecture="fpn")
CocoFpn2x = variant(
    Coco, "CocoFpn2x", "MoCo, arXiv 1911.05722, Table 5 (b): R50-FPN, 2x", architecture="fpn")
CocoFasterFpn1x = variant(
    Boxes, "CocoFasterFpn1x", "detectron2's faster_rcnn_R_50_FPN_1x, tuned as MoCo does",
    iterations=90000, warmup=1000, drops=COCO_DROPS, train_sides=COCO_SIDES, architecture="fpn")
# 12 epochs of batch 64; "dropped twice by a factor of 2" as printed, where 10 is usual
CocoDnc = variant(
    CocoFpn1x, "CocoDnc", "DnC, arXiv 2105.08054, appendix F.3", iterations=22500, batch_size=64,
    lr=0.3, warmup=500, gamma=0.5)


@dataclass(frozen=True)
class Segmentation(Schedule):
    """Options of semantic segmentation beside the schedule."""

    source: ClassVar[str] = "voc_segmentation"

    crop: int = option(513, at_least=16, help="side of a training crop in pixels",
                       source="MoCo, arXiv 1911.05722, appendix A.7")
    scale_min: float = option(0.5, above=0, source="MoCo, appendix A.7")
    scale_max: float = option(2.0, above=0, source="MoCo, appendix A.7")
    test_crop: int | None = option(None, at_least=16, help="score the central crop of that side; "
                                   "default: the whole image", source="MoCo, appendix A.7")


SegmentationMoco = variant(
    Segmentation, "SegmentationMoco", "MoCo, arXiv 1911.05722, appendix A.7: semantic segmentation",
    iterations=30000, batch_size=16, lr=0.003, weight_decay=1e-4, warmup=0, drops=(0.7, 0.9),
    precise_bn=0)
# one of five rates from 1e-3 to 1e-1, chosen on validation images: 0.01 is the middle one
SegmentationDnc = variant(
    SegmentationMoco, "SegmentationDnc", "BYOL, arXiv 2006.07733, appendix D; DnC, arXiv "
    "2105.08054, appendix F: lr is swept, the central 513 pixels are scored", lr=0.01,
    test_crop=513)


@dataclass(frozen=True)
class Depth(Schedule):
    """Options of depth estimation beside the schedule."""

    source: ClassVar[str] = "nyu_v2"

    height: int = option(228, at_least=16, help="centre crop after halving 480 x 640",
                         source="DnC, arXiv 2105.08054, appendix F; BYOL, appendix D")
    width: int = option(304, at_least=16, source="DnC, appendix F; BYOL, appendix D")
    half: bool = option(True, help="halve the frames before the crop", source="BYOL, appendix D")
    filters: tuple[int, ...] = option((512, 256, 128, 64), at_least=1,
                                      help="channels of the up-projections, each doubles the side",
                                      source="BYOL, appendix D")
    grey: float = option(0.3, at_least=0, at_most=1, help="share of images turned grey",
                         source="BYOL, appendix D, recalled")
    brightness: float = option(0.1255, at_least=0, help="largest shift, of [0, 1]",
                               source="BYOL, appendix D, recalled")
    saturation: float = option(0.5, at_least=0, at_most=1, help="factor in 1 -+ this",
                               source="BYOL, appendix D, recalled")
    hue: float = option(0.2, at_least=0, at_most=0.5, help="largest shift, of a turn",
                        source="BYOL, appendix D, recalled")


DepthByol = variant(
    Depth, "DepthByol", "BYOL, arXiv 2006.07733, appendix D, and DnC, arXiv 2105.08054, appendix F",
    iterations=7500, batch_size=256, lr=0.16, weight_decay=5e-4, warmup=0, drops=(), precise_bn=0)
