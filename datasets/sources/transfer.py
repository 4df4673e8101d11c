"""Transfer sets whose splits are lists of files: Food-101, Birdsnap, SUN397, Aircraft, DTD, Pets.

With CIFAR-10/100 and those of transfer_more.py they are the 12 data sets of the transfer protocol
(Kornblith et al. 2019, Table 2; SimCLR, appendix B.8; BYOL, appendix D; DnC, appendix F.1): splits,
sizes and metrics are theirs. Folders are laid out as torchvision downloads them.
"""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files

if TYPE_CHECKING:
    from datasets.sources.listings import Listing

DOWNLOAD = 'python -c "from torchvision.datasets import {0} as d; {1}"'


@dataclass(frozen=True)
class Listed(Files):
    """Parts named by text files: a path and a class name for each image."""

    @abstractmethod
    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """(path below the root, class name) of each image of a part, in the published order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the training part, sorted."""
        return _classes(self)

    def rows(self, part: str) -> Listing:
        """List a part by its own text file."""
        number = {name: label for label, name in enumerate(self.class_names)}
        found = list(self.entries(part))
        if foreign := sorted({name for _, name in found} - set(number)):
            raise ValueError(f"class {foreign[0]!r} of the {part} part is not in training")
        return listings.of_names(self.root, [path for path, _ in found],
                                 [number[name] for _, name in found])


@functools.lru_cache(maxsize=16)
def _classes(source: Listed) -> tuple[str, ...]:
    return tuple(sorted({name for _, name in source.entries("train")}))


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@register("food101")
@dataclass(frozen=True)
class Food101(Listed):
    """Dishes; the training labels are noisy, the test labels clean."""

    title = "Food-101"
    licence = "images from foodspotting.com: scientific fair use"
    citation = "Bossard, Guillaumin, Van Gool, Food-101, ECCV 2014"
    layout = "data.path/food-101/{images/<class>/<id>.jpg,meta/train.json,meta/test.json}"
    size = "75,750 + 25,250 photographs up to 512 px, 101 classes, 5 GB"
    splits = "official train and test; a tenth of train, by seed, is validation (BYOL: 7,575)"
    fetch_hint = DOWNLOAD.format("Food101", "d('data/food101', download=True)")
    official = {"train": (75_750,), "test": (25_250,)}

    def needs(self) -> tuple[str, ...]:
        """Images and both lists."""
        return ("food-101/meta/train.json", "food-101/meta/test.json", "food-101/images")

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """meta/<part>.json maps a class to its 'class/id'."""
        listed = json.loads((self.root / f"food-101/meta/{part}.json").read_text())
        for name, keys in sorted(listed.items()):
            for key in keys:
                yield f"food-101/images/{key}.jpg", name


@register("birdsnap")
@dataclass(frozen=True)
class Birdsnap(Listed):
    """Bird species; published as web addresses, of which many have died: expect partial=true."""

    title = "Birdsnap"
    licence = "images of their photographers: research use"
    citation = "Berg et al., Birdsnap: large-scale fine-grained visual categorization, CVPR 2014"
    layout = "data.path/{images.txt,test_images.txt,images/<Species>/<id>.jpg}"
    size = "47,386 + 2,443 photographs, 500 classes, about 30 GB"
    splits = ("official test list, the rest is train; a tenth of train, by seed, is validation "
              "(BYOL: 4,981)")
    fetch_hint = ("curl -LO https://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz && tar xf "
                  "birdsnap.tgz -C data && python2 data/birdsnap/get_birdsnap.py (dead addresses: "
                  "then data.options.partial=true)")
    official = {"train": (47_386,), "test": (2_443,)}

    def needs(self) -> tuple[str, ...]:
        """Both lists and the images."""
        return ("images.txt", "test_images.txt", self._images())

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """images.txt has a column `path`, 'Species/id.jpg'; test_images.txt names the test ones."""
        test = set(lines(self.root / "test_images.txt"))
        header, *rows = lines(self.root / "images.txt")
        if "path" not in header.split("\t"):
            raise ValueError("images.txt has no column 'path'")
        column = header.split("\t").index("path")
        for row in rows:
            path = row.split("\t")[column]
            if (path in test) == (part == "test"):
                yield f"{self._images()}/{path}", path.split("/")[0]

    def _images(self) -> str:
        return "download/images" if (self.root / "download/images").is_dir() else "images"


@register("sun397")
@dataclass(frozen=True)
class SUN397(Listed):
    """Scenes, the first of the ten published splits."""

    title = "SUN397"
    licence = "images from the web: research use"
    citation = "Xiao et al., SUN database: large-scale scene recognition, CVPR 2010"
    layout = ("data.path/SUN397/{a/abbey/sun_*.jpg,Training_01.txt,Testing_01.txt} (the two lists "
              "are in Partitions.zip)")
    size = "19,850 + 19,850 photographs of 108,754, 397 classes, 37 GB"
    splits = "official split 1; a fifth of train, by seed, is validation (BYOL: 3,970)"
    fetch_hint = (DOWNLOAD.format("SUN397", "d('data/sun397', download=True)") + " && curl -L "
                  "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip -o p.zip "
                  "&& unzip p.zip -d data/sun397/SUN397")
    official = {"train": (19_850,), "test": (19_850,)}
    validation_share = 0.2

    def needs(self) -> tuple[str, ...]:
        """Both lists of split 1."""
        return ("SUN397/Training_01.txt", "SUN397/Testing_01.txt")

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """Lines such as /a/airport_terminal/outdoor/sun_x.jpg: the class is what is between."""
        stem = "Training" if part == "train" else "Testing"
        for line in lines(self.root / f"SUN397/{stem}_01.txt"):
            path = line.lstrip("/")
            yield f"SUN397/{path}", path.partition("/")[2].rpartition("/")[0]


@register("aircraft")
@dataclass(frozen=True)
class FGVCAircraft(Listed):
    """Aircraft by variant."""

    title = "FGVC Aircraft, variants"
    licence = "non-commercial research"
    citation = "Maji et al., Fine-grained visual classification of aircraft, arXiv 1306.5151"
    layout = ("data.path/fgvc-aircraft-2013b/data/{images/<id>.jpg,"
              "images_variant_{train,val,test}.txt}")
    size = "3,334 + 3,333 + 3,333 photographs, 100 classes, 2.8 GB"
    splits = "official train, validation and test"
    fetch_hint = DOWNLOAD.format(
        "FGVCAircraft", "[d('data/aircraft', split=s, download=True) for s in ('train','test')]")
    official = {"train": (3_334,), "validation": (3_333,), "test": (3_333,)}
    metric = "mean_per_class"

    def parts(self) -> tuple[str, ...]:
        """All three are published."""
        return ("train", "validation", "test")

    def needs(self) -> tuple[str, ...]:
        """The three lists and the images."""
        base = "fgvc-aircraft-2013b/data"
        return (*(f"{base}/images_variant_{name}.txt" for name in ("train", "val", "test")),
                f"{base}/images")

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """Lines such as '1025794 707-320'; variants have spaces in their names."""
        base = "fgvc-aircraft-2013b/data"
        name = "val" if part == "validation" else part
        for line in lines(self.root / f"{base}/images_variant_{name}.txt"):
            key, _, variant = line.partition(" ")
            yield f"{base}/images/{key}.jpg", variant


@register("dtd")
@dataclass(frozen=True)
class DTD(Listed):
    """Describable textures, the first of the ten published splits."""

    title = "Describable Textures Dataset"
    licence = "research use"
    citation = "Cimpoi et al., Describing textures in the wild, CVPR 2014"
    layout = "data.path/dtd/dtd/{images/<class>/*.jpg,labels/{train1,val1,test1}.txt}"
    size = "1,880 + 1,880 + 1,880 photographs, 47 classes, 600 MB"
    splits = "official split 1: train, validation and test"
    fetch_hint = DOWNLOAD.format("DTD", "d('data/dtd', download=True)")
    official = {"train": (1_880,), "validation": (1_880,), "test": (1_880,)}

    def parts(self) -> tuple[str, ...]:
        """All three are published."""
        return ("train", "validation", "test")

    def needs(self) -> tuple[str, ...]:
        """The three lists of split 1 and the images."""
        return (*(f"dtd/dtd/labels/{name}1.txt" for name in ("train", "val", "test")),
                "dtd/dtd/images")

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """Lines such as 'banded/banded_0002.jpg'."""
        name = "val" if part == "validation" else part
        for line in lines(self.root / f"dtd/dtd/labels/{name}1.txt"):
            yield f"dtd/dtd/images/{line}", line.partition("/")[0]


@register("pets")
@dataclass(frozen=True)
class OxfordIIITPet(Listed):
    """Cats and dogs by breed."""

    title = "Oxford-IIIT Pets"
    licence = "CC BY-SA 4.0"
    citation = "Parkhi et al., Cats and dogs, CVPR 2012"
    layout = "data.path/oxford-iiit-pet/{images/<Breed>_<n>.jpg,annotations/{trainval,test}.txt}"
    size = "3,680 + 3,669 photographs, 37 classes, 800 MB"
    splits = "official trainval and test; a fifth of trainval, by seed, is validation (BYOL: 740)"
    fetch_hint = DOWNLOAD.format("OxfordIIITPet", "d('data/pets', download=True)")
    official = {"train": (3_680,), "test": (3_669,)}
    metric = "mean_per_class"
    validation_share = 0.2

    def needs(self) -> tuple[str, ...]:
        """Both lists and the images."""
        base = "oxford-iiit-pet"
        return (f"{base}/annotations/trainval.txt", f"{base}/annotations/test.txt",
                f"{base}/images")

    def entries(self, part: str) -> Iterator[tuple[str, str]]:
        """Lines such as 'Abyssinian_100 1 1 1': name, class, species, breed."""
        name = "trainval" if part == "train" else part
        for line in lines(self.root / f"oxford-iiit-pet/annotations/{name}.txt"):
            if not line.startswith("#"):
                key = line.split()[0]
                yield f"oxford-iiit-pet/images/{key}.jpg", key.rpartition("_")[0]
