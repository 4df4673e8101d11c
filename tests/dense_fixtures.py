"""Tiny data sets in the official layouts of COCO, VOC and NYU: coloured shapes on noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from harness.execute import Context
from harness.training.backbones import build_backbone

COLOURS = ((220, 40, 40), (40, 60, 220))  # of the two classes: red boxes, blue discs
SIDE = 64
TINY = {"width": 12, "stages": 4, "stem_stride": 2}


def backbone(seed: int = 0, **options: Any) -> nn.Module:
    """A ResNet of four stages (strides 2, 4, 8, 16) for one CPU core."""
    torch.manual_seed(seed)
    return build_backbone("resnet_tiny", **{**TINY, **options})


def context(folder: Path, **changes: Any) -> Context:
    """Where an evaluation runs in a test."""
    return Context(**{  # type: ignore[arg-type]
        "device": "cpu", "data_paths": {}, "plugins": (), "progress": lambda event: None,
        "checkpoint_seconds": 1e9, "checkpoint_dir": folder / "checkpoint", "threads": 1,
        "stop": lambda: False, **changes})


def scene(rng: np.random.Generator, side: int = SIDE) -> tuple[
        NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]]]:
    """An image uint8 (side, side, 3) and its two objects: class 0 or 1, and mask."""
    image = rng.integers(90, 130, (side, side, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:side, :side]
    objects = []
    for half in range(2):  # one in the left half, one in the right: they do not overlap
        label = int(rng.integers(2))
        radius = int(rng.integers(side // 8, side // 5))
        y = int(rng.integers(radius, side - radius))
        x = int(rng.integers(radius, side // 2 - radius)) + half * side // 2
        if label == 0:
            mask = (abs(rows - y) < radius) & (abs(columns - x) < radius)
        else:
            mask = (rows - y)**2 + (columns - x)**2 < radius**2
        image[mask] = COLOURS[label]
        objects.append((label, mask))
    return image, objects


def corners(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask, half open."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def write_coco(root: Path, train: int = 12, test: int = 6) -> Path:
    """annotations/instances_*.json and *2017/*.jpg with run-length masks; ids are not 1, 2, .."""
    from pycocotools import mask as codec

    rng = np.random.default_rng(1)
    for part, count in (("train2017", train), ("val2017", test)):
        (root / part).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            image, objects = scene(rng)
            name = f"{number:012d}.jpg"
            Image.fromarray(image).save(root / part / name, quality=95)
            images.append({"id": 100 + number, "file_name": name, "width": SIDE, "height": SIDE})
            for label, mask in objects:
                x0, y0, x1, y1 = corners(mask)
                code = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
                annotations.append({
                    "id": len(annotations) + 1, "image_id": 100 + number, "iscrowd": 0,
                    "category_id": (3, 17)[label], "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()}})
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps({
            "images": images, "annotations": annotations, "categories": [
                {"id": 3, "name": "box"}, {"id": 17, "name": "disc"}]}))
    return root


def write_voc(root: Path, train: int = 12, test: int = 6) -> Path:
    """VOCdevkit/VOC2007 and VOC2012 with boxes (bird, cat) and class maps; one object difficult."""
    rng = np.random.default_rng(2)
    parts = (("VOC2007", "trainval", train // 2), ("VOC2012", "trainval", train // 2),
             ("VOC2007", "test", test))
    for year, part, count in parts:
        base = root / "VOCdevkit" / year
        for folder in ("Annotations", "JPEGImages", "SegmentationClass", "ImageSets/Main",
                       "ImageSets/Segmentation"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        names = [f"{part}_{number:06d}" for number in range(count)]
        for name in names:
            _voc_image(base, name, rng)
        (base / "ImageSets/Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
        cut = len(names) - len(names) // 3
        for listed, chosen in (("train", names[:cut]), ("val", names[cut:])):
            (base / "ImageSets/Segmentation" / f"{listed}.txt").write_text("\n".join(chosen))
    return root


def _voc_image(base: Path, name: str, rng: np.random.Generator) -> None:
    image, objects = scene(rng)
    Image.fromarray(image).save(base / "JPEGImages" / f"{name}.jpg", quality=95)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    tree = ElementTree.Element("annotation")
    for label, mask in objects:
        classes[mask] = (3, 8)[label]  # bird and cat are the third and eighth of VOC's classes
        x0, y0, x1, y1 = corners(mask)
        classes[y0, x0:x1] = 255  # the void outline, here one edge of it
        entry = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(entry, "name").text = ("bird", "cat")[label]
        ElementTree.SubElement(entry, "difficult").text = "0"
        box = ElementTree.SubElement(entry, "bndbox")
        for side, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            ElementTree.SubElement(box, side).text = str(value)
    ElementTree.ElementTree(tree).write(base / "Annotations" / f"{name}.xml")
    drawn = Image.fromarray(classes).convert("P")
    drawn.save(base / "SegmentationClass" / f"{name}.png")


def write_nyu(root: Path, train: int = 12, test: int = 6, side: int = SIDE) -> Path:
    """{train,test}/rgb and depth: what is red is near, what is blue is far; 64 x 96 pixels."""
    rng = np.random.default_rng(3)
    for part, count in (("train", train), ("test", test)):
        for folder in ("rgb", "depth"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            image, objects = scene(rng, side)
            metres = np.full((side, side), 3.0)
            for label, mask in objects:
                metres[mask] = (1.0, 6.0)[label]
            metres[0] = 0  # unknown
            Image.fromarray(image).save(root / part / "rgb" / f"{number:03d}.png")
            Image.fromarray(np.round(1000 * metres).astype(np.uint16)).save(
                root / part / "depth" / f"{number:03d}.png")
    return root
