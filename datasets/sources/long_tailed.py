"""Long-tailed cuts by published lists: ImageNet-LT and Places-LT (Liu et al., OLTR, 2019)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from datasets import lists
from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files
from datasets.sources.imagenet import ImageNet
from datasets.sources.places import Places365

if TYPE_CHECKING:
    from datasets.lists import IndexList
    from datasets.sources.listings import Listing

CITATION = "Liu et al., Large-scale long-tailed recognition in an open world, CVPR 2019"
NAMES = {"train": "train", "validation": "val", "test": "test"}
HINT = ("the lists from https://github.com/zhmiao/OpenLongTailRecognition-OLTR (data/), into "
        f"data.path or a folder of ${lists.PLACES}; the images: ")


@dataclass(frozen=True)
class LongTailed(Files):
    """Three published lists of 'path label' over the images of another source."""

    stem: ClassVar[str] = ""  # of the lists' names
    folder_name: ClassVar[str] = ""  # that the lists may lie in

    def parts(self) -> tuple[str, ...]:
        """All three are published."""
        return ("train", "validation", "test")

    def lists(self) -> Mapping[str, Path]:
        """The list of each part, in data.path or in $CURATION_GAP_LISTS."""
        return {part: self._find(f"{self.stem}_{name}.txt") for part, name in NAMES.items()}

    def _find(self, name: str) -> Path:
        candidates = [f"{folder}{name}{suffix}" for suffix in ("", ".xz")
                      for folder in ("", f"{self.folder_name}/")]
        for file in candidates:
            try:
                return lists.find(file, self.root)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(f"finds no list {name} in {self.root} or in a folder of "
                                f"${lists.PLACES}")

    def class_of(self, listed: str) -> str:
        """The class of a listed path."""
        return listed.split("/")[-2]

    def locate(self, listed: str) -> str:
        """The path below the root of a listed path."""
        return listed

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the training list's classes, in order of its labels."""
        return _classes(self)

    def rows(self, part: str) -> Listing:
        """The list's images in its order."""
        listed = lists.read(self.lists()[part])
        names, labels = columns(listed)
        return listings.of_names(self.root, [self.locate(name) for name in names], labels)

    def _wrong(self) -> Iterator[str]:
        """A missing list first, then as for all files."""
        try:
            self.lists()
        except FileNotFoundError as error:
            yield str(error)
        yield from super()._wrong()


@functools.lru_cache(maxsize=8)
def _classes(source: LongTailed) -> tuple[str, ...]:
    names, labels = columns(lists.read(source.lists()["train"]))
    found = dict(zip(labels, map(source.class_of, names), strict=True))
    return tuple(found[label] for label in sorted(found))


def columns(listed: IndexList) -> tuple[tuple[str, ...], list[int]]:
    """Paths and labels of a list. Raises ValueError if it has other columns."""
    if listed.names is None or listed.labels is None:
        raise ValueError("a list must have lines of 'path label'")
    return listed.names, listed.labels.tolist()


@register("imagenet_lt")
@dataclass(frozen=True)
class ImageNetLT(LongTailed):
    """ImageNet with Pareto class sizes (alpha 6), 1280 to 5; balanced validation and test."""

    title = "ImageNet-LT"
    licence = ImageNet.licence
    citation = CITATION
    layout = ("ImageNet's data.path/{train/<wnid>/*.JPEG,val/[<wnid>/]*.JPEG} and "
              "ImageNet_LT_{train,val,test}.txt in data.path or a list folder")
    size = "115,846 + 20,000 + 50,000 photographs, 1000 classes; reads ImageNet's folder"
    splits = "the published lists: validation is 20 of each class, test ImageNet's 50,000"
    fetch_hint = HINT + ImageNet.fetch_hint
    official = {"train": (115_846,), "validation": (20_000,), "test": (50_000,)}
    stem, folder_name = "ImageNet_LT", "imagenet_lt"

    @property
    def root(self) -> Path:
        """ImageNet's folder."""
        return self.path or Path("data", "imagenet")

    def needs(self) -> tuple[str, ...]:
        """ImageNet's folders."""
        return ImageNet(path=self.root).needs()

    def locate(self, listed: str) -> str:
        """The same file in ImageNet's folder, whose validation part may be flat."""
        part, wnid, file = listed.split("/")[-3:]
        base = self.needs()[0].removesuffix("train")
        if part == "val" and not _in_folders(self.root / base / "val"):
            return f"{base}val/{file}"
        return f"{base}{part}/{wnid}/{file}"


@functools.lru_cache(maxsize=8)
def _in_folders(folder: Path) -> bool:
    return bool(listings.subfolders(folder))


@register("places_lt")
@dataclass(frozen=True)
class PlacesLT(LongTailed):
    """Places-365 with Pareto class sizes, 4980 to 5; balanced validation and test."""

    title = "Places-LT"
    licence = Places365.licence
    citation = CITATION
    layout = ("Places-365's data.path, either layout, and Places_LT_{train,val,test}.txt with "
              "lines such as 'train/airfield/00004851.jpg 0' in data.path or a list folder")
    size = "62,500 + 7,300 + 36,500 photographs, 365 classes; reads Places-365's folder"
    splits = "the published lists: validation is 20 of each class, test Places-365's 36,500"
    fetch_hint = HINT + Places365.fetch_hint
    official = {"train": (62_500,), "validation": (7_300,), "test": (36_500,)}
    stem, folder_name = "Places_LT", "places_lt"

    @property
    def root(self) -> Path:
        """Places-365's folder."""
        return self.path or Path("data", "places365")

    def needs(self) -> tuple[str, ...]:
        """Places-365's folders."""
        train = Places365(path=self.root).original()
        return Places365(path=self.root).needs()[:2 if train else None]

    def locate(self, listed: str) -> str:
        """The same file in Places-365's folder, in its layout."""
        return Places365(path=self.root).locate("/".join(listed.split("/")[-3:]))
