"""PASCAL VOC in the official layout: boxes of 2007 and 2012, class maps of 2012."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from datasets.dense.base import Classes, Objects, Reader, open_image, register
from datasets.messages import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.dense.base import Part

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
           "train", "tvmonitor")
DETECTION = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")),
             "test": (("VOC2007", "test"),)}
FETCH = ("python -c \"from torchvision.datasets import {kind} as V; "
         "[V('PATH', y, s, download=True) for y, s in {sets}]\"")


@dataclass(frozen=True)
class _Voc(Reader):
    licence = "images under Flickr's terms"
    citation = "Everingham et al., IJCV 2010"

    @property
    def class_names(self) -> tuple[str, ...]:
        """VOC's 20 classes."""
        return CLASSES

    @property
    def devkit(self) -> Path:
        """The folder that holds VOC2007 and VOC2012: PATH/VOCdevkit, or PATH itself."""
        inner = self.root / "VOCdevkit"
        return inner if inner.is_dir() else self.root


@register("voc_detection")
@dataclass(frozen=True)
class VocDetection(_Voc):
    """VOC07+12: trained on trainval of both years (16,551 images), scored on VOC2007 test (4,952).

    Difficult objects are trained on, as detectron2 does, and not scored.
    """

    title = "PASCAL VOC 2007+2012 detection"
    layout = ("PATH/VOCdevkit/VOC{2007,2012}/{Annotations/*.xml, JPEGImages/*.jpg, "
              "ImageSets/Main/{trainval,test}.txt}")
    download = FETCH.format(kind="VOCDetection", sets="(('2007','trainval'),('2012','trainval'),"
                                                       "('2007','test'))")
    size = "3 GB"
    task = "detection"

    def problem(self) -> str | None:
        """One line if a list or folder is missing."""
        if self.path is None:
            return self.missing("needs a folder")
        for year, part in (pair for pairs in DETECTION.values() for pair in pairs):
            for place in (f"ImageSets/Main/{part}.txt", "Annotations", "JPEGImages"):
                if not (self.devkit / year / place).exists():
                    return self.missing(f"finds no {self.devkit / year / place}")
        return None

    def count(self, part: Part) -> int:
        """Images of a part."""
        return len(self._ids(part))

    def listing(self, part: Part) -> list[str]:
        """Year, name and SHA-256 of the annotation of each image."""
        return [f"{year} {name} {_sha(self.devkit / year / 'Annotations' / f'{name}.xml')}"
                for year, name in self._ids(part)]

    def read(self, part: Part, number: int, masks: bool = False) -> Objects:
        """The image at a place of a part. VOC2007 and 2012 have no masks of most images."""
        if masks:
            raise DatasetError(["source 'voc_detection' has boxes only: set masks=false"])
        year, name = self._ids(part)[number]
        boxes, labels, difficult = self.objects(part, number)
        image = open_image(self.devkit / year / "JPEGImages" / f"{name}.jpg")
        return Objects(image, boxes, labels, difficult, None, number)

    def objects(self, part: Part, number: int) -> tuple[
            NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Boxes (n, 4), labels (n,) and difficult (n,) of an image, without its pixels.

        VOC counts pixels from 1 and includes the last: (xmin - 1, ymin - 1, xmax, ymax) is the same
        box from 0, half open.
        """
        year, name = self._ids(part)[number]
        path = self.devkit / year / "Annotations" / f"{name}.xml"
        try:
            found = ElementTree.parse(path).getroot().findall("object")
            boxes = [[float(entry.findtext(f"bndbox/{side}", "")) for side in
                      ("xmin", "ymin", "xmax", "ymax")] for entry in found]
            labels = [1 + CLASSES.index(entry.findtext("name", "")) for entry in found]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise DatasetError([f"{path}: no annotation of VOC ({error}): "
                                "fetch it again"]) from None
        shift = np.array([1, 1, 0, 0], np.float32)
        return (np.array(boxes, np.float32).reshape(-1, 4) - shift, np.array(labels, np.int64),
                np.array([entry.findtext("difficult", "0") == "1" for entry in found], bool))

    def _ids(self, part: Part) -> list[tuple[str, str]]:
        return [(year, name) for year, listed in DETECTION[part]
                for name in _lines(self.devkit / year / "ImageSets/Main" / f"{listed}.txt")]


@register("voc_segmentation")
@dataclass(frozen=True)
class VocSegmentation(_Voc):
    """VOC2012 class maps: train (1,464) or, with SBD's, train_aug (10,582); scored on val (1,449).

    train_set: 'train_aug' as MoCo, 'train' as BYOL and DnC print it.
    """

    train_set: str = "train_aug"

    title = "PASCAL VOC 2012 segmentation"
    layout = ("PATH/VOCdevkit/VOC2012/{JPEGImages/*.jpg, SegmentationClass/*.png, "
              "ImageSets/Segmentation/{train,val}.txt} and, for train_set=train_aug, "
              "SegmentationClassAug/*.png, ImageSets/Segmentation/train_aug.txt (or trainaug.txt)")
    download = (FETCH.format(kind="VOCSegmentation", sets="(('2012','trainval'),)")
                + "; train_aug: the maps that DeepLab's authors made from SBD")
    size = "2 GB"
    task = "segmentation"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The background and VOC's 20 classes: here label 0 is a class."""
        return ("background", *CLASSES)

    def problem(self) -> str | None:
        """One line if a list or folder is missing."""
        if self.train_set not in ("train", "train_aug"):
            return (f"source 'voc_segmentation': train_set must be 'train' or 'train_aug', not "
                    f"{self.train_set!r}")
        if self.path is None:
            return self.missing("needs a folder")
        base = self.devkit / "VOC2012"
        for place in ("JPEGImages", self._maps("train"), self._maps("test")):
            if not (base / place).is_dir():
                return self.missing(f"finds no {base / place}")
        for listed in (self._list("train"), self._list("test")):
            if not listed.exists():
                return self.missing(f"finds no {listed}")
        return None

    def count(self, part: Part) -> int:
        """Images of a part."""
        return len(_lines(self._list(part)))

    def listing(self, part: Part) -> list[str]:
        """Name and SHA-256 of the class map of each image."""
        return [f"{name} {_sha(self._map(part, name))}" for name in _lines(self._list(part))]

    def read(self, part: Part, number: int) -> Classes:
        """The image at a place of a part, with its class map."""
        name = _lines(self._list(part))[number]
        image = open_image(self.devkit / "VOC2012/JPEGImages" / f"{name}.jpg")
        path = self._map(part, name)
        try:
            with Image.open(path) as drawn:
                classes = np.array(drawn)
        except OSError as error:
            raise DatasetError([f"{path}: not readable ({error}): fetch it again"]) from None
        if classes.ndim != 2 or classes.shape != image.shape[:2]:
            raise DatasetError([f"{path}: a map of {classes.shape} for an image of {image.shape}: "
                                "it must be a palette or grey PNG of the image's size"])
        return Classes(image, classes.astype(np.uint8))

    def _maps(self, part: Part) -> str:
        augmented = part == "train" and self.train_set == "train_aug"
        return "SegmentationClassAug" if augmented else "SegmentationClass"

    def _map(self, part: Part, name: str) -> Path:
        return self.devkit / "VOC2012" / self._maps(part) / f"{name}.png"

    def _list(self, part: Part) -> Path:
        folder = self.devkit / "VOC2012/ImageSets/Segmentation"
        if part == "train" and self.train_set == "train_aug":
            other = folder / "trainaug.txt"
            return other if other.exists() else folder / "train_aug.txt"
        return folder / ("train.txt" if part == "train" else "val.txt")


@functools.lru_cache(maxsize=16)
def _lines(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
