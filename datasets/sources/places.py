"""Places-365: as folders by class, or as torchvision unpacks the original archives."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.sources import listings
from datasets.sources.base import register
from datasets.sources.files import Files
from datasets.sources.transfer import DOWNLOAD, lines

if TYPE_CHECKING:
    from datasets.sources.listings import Listing

ORIGINAL = {"data_256_standard": "val_256", "data_large_standard": "val_large"}
CATEGORIES = "categories_places365.txt"
FILES = {"train": "places365_train_standard.txt", "test": "places365_val.txt"}


@register("places365")
@dataclass(frozen=True)
class Places365(Files):
    """Scenes; the standard training part, small (256 px) or large."""

    title = "Places-365, standard"
    licence = "images from the web: research and education"
    citation = "Zhou et al., Places: a 10 million image database, PAMI 2018"
    layout = ("data.path/{train,val}/<class>/*.jpg (places365_standard, 256 px), or torchvision's "
              f"data.path/{{data_256_standard/<a>/<class>/*.jpg,val_256/*.jpg,{CATEGORIES},"
              f"{FILES['train']},{FILES['test']}}} (or data_large_standard and val_large)")
    size = "1,803,460 + 36,500 photographs, 365 classes, 25 GB small, 110 GB large"
    splits = ("official train; the official validation part, 100 of each class, is test; 50 of "
              "each class of train, by seed, are validation")
    fetch_hint = DOWNLOAD.format(
        "Places365",
        "[d('data/places365', split=s, small=True, download=True) for s in ('train-standard','val')"
        "]") + ", or http://data.csail.mit.edu/places/places365/places365standard_easyformat.tar"
    official = {"train": (1_803_460,), "test": (36_500,)}
    validation_share = 50 / (1_803_460 / 365)

    def original(self) -> str | None:
        """The folder of the training images in the original archives' layout, None in the other."""
        return next((name for name in ORIGINAL if (self.root / name).is_dir()), None)

    def needs(self) -> tuple[str, ...]:
        """Folders of both parts, and in the original layout the lists."""
        train = self.original()
        if train is None:
            return ("train", "val")
        return (train, ORIGINAL[train], CATEGORIES, *FILES.values())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in official order, which is alphabetical; '-' stands for a folder below."""
        return _classes(self)

    def rows(self, part: str) -> Listing:
        """A folder a class, or the official file lists."""
        train = self.original()
        if train is None:
            folder = "train" if part == "train" else "val"
            return listings.of_folders(self.root, [f"{folder}/{c}" for c in self.class_names])
        folder = train if part == "train" else ORIGINAL[train]
        rows = [line.split() for line in lines(self.root / FILES[part])]
        return listings.of_names(self.root, [f"{folder}/{row[0].lstrip('/')}" for row in rows],
                                 [int(row[1]) for row in rows])

    def locate(self, listed: str) -> str:
        """The path below the root of 'train/<class>/<file>' or 'val/<class>/<file>'."""
        part, name, file = listed.split("/")
        train = self.original()
        if train is None:
            return listed
        if part == "val":
            return f"{ORIGINAL[train]}/{file}"
        return f"{train}/{name[0]}/{name.replace('-', '/')}/{file}"


@functools.lru_cache(maxsize=8)
def _classes(source: Places365) -> tuple[str, ...]:
    if source.original() is None:
        return tuple(listings.subfolders(source.root / "train"))
    found = [line.split() for line in lines(source.root / CATEGORIES)]
    return tuple(path[3:].replace("/", "-") for path, _ in sorted(found, key=lambda r: int(r[1])))
