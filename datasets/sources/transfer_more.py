"""Transfer sets with splits of other kinds: Cars and Flowers (.mat), Caltech-101 (drawn), VOC2007.

Sources of the splits and metrics: see transfer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import multilabel
from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files
from datasets.sources.transfer import DOWNLOAD, lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.sources.listings import Listing
    from datasets.types import Split

VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
               "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep",
               "sofa", "train", "tvmonitor")
CALTECH_TRAIN = 30  # images of each class
CALTECH_SEED = 0


def matrix(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file. Raises ValueError if it is none."""
    from scipy.io import loadmat  # 0.1 s that listing the other sources does not need
    from scipy.io.matlab import MatReadError

    try:
        return dict(loadmat(path, squeeze_me=True))
    except (MatReadError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from error


@register("cars")
@dataclass(frozen=True)
class StanfordCars(Files):
    """Cars by make, model and year."""

    title = "Stanford Cars"
    licence = "non-commercial research"
    citation = "Krause et al., 3D object representations for fine-grained categorization, 2013"
    layout = ("data.path/stanford_cars/{cars_train/*.jpg,cars_test/*.jpg,devkit/cars_meta.mat,"
              "devkit/cars_train_annos.mat,cars_test_annos_withlabels.mat}")
    size = "8,144 + 8,041 photographs, 196 classes, 2 GB"
    splits = "official train and test; a fifth of train, by seed, is validation (BYOL: 1,650)"
    fetch_hint = ("the authors' page is gone: the same files are on Kaggle, "
                  "kaggle datasets download eduardo4jesus/stanford-cars-dataset --unzip")
    official = {"train": (8_144,), "test": (8_041,)}
    validation_share = 0.2

    def needs(self) -> tuple[str, ...]:
        """Both annotations, the names and the images."""
        return tuple(f"stanford_cars/{name}" for name in (
            "devkit/cars_meta.mat", "devkit/cars_train_annos.mat",
            "cars_test_annos_withlabels.mat", "cars_train", "cars_test"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Make, model and year."""
        names = matrix(self.root / "stanford_cars/devkit/cars_meta.mat")["class_names"]
        return tuple(str(name) for name in np.atleast_1d(names))

    def rows(self, part: str) -> Listing:
        """Annotations count classes from 1."""
        name = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
        table = np.atleast_1d(matrix(self.root / "stanford_cars" / name[part])["annotations"])
        return listings.of_names(
            self.root, [f"stanford_cars/cars_{part}/{row['fname']}" for row in table],
            [int(row["class"]) - 1 for row in table])


@register("flowers")
@dataclass(frozen=True)
class Flowers102(Files):
    """Flowers; the test part is larger than the training part."""

    title = "Oxford 102 Flowers"
    licence = "research use"
    citation = "Nilsback, Zisserman, Automated flower classification, ICVGIP 2008"
    layout = "data.path/flowers-102/{jpg/image_00001.jpg...,imagelabels.mat,setid.mat}"
    size = "1,020 + 1,020 + 6,149 photographs, 102 classes, 350 MB"
    splits = "official train, validation and test"
    fetch_hint = DOWNLOAD.format("Flowers102", "d('data/flowers', download=True)")
    official = {"train": (1_020,), "validation": (1_020,), "test": (6_149,)}
    metric = "mean_per_class"

    def parts(self) -> tuple[str, ...]:
        """All three are published."""
        return ("train", "validation", "test")

    def needs(self) -> tuple[str, ...]:
        """Labels, splits and images."""
        return ("flowers-102/imagelabels.mat", "flowers-102/setid.mat", "flowers-102/jpg")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' numbers, as published, from 1."""
        labels = matrix(self.root / "flowers-102/imagelabels.mat")["labels"]
        return tuple(str(number) for number in range(1, int(np.max(labels)) + 1))

    def rows(self, part: str) -> Listing:
        """Images are numbered from 1."""
        labels = np.atleast_1d(matrix(self.root / "flowers-102/imagelabels.mat")["labels"])
        name = {"train": "trnid", "validation": "valid", "test": "tstid"}[part]
        ids = np.atleast_1d(matrix(self.root / "flowers-102/setid.mat")[name]).astype(np.int64)
        return listings.of_names(self.root, [f"flowers-102/jpg/image_{i:05d}.jpg" for i in ids],
                                 labels[ids - 1].astype(np.int64) - 1)


@register("caltech101")
@dataclass(frozen=True)
class Caltech101(Files):
    """Objects and, as a class of its own, the background pictures: 102 classes in the protocol."""

    title = "Caltech-101"
    licence = "CC BY 4.0"
    citation = "Fei-Fei, Fergus, Perona, One-shot learning of object categories, PAMI 2006"
    layout = "data.path/caltech101/101_ObjectCategories/<class>/image_<nnnn>.jpg"
    size = "3,060 + 6,084 pictures, 102 classes with the background, 140 MB"
    splits = ("30 images of each class, by seed, are train and the rest is test (no split is "
              "published); of the 30, 5 are validation (BYOL: 510)")
    fetch_hint = DOWNLOAD.format("Caltech101", "d('data/caltech101', download=True)")
    official = {"train": (3_060,), "test": (6_084, 6_085)}
    metric = "mean_per_class"
    validation_share = 1 / 6

    def needs(self) -> tuple[str, ...]:
        """The folder of classes."""
        return ("caltech101/101_ObjectCategories",)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the folders, sorted."""
        return tuple(listings.subfolders(self.root / self.needs()[0]))

    def rows(self, part: str) -> Listing:
        """30 of each class, or the others. Files that are no pictures (BACKGROUND/tmp) are not."""
        found = listings.of_folders(self.root, [f"{self.needs()[0]}/{name}"
                                                for name in self.class_names])
        found = found.at(np.array([name.endswith(".jpg") for name in found.names()], dtype=bool))
        rng = np.random.default_rng(CALTECH_SEED)
        train = np.zeros(len(found.files), dtype=bool)
        for label in range(len(self.class_names)):
            members = rng.permutation(np.flatnonzero(found.labels == label))
            train[members[:CALTECH_TRAIN]] = True
        return found.at(train if part == "train" else ~train)


@register("voc2007")
@dataclass(frozen=True)
class VOC2007(Files):
    """PASCAL VOC 2007 classification: several classes an image, see datasets.multilabel."""

    title = "PASCAL VOC 2007, classification"
    licence = "images from flickr: research use"
    citation = "Everingham et al., The PASCAL visual object classes challenge, IJCV 2010"
    layout = ("data.path/VOCdevkit/VOC2007/{JPEGImages/*.jpg,"
              "ImageSets/Main/<class>_{train,val,test}.txt}")
    size = "2,501 + 2,510 + 4,952 photographs, 20 classes, 900 MB"
    splits = "official train, validation and test"
    fetch_hint = DOWNLOAD.format(
        "VOCDetection",
        "[d('data/voc2007', year='2007', image_set=s, download=True) for s in ('train','test')]")
    official = {"train": (2_501,), "validation": (2_510,), "test": (4_952,)}
    metric = "map11"
    multilabel = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 20 classes in alphabetical order."""
        return VOC_CLASSES

    def parts(self) -> tuple[str, ...]:
        """All three are published."""
        return ("train", "validation", "test")

    def needs(self) -> tuple[str, ...]:
        """Images and a list for each class and part."""
        base = "VOCdevkit/VOC2007"
        return (f"{base}/JPEGImages", *(f"{base}/ImageSets/Main/{name}_{part}.txt"
                for part in ("train", "val", "test") for name in VOC_CLASSES))

    def rows(self, part: str) -> Listing:
        """Lines such as '000005 -1': 1 present, -1 absent, 0 difficult."""
        sets = self.root / "VOCdevkit/VOC2007/ImageSets/Main"
        stem = "val" if part == "validation" else part
        columns = [[line.split() for line in lines(sets / f"{name}_{stem}.txt")]
                   for name in VOC_CLASSES]
        keys = [row[0] for row in columns[0]]
        if any([row[0] for row in column] != keys for column in columns):
            raise ValueError(f"the lists of the {part} part name different images")
        signs = np.array([[int(row[1]) for row in column] for column in columns]).T
        return listings.of_names(
            self.root, [f"VOCdevkit/VOC2007/JPEGImages/{key}.jpg" for key in keys],
            multilabel.pack(signs.reshape(-1, len(VOC_CLASSES))))

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images in which each class is present, int64 (C,)."""
        return multilabel.counts(self.pool(split).labels, len(VOC_CLASSES))

    def names(self, split: Split) -> list[str]:
        """folder/file of each image of the pool."""
        return [f"JPEGImages/{name}" for name in self.listing(split).names()]
