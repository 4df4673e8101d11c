"""YFCC100M: tens of millions of images in shards, which are counted and never listed in memory."""

from __future__ import annotations

import functools
import json
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasets import shards
from datasets.shard_reading import is_image
from datasets.sources.base import digest, register
from datasets.sources.listings import subfolders
from datasets.sources.shards import Streamed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

SUFFIXES = (".tar", ".zip")
SEARCHED = 512  # folders below the first: more of them are a layout of images in folders
SIZES = "sizes.json"  # WebDataset's: images by name of shard
HOW_TO_COUNT = ("python -c \"from datasets.sources.yfcc import write_sizes as w; w('{0}')\"")


class Shard(NamedTuple):
    """A tar, a zip or a folder below the source's folder, with the number of its images."""

    name: str
    images: int
    size: int  # bytes; of a folder 0


@dataclass(frozen=True, eq=False)
class Named(shards.Listing):
    """Shards with names of their own, below a folder."""

    folder: Path = Path()
    names: tuple[str, ...] = ()

    def path(self, shard: int) -> Path:
        """The file or folder of a shard."""
        return self.folder / self.names[shard]


@register("yfcc100m")
@dataclass(frozen=True)
class YFCC100M(Streamed):
    """Uncurated and unlabelled photographs; a run reads whole shards in an order of its own.

    Every image counts as of the one class 'unlabelled'. There are no validation and test images:
    encoders are evaluated on another source.
    """

    title = "YFCC100M"
    licence = "Creative Commons, by image"
    citation = "Thomee et al., YFCC100M: the new data in multimedia research, CACM 2016"
    layout = (f"data.path/[*/]*.tar (WebDataset: <key>.jpg in each) with {SIZES} (images by "
              "shard) or img2dataset's *_stats.json, or data.path/[*/]*.zip, or "
              f"data.path/<a>/<b>/*.jpg in many folders with {SIZES}")
    size = ("about 95,000,000 photographs that can still be fetched (of 99,206,564 published), 10 "
            "to 15 TB; memory holds one shuffle window")
    splits = "all images are train; there is no other part"
    fetch_hint = ("pip install yfcc100m && python -m yfcc100m.convert_metadata META && python -m "
                  "yfcc100m.download META -o data/yfcc100m (4,096 zip files), or img2dataset with "
                  "output_format=webdataset")
    identity = "names, sizes and counts of the shards"
    labelled = False

    @property
    def root(self) -> Path:
        """The folder that holds the shards: `path`, or data/yfcc100m."""
        return self.path or Path("data", self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for all."""
        return ("unlabelled",)

    def table(self) -> tuple[Shard, ...]:
        """The shards, by name: a few thousand rows, whatever the number of images."""
        return _shards(self.root)

    def listing(self, split: Split) -> shards.Listing | None:
        """All shards are train."""
        if split != "train" or not self.table():
            return None
        counts = np.array([shard.images for shard in self.table()], dtype=np.int64)
        return Named("", 0, int(counts.sum()), None, counts, None, self.root,
                     tuple(shard.name for shard in self.table()))

    def labels(self, split: Split, images: int) -> NDArray[np.int64]:
        """All of the one class; one number, seen as many."""
        return np.broadcast_to(np.int64(0), (images,))

    def first(self, split: Split, images: int) -> NDArray[np.int64]:
        """Images of the one class among the first `images`: all."""
        return np.array([images])

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over names, counts and bytes of the shards."""
        rows = self.table() if split == "train" else ()
        return digest(self.name, split, "\n".join(f"{r.name} {r.images} {r.size}" for r in rows))

    def problem(self) -> str | None:
        """One line: what is missing or wrong, the expected tree, and the command to fetch it."""
        if wrong := self._wrong():
            return (f"source '{self.name}' {wrong}; expected {self.layout}; to get it: "
                    f"{self.fetch_hint}")
        return super().problem()

    def _wrong(self) -> str | None:
        if not self.root.is_dir():
            return f"finds no folder {self.root}"
        try:
            found = self.table()
        except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
            return f"cannot read {self.root} ({error})"
        if not found:
            return (f"finds no .tar, no .zip and no {SIZES} in {self.root}: images in folders are "
                    f"counted once by {HOW_TO_COUNT.format(self.root)}")
        lacking = [shard.name for shard in found if shard.images < 1]
        if lacking:
            return (f"has {len(lacking)} of {len(found)} shards in {self.root} that are missing, "
                    f"empty or not counted (first: {lacking[0]}): fetch them again, then count: "
                    f"{HOW_TO_COUNT.format(self.root)}")
        return None


@functools.lru_cache(maxsize=4)
def _shards(root: Path) -> tuple[Shard, ...]:
    """What sizes.json names; without it the tars, else the zips, in the folder and one below."""
    counted = _sizes(root)
    if counted:
        names = sorted(counted)
        paths = [root / name for name in names]
    else:  # tar and zip beside each other are two copies: the first kind counts
        folders = [root, *(root / name for name in subfolders(root)[:SEARCHED])]
        paths = next((found for suffix in SUFFIXES
                      if (found := sorted(p for f in folders for p in f.glob(f"*{suffix}")))), [])
        names = [str(path.relative_to(root)) for path in paths]
    with ThreadPoolExecutor(16) as threads:
        return tuple(threads.map(_shard, names, paths, map(counted.get, names)))


def _shard(name: str, path: Path, images: int | None) -> Shard:
    """A shard with its count: given, or read from a zip's table; -1 where it is not known."""
    try:
        size = 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return Shard(name, -1, 0)
    if images is None:
        images = count(path) if path.suffix == ".zip" else _stats(path)
    return Shard(name, images, size)


def _sizes(root: Path) -> dict[str, int]:
    """sizes.json: images by shard, names relative to the folder. ValueError if it is no such."""
    path = root / SIZES
    if not path.is_file():
        return {}
    told = json.loads(path.read_text())
    if not isinstance(told, dict) or not all(isinstance(n, int) for n in told.values()):
        raise ValueError(f"{path} must map each shard's name to its number of images")
    return {str(name): int(images) for name, images in told.items()}


def _stats(path: Path) -> int:
    """Images of a tar by img2dataset's <shard>_stats.json beside it, -1 if that is not there."""
    beside = path.with_name(f"{path.stem}_stats.json")
    return int(json.loads(beside.read_text())["successes"]) if beside.is_file() else -1


def count(path: Path) -> int:
    """Images of one shard, from the headers of a tar, the table of a zip or a folder's names."""
    if path.is_dir():
        with os.scandir(path) as entries:
            return sum(is_image(entry.name) for entry in entries)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return sum(is_image(name) for name in archive.namelist())
    total = 0
    with tarfile.open(path, "r:") as archive:
        while member := archive.next():
            total += member.isfile() and is_image(member.name)
            archive.members.clear()  # type: ignore[attr-defined]  # it would grow
    return total


def write_sizes(folder: str | Path) -> int:
    """Count every shard below `folder` and write its sizes.json; returns the number of images.

    Reads the headers of each tar, the table of each zip, the names in each folder: once.
    """
    root = Path(folder)
    paths = sorted([*root.rglob("*.tar"), *root.rglob("*.zip")])
    if not paths:
        paths = sorted(Path(place) for place, _, names in os.walk(root)
                       if any(map(is_image, names)))
    with ThreadPoolExecutor(16) as threads:
        sizes = dict(zip((str(p.relative_to(root)) for p in paths), threads.map(count, paths),
                         strict=True))
    partial = root / f".{SIZES}.{os.getpid()}"
    partial.write_text(json.dumps(sizes, indent=0))
    partial.replace(root / SIZES)
    _shards.cache_clear()
    return sum(sizes.values())
