"""Evaluations of pixels and boxes, one file each: fine-tuning a network with a dense head.

Each name is one published protocol; MoCo's is the one without a suffix. On a CPU equal runs make
equal bytes; on a GPU the gradients of RoIAlign and of bilinear resizing are added in any order. No
torch at import.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evaluation.dense import configs
from harness.evaluation.measures import Measure, declare
from harness.evaluation.registry import register

if TYPE_CHECKING:
    from harness.evaluation.subject import Subject

BOXES = declare(
    Measure("ap_bb", "box AP"), Measure("ap50_bb", "box AP50"), Measure("ap75_bb", "box AP75"))
INSTANCES = declare(
    Measure("ap_mk", "mask AP"), Measure("ap50_mk", "mask AP50"), Measure("ap75_mk", "mask AP75"))
CLASSES = declare(Measure("miou", "mean IoU"), Measure("pixel_accuracy"))
DEPTHS = declare(
    Measure("d1", "depth < 1.25"), Measure("d2", "depth < 1.25^2"),
    Measure("d3", "depth < 1.25^3"),
    Measure("rms", "RMS error", unit="m", high=math.inf, better="lower"),
    Measure("rel", "relative error", unit="", high=math.inf, better="lower"))

Scored = Callable[["Subject", Any, "Sequence[int] | None"], dict[str, Any]]


def _register(name: str, config: type, metrics: tuple[str, ...], module: str,
              summary: str) -> None:
    """Make `module.run` an evaluation of encoders on the dense data set `config.source`."""

    def run(subject: Subject, config: Any,
            class_counts: Sequence[int] | None) -> dict[str, Any]:
        return _score(subject, config, module)

    run.__doc__ = summary
    register(name, config=config, revision=1, takes="encoder", metrics=metrics)(run)


def _score(subject: Subject, config: Any, module: str) -> dict[str, Any]:
    """Open the reader, take the backbone and run the task; writes losses.npy."""
    from datasets.dense import open_reader

    assert subject.data["source"] == config.source, "checked when the study was planned"
    reader = open_reader(config.source, subject.folder, subject.data.get("options"))
    task = importlib.import_module(f"harness.evaluation.dense.{module}")
    metrics, losses = task.run(subject.network("pooled").encoder, reader, config, subject.context,
                               seed=subject.seed, identity=subject.key)
    np.save(subject.work / "losses.npy", losses)
    return dict(metrics)


for _name, _config, _summary in (
        ("detection_coco", configs.Coco, "Mask R-CNN R50-C4, 2x (180k), as MoCo: COCO boxes and "
         "masks, AP by pycocotools"),
        ("detection_coco_c4_1x", configs.CocoC41x, "Mask R-CNN R50-C4, 1x (90k), as MoCo"),
        ("detection_coco_fpn_1x", configs.CocoFpn1x, "Mask R-CNN R50-FPN, 1x (90k), as MoCo"),
        ("detection_coco_fpn_2x", configs.CocoFpn2x, "Mask R-CNN R50-FPN, 2x (180k), as MoCo"),
        ("detection_coco_dnc", configs.CocoDnc, "Mask R-CNN R50-FPN, 12 epochs of batch 64, as "
         "DnC (its Table 5)")):
    _register(_name, _config, (*BOXES, *INSTANCES), "detection", _summary)
_register("detection_coco_faster_fpn_1x", configs.CocoFasterFpn1x, BOXES, "detection",
          "Faster R-CNN R50-FPN, 1x (90k): COCO boxes alone")
_register("detection_voc", configs.Detection, BOXES, "detection",
          "Faster R-CNN R50-C4, 24k, VOC07+12, as MoCo: VOC2007 test, 11-point AP at .5, and its "
          "mean over .5:.95")
_register("segmentation_voc", configs.SegmentationMoco, CLASSES, "segmentation",
          "FCN-16s on VOC2012, 30k, as MoCo: mean IoU of val")
_register("segmentation_voc_dnc", configs.SegmentationDnc, CLASSES, "segmentation",
          "FCN-16s on VOC2012, 30k, as BYOL and DnC: mean IoU of val's centre")
_register("depth_nyu", configs.DepthByol, DEPTHS, "depth",
          "Depth on NYU v2 by up-projections, 7500 updates, as BYOL and DnC")
