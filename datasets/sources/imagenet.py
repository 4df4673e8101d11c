"""ImageNet (ILSVRC 2012) and what is cut from it by class: ImageNet-100, the canine subset."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files
from datasets.sources.transfer import lines
from datasets.sources.transfer_more import matrix
from datasets.sources.wnids import CANINE, IMAGENET100

if TYPE_CHECKING:
    from datasets.sources.listings import Listing

PLACES = ("", "ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/")  # where train/ is: as unpacked, and Kaggle's
DEVKITS = ("", "ILSVRC2012_devkit_t12/data/", "devkit/data/")
KAGGLE = ("LOC_val_solution.csv", "ILSVRC/LOC_val_solution.csv")
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
HELD = 10  # training images of each class that are validation
LEAST = 732  # training images of ImageNet's smallest class


@register("imagenet")
@dataclass(frozen=True)
class ImageNet(Files):
    """The 1000 classes of the ILSVRC 2012 challenge; labels follow the sorted WordNet ids."""

    title = "ImageNet, ILSVRC 2012"
    licence = "non-commercial research, after registration at image-net.org"
    citation = "Russakovsky et al., ImageNet large scale visual recognition challenge, IJCV 2015"
    layout = ("data.path/train/<wnid>/*.JPEG and data.path/val/<wnid>/*.JPEG, or val/*.JPEG with "
              f"{TRUTH} and {META} (from ILSVRC2012_devkit_t12) or LOC_val_solution.csv")
    size = "1,281,167 + 50,000 photographs, 1000 classes, 155 GB"
    splits = ("official train; the official validation part is test; 10 of each class of train, by "
              "seed, are validation (DnC: 10,009)")
    fetch_hint = ("register at https://image-net.org/download-images, then: mkdir -p train val; "
                  "tar xf ILSVRC2012_img_train.tar -C train; for t in train/*.tar; do mkdir "
                  "${t%.tar}; tar xf $t -C ${t%.tar}; rm $t; done; "
                  "tar xf ILSVRC2012_img_val.tar -C val")
    official = {"train": (1_281_167,), "test": (50_000,)}
    classes = 1000
    validation_share = HELD / 1281.167

    @classmethod
    def wanted(cls, wnid: str) -> bool:
        """Whether a class belongs to this source."""
        return True

    def base(self) -> str:
        """Where train/ and val/ are, below the root."""
        return next((place for place in PLACES if (self.root / place / "train").is_dir()), "")

    def needs(self) -> tuple[str, ...]:
        """Both folders."""
        return (f"{self.base()}train", f"{self.base()}val")

    @property
    def class_names(self) -> tuple[str, ...]:
        """WordNet ids, sorted."""
        return _wnids(self)

    def rows(self, part: str) -> Listing:
        """Training folders; the validation part in folders, or flat with the official truth."""
        base = self.base()
        if part == "train":
            return listings.of_folders(self.root, [f"{base}train/{w}" for w in self.class_names])
        if listings.subfolders(self.root / base / "val"):
            return listings.of_folders(self.root, [f"{base}val/{w}" for w in self.class_names])
        number = {wnid: label for label, wnid in enumerate(self.class_names)}
        truth = sorted((file, number[wnid]) for file, wnid in self.truth().items()
                       if wnid in number)
        return listings.of_names(self.root, [f"{base}val/{file}" for file, _ in truth],
                                 [label for _, label in truth])

    def truth(self) -> dict[str, str]:
        """WordNet id of each file of the flat validation part. ValueError if no list is there."""
        for name in KAGGLE:
            if (self.root / name).is_file():
                with (self.root / name).open(newline="") as stream:
                    return {f"{row['ImageId']}.JPEG": row["PredictionString"].split()[0]
                            for row in csv.DictReader(stream)}
        for folder in (self.root / place for place in DEVKITS):
            if (folder / TRUTH).is_file() and (folder / META).is_file():
                wnid = _synsets(folder / META)
                return {f"ILSVRC2012_val_{i:08d}.JPEG": wnid[int(line)]
                        for i, line in enumerate(lines(folder / TRUTH), start=1)}
        raise ValueError(f"val/ is flat, and neither {TRUTH} with {META} nor LOC_val_solution.csv "
                         "is there to say which class is which")

    def _wrong(self) -> Iterator[str]:
        """As for all files; archives that were not unpacked and missing classes are named first."""
        train = self.root / self.base() / "train"
        found = len(self.class_names)
        if train.is_dir() and not self.partial and found != self.classes:
            tars = sum(1 for _ in train.glob("*.tar"))
            unpacked = f" and {tars} .tar files that are not unpacked" if tars else ""
            yield (f"finds {found} of its {self.classes} classes in {train}{unpacked} "
                   "(half-downloaded?): complete them, or set data.options.partial=true")
        yield from super()._wrong()
        if not self.partial:
            counts = np.bincount(self.listing("train").labels, minlength=found)
            if counts.min(initial=LEAST) < LEAST:
                yield (f"finds {counts.min()} images in {train}/{self.class_names[counts.argmin()]}"
                       f", where every class has at least {LEAST} (half-downloaded?): complete "
                       "them, or set data.options.partial=true")


@functools.lru_cache(maxsize=8)
def _wnids(source: ImageNet) -> tuple[str, ...]:
    folders = listings.subfolders(source.root / source.base() / "train")
    return tuple(name for name in folders if source.wanted(name))


def _synsets(path: Path) -> dict[int, str]:
    """WordNet id of each ILSVRC2012_ID; the development kit numbers the classes its own way."""
    table = matrix(path)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}


@register("imagenet100")
@dataclass(frozen=True)
class ImageNet100(ImageNet):
    """The 100 classes of CMC, as CLD and SDCLR use them; reads a folder with all of ImageNet."""

    title = "ImageNet-100 (CMC's classes)"
    citation = "Tian, Krishnan, Isola, Contrastive multiview coding, ECCV 2020"
    size = "about 127,000 + 5,000 photographs, 100 classes, 16 GB"
    official = {"test": (5_000,)}
    classes = 100

    @property
    def root(self) -> Path:
        """ImageNet's folder."""
        return self.path or Path("data", "imagenet")

    @classmethod
    def wanted(cls, wnid: str) -> bool:
        """Whether the class is on CMC's list."""
        return wnid in IMAGENET100


@register("canine")
@dataclass(frozen=True)
class Canine(ImageNet):
    """The 130 classes of dogs, wolves and foxes of DnC's Table 7; reads ImageNet's folder."""

    title = "ImageNet, canine subset"
    citation = "Tian, Henaff, van den Oord, Divide and contrast, ICCV 2021, Table 7"
    size = "about 163,000 + 6,500 photographs, 130 classes, 20 GB"
    official = {"test": (6_500,)}
    classes = 130

    @property
    def root(self) -> Path:
        """ImageNet's folder."""
        return self.path or Path("data", "imagenet")

    @classmethod
    def wanted(cls, wnid: str) -> bool:
        """Whether the class is below WordNet's canine."""
        return CANINE[0] <= wnid <= CANINE[1]
