"""Published folders of images: Tiny-ImageNet, GTSRB, iNaturalist 2018, Kitchen-HC."""

from __future__ import annotations

import csv
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files
from datasets.sources.transfer import DOWNLOAD, lines

if TYPE_CHECKING:
    from datasets.sources.listings import Listing

TINY = "tiny-imagenet-200"
GERMAN = "gtsrb/GTSRB"
GERMAN_TRAIN = ("Training", "Final_Training/Images")  # torchvision's, and the final archive's


@register("tiny_imagenet")
@dataclass(frozen=True)
class TinyImageNet(Files):
    """200 classes of ImageNet at 64 px; its validation part, which has labels, is the test part."""

    title = "Tiny-ImageNet"
    licence = "images from ImageNet: research use"
    citation = "Le, Yang, Tiny ImageNet visual recognition challenge, Stanford CS231n, 2015"
    layout = (f"data.path/{TINY}/{{train/<wnid>/images/*.JPEG,val/images/*.JPEG,"
              "val/val_annotations.txt,wnids.txt}")
    size = "100,000 + 10,000 of 64x64 colour, 200 classes, 240 MB"
    splits = "official train; the official validation part is test; a tenth of train is validation"
    fetch_hint = ("curl -LO http://cs231n.stanford.edu/tiny-imagenet-200.zip && unzip -q "
                  "tiny-imagenet-200.zip -d data/tiny_imagenet")
    official = {"train": (100_000,), "test": (10_000,)}
    native_side = 64

    def needs(self) -> tuple[str, ...]:
        """Training folders, validation images and their annotations."""
        return (f"{TINY}/train", f"{TINY}/val/images", f"{TINY}/val/val_annotations.txt")

    @property
    def class_names(self) -> tuple[str, ...]:
        """WordNet ids, sorted."""
        return tuple(listings.subfolders(self.root / TINY / "train"))

    def rows(self, part: str) -> Listing:
        """Training folders; lines such as 'val_0.JPEG<tab>n03444034<tab>box' for validation."""
        if part == "train":
            return listings.of_folders(
                self.root, [f"{TINY}/train/{wnid}/images" for wnid in self.class_names])
        number = {wnid: label for label, wnid in enumerate(self.class_names)}
        rows = [line.split("\t") for line in lines(self.root / TINY / "val/val_annotations.txt")]
        return listings.of_names(self.root, [f"{TINY}/val/images/{row[0]}" for row in rows],
                                 [number[row[1]] for row in rows])


@register("gtsrb")
@dataclass(frozen=True)
class GTSRB(Files):
    """Traffic signs cut from video: 30 frames a track, and a natural long tail.

    The origin of a training image is its track: class * 1000 + the number that its name begins
    with; a track is never divided between train and validation.
    """

    title = "German Traffic Sign Recognition Benchmark"
    licence = "research use with citation"
    citation = "Stallkamp et al., Man vs. computer, Neural Networks 2012"
    layout = (f"data.path/{GERMAN}/{{Training/<class>/<track>_<frame>.ppm,"
              "Final_Test/Images/*.ppm} and data.path/gtsrb/GT-final_test.csv; "
              "Final_Training/Images in place of Training is the larger final part")
    size = ("26,640 (39,209 in the final archive) + 12,630 of 15 to 250 px colour, 43 classes, "
            "300 MB")
    splits = "official train and test; about a tenth of train, by track, is validation"
    fetch_hint = DOWNLOAD.format(
        "GTSRB", "[d('data/gtsrb', split=s, download=True) for s in ('train','test')]")
    official = {"train": (26_640, 39_209), "test": (12_630,)}
    native_side = 32

    def base(self) -> str:
        """The folder of the training classes."""
        return next((f"{GERMAN}/{name}" for name in GERMAN_TRAIN
                     if (self.root / GERMAN / name).is_dir()), f"{GERMAN}/Training")

    def needs(self) -> tuple[str, ...]:
        """Both image folders and the test annotation."""
        return (self.base(), f"{GERMAN}/Final_Test/Images", "gtsrb/GT-final_test.csv")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The numbers of the classes, five digits."""
        return tuple(listings.subfolders(self.root / self.base()))

    def rows(self, part: str) -> Listing:
        """Training folders with their tracks; test labels from the semicolon-separated table."""
        if part == "train":
            found = listings.of_folders(self.root, [f"{self.base()}/{c}" for c in self.class_names])
            pictures = [name.endswith(".ppm") for name in found.names()]  # not the GT-*.csv
            found = found.at(np.array(pictures, dtype=bool))
            tracks = [int(name.partition("_")[0]) for name in found.names()]
            return found._replace(origin=found.labels * 1000 + np.array(tracks, dtype=np.int64))
        with (self.root / "gtsrb/GT-final_test.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter=";"))
        number = {int(name): label for label, name in enumerate(self.class_names)}
        return listings.of_names(
            self.root, [f"{GERMAN}/Final_Test/Images/{row['Filename']}" for row in rows],
            [number[int(row["ClassId"])] for row in rows])


@register("inat18")
@dataclass(frozen=True)
class INaturalist2018(Files):
    """Species as people photographed them: a natural long tail."""

    title = "iNaturalist 2018"
    licence = "images of their photographers: non-commercial research"
    citation = "Van Horn et al., The iNaturalist species classification dataset, CVPR 2018"
    layout = ("data.path/{train2018.json,val2018.json,"
              "train_val2018/<super-category>/<category>/*.jpg}")
    size = "437,513 + 24,426 photographs up to 800 px, 8142 classes, 120 GB"
    splits = "official train; the official validation part, 3 of each class, is test; a share of " \
             "train, by seed, is validation"
    fetch_hint = ("for f in train_val2018 train2018.json val2018.json; do curl -L "
                  "https://ml-inat-competition-datasets.s3.amazonaws.com/2018/$f.tar.gz | "
                  "tar xz -C data/inat18; done")
    official = {"train": (437_513,), "test": (24_426,)}

    def needs(self) -> tuple[str, ...]:
        """Both annotations and the images."""
        return ("train2018.json", "val2018.json", "train_val2018")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories, in order of their ids."""
        return tuple(_categories(self).values())

    def rows(self, part: str) -> Listing:
        """images[].file_name, with annotations[].category_id by image_id."""
        told = self.annotation(part)
        number = {category: label for label, category in enumerate(_categories(self))}
        label = {row["image_id"]: number[row["category_id"]] for row in told["annotations"]}
        images = [row for row in told["images"] if row["id"] in label]
        return listings.of_names(self.root, [row["file_name"] for row in images],
                                 [label[row["id"]] for row in images])

    def annotation(self, part: str) -> dict[str, Any]:
        """The annotation file of a part; the training one is 130 MB."""
        name = "train2018.json" if part == "train" else "val2018.json"
        found: dict[str, Any] = json.loads((self.root / name).read_text())
        return found


@functools.lru_cache(maxsize=4)
def _categories(source: INaturalist2018) -> dict[int, str]:
    """Name by id of every category, from the smaller annotation."""
    told = source.annotation("test")["categories"]
    return {row["id"]: str(row["name"]) for row in sorted(told, key=lambda row: row["id"])}


@register("kitchen_hc")
@dataclass(frozen=True)
class KitchenHC(Files):
    """Objects cut by their boxes from video of kitchens: consecutive views are near duplicates.

    Which video an image comes from is not published with it; the origin is unknown.
    """

    title = "Kitchen-HC"
    licence = "none stated; frames from the multi-view RGB-D kitchen data of GMU"
    citation = ("Wang, Liu, Yu, Unsupervised feature learning by cross-level instance-group "
                "discrimination, CVPR 2021; Georgakis et al., 2016")
    layout = "data.path/{train,test}/<class>/*.jpg, and val/<class>/* where it is there"
    size = "about 20,800 + 4,000 + 14,400 crops, used at 32x32, 11 classes"
    splits = "official train and test; the official validation part, else a tenth of train"
    fetch_hint = ("the Google Drive link in the README of "
                  "https://github.com/frank-xwang/CLD-UnsupervisedLearning; unzip to "
                  "data/kitchen_hc")
    native_side = 32

    def parts(self) -> tuple[str, ...]:
        """Validation where its folder is there."""
        there = (self.root / "val").is_dir()
        return ("train", "validation", "test") if there else ("train", "test")

    def needs(self) -> tuple[str, ...]:
        """Both folders."""
        return ("train", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the folders in train/, sorted."""
        return tuple(listings.subfolders(self.root / "train"))

    def rows(self, part: str) -> Listing:
        """A folder a class."""
        folder = "val" if part == "validation" else part
        return listings.of_folders(self.root, [f"{folder}/{name}" for name in self.class_names])
