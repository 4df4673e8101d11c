"""Average precision of detections: COCO's by pycocotools, PASCAL VOC's by its own rule."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.dense.base import need

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
RULES = ("11point", "area")


@dataclass(frozen=True)
class Found:
    """What a detector found in one image: boxes (n, 4), scores (n,), labels (n,) from 1.

    masks: n run-length codes of pycocotools, or None.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Truth:
    """What is in one image: boxes (n, 4), labels (n,), ignored (n,): neither hit nor miss."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def coco(annotations: Any, ids: Sequence[int], categories: Sequence[int],
         found: Sequence[Found], kind: str) -> dict[str, float]:
    """AP, AP50 and AP75 of COCO, in [0, 1], for kind "bbox" or "segm".

    annotations: a pycocotools COCO object; ids: the image of each entry of `found`; categories:
    COCO's id of each label. Source: cocodataset/cocoapi, COCOeval.
    """
    results = [entry for image, one in zip(ids, found, strict=True)
               for entry in _results(image, one, categories, kind)]
    if not results:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it narrates
        scored = need("pycocotools.cocoeval").COCOeval(annotations, annotations.loadRes(results),
                                                       kind)
        scored.params.imgIds = list(ids)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    # -1 where there is nothing to be found
    ap, ap50, ap75 = (max(0.0, float(value)) for value in scored.stats[:3])
    return {"ap": ap, "ap50": ap50, "ap75": ap75}


def _results(image: int, found: Found, categories: Sequence[int],
             kind: str) -> list[dict[str, Any]]:
    entries = []
    for i, (box, score, label) in enumerate(zip(found.boxes, found.scores, found.labels,
                                                strict=True)):
        entry: dict[str, Any] = {"image_id": image, "category_id": int(categories[label - 1]),
                                 "score": float(score)}
        if kind == "segm":
            assert found.masks is not None
            entry["segmentation"] = found.masks[i]
        else:
            x0, y0, x1, y1 = (float(value) for value in box)
            entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        entries.append(entry)
    return entries


def voc(truths: Sequence[Truth], found: Sequence[Found], num_classes: int,
        rule: str = "11point") -> dict[str, float]:
    """AP, AP50 and AP75 of PASCAL VOC, in [0, 1]: means over the classes that occur.

    ap50 is VOC's own number; ap averages it over overlaps .5, .55, .. .95 as COCO does, which is
    what MoCo reports of VOC (detectron2's PascalVOCDetectionEvaluator). rule: "11point" (VOC2007,
    used there for VOC2007 test) or "area" under the monotone curve (VOC2010 on).
    """
    present = [label for label in range(1, num_classes + 1)
               if any(((t.labels == label) & ~t.ignored).any() for t in truths)]
    if not present:
        raise ValueError("no object to be found in the test part: check its annotations")
    table = np.array([[voc_class(truths, found, label, overlap, rule) for overlap in THRESHOLDS]
                      for label in present])
    mean = table.mean(0)
    return {"ap": float(mean.mean()), "ap50": float(mean[0]),
            "ap75": float(mean[THRESHOLDS.index(0.75)])}


def voc_class(truths: Sequence[Truth], found: Sequence[Found], label: int, overlap: float,
              rule: str) -> float:
    """Average precision of one class at one overlap; VOC's matching (devkit, VOCevaldet.m).

    Detections by falling score; each takes its best-overlapping object and is right if that is
    not taken yet; a hit on an ignored object does not count at all.
    """
    scores, hits = [], []
    total = 0
    for truth, one in zip(truths, found, strict=True):
        mine = truth.labels == label
        ignored = truth.ignored[mine]
        total += int((~ignored).sum())
        chosen = one.labels == label
        scores.append(one.scores[chosen])
        order = np.argsort(-one.scores[chosen], kind="stable")
        shared = overlaps(one.boxes[chosen][order], truth.boxes[mine])
        row = np.zeros(len(order), np.int64)
        row[order] = _match(shared, ignored, overlap)
        hits.append(row)
    score, hit = np.concatenate(scores), np.concatenate(hits)
    hit = hit[np.argsort(-score, kind="stable")]
    hit = hit[hit >= 0]
    right = np.cumsum(hit)
    recall = right / max(total, 1)
    precision = right / np.arange(1, len(hit) + 1)
    return area(recall, precision, rule)


def _match(shared: NDArray[np.floating], ignored: NDArray[np.bool_],
           overlap: float) -> NDArray[np.int64]:
    """1 right, 0 wrong, -1 not counted, for the detections of an image by falling score."""
    outcome = np.zeros(len(shared), np.int64)
    if not shared.shape[1]:
        return outcome
    taken = np.zeros(shared.shape[1], bool)
    best = shared.argmax(1)
    for row, target in enumerate(best):
        if shared[row, target] < overlap:
            continue
        if ignored[target]:
            outcome[row] = -1
        elif not taken[target]:
            outcome[row], taken[target] = 1, True
    return outcome


def area(recall: NDArray[np.floating], precision: NDArray[np.floating], rule: str) -> float:
    """Average precision from the points of a curve, recall rising."""
    if rule not in RULES:
        raise ValueError(f"unknown rule '{rule}': choose one of {', '.join(RULES)}")
    if not len(recall):
        return 0.0
    if rule == "11point":
        levels = np.arange(11) / 10
        return float(np.mean([precision[recall >= level - 1e-9].max(initial=0.0)
                              for level in levels]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = np.concatenate([[0.0], precision, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum())


def overlaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union (n, m) of boxes a (n, 4) and b (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    union = sizes[0][:, None] + sizes[1][None] - shared
    found: NDArray[np.floating] = shared / np.maximum(union, 1e-12)
    return found
