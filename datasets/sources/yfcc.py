"""YFCC100M: tens of millions of images in shards, which are counted and never listed in memory."""

from __future__ import annotations

import functools
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasets.messages import DatasetError
from datasets.sources.base import Source, digest, register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Pool, Split

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
SIZES = "sizes.json"  # WebDataset's: images by name of shard
HOW_TO_COUNT = ("python -c \"from datasets.sources.yfcc import write_sizes as w; w('{0}')\"")


class Shard(NamedTuple):
    """A tar, a zip or a folder below the source's folder, with the number of its images."""

    name: str
    images: int
    size: int  # bytes; of a folder 0


@register("yfcc100m")
@dataclass(frozen=True)
class YFCC100M(Source):
    """Uncurated and unlabelled photographs; a run reads whole shards in an order of its own.

    Every image counts as of the one class 'unlabelled'. There are no validation and test images:
    encoders are evaluated on another source.
    """

    title = "YFCC100M"
    licence = "Creative Commons, by image; the index from webscope.sandbox.yahoo.com"
    citation = "Thomee et al., YFCC100M: the new data in multimedia research, CACM 2016"
    layout = (f"data.path/**/*.tar (WebDataset: <key>.jpg in each) with {SIZES} (images by shard), "
              f"or data.path/**/*.zip, or data.path/<a>/<b>/*.jpg in many folders with {SIZES}")
    size = "about 95,000,000 photographs that can still be fetched (of 99,206,564), 10 to 15 TB"
    splits = "all images are train; there is no other part"
    fetch_hint = ("pip install yfcc100m && python -m yfcc100m.convert_metadata META && python -m "
                  "yfcc100m.download META -o data/yfcc100m (4,096 zip files), or img2dataset with "
                  "output_format=webdataset")
    identity = "names, sizes and counts of the shards"
    native_side = 224
    labelled = False
    huge = True

    @property
    def root(self) -> Path:
        """The folder that holds the shards: `path`, or data/yfcc100m."""
        return self.path or Path("data", self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for all."""
        return ("unlabelled",)

    def shards(self, split: Split = "train") -> tuple[Shard, ...]:
        """The shards of a split, by name: a few thousand rows, whatever the number of images."""
        return _shards(self.root) if split == "train" else ()

    def members(self, shard: Shard) -> Iterator[tuple[str, bytes]]:
        """(name, undecoded file) of every image of a shard, in its order, read sequentially.

        Raises DatasetError if the shard is damaged or has another number of images than counted.
        """
        path, seen = self.root / shard.name, 0
        try:
            for found in _reader(path)(path):
                seen += 1
                yield found
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise DatasetError([f"source '{self.name}': shard {path} cannot be read after {seen} "
                                f"images ({error}): fetch it again"]) from error
        if seen != shard.images:
            raise DatasetError([f"source '{self.name}': shard {path} has {seen} images where "
                                f"{SIZES} says {shard.images}: fetch it again, or count again: "
                                + HOW_TO_COUNT.format(self.root)])

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images of a split, int64 (1,)."""
        return np.array([sum(shard.images for shard in self.shards(split))])

    def pool(self, split: Split) -> Pool:
        """Refused with the reason: a table of every image is what this source avoids."""
        raise DatasetError([f"source '{self.name}' is read shard by shard and never listed: use it "
                            "for pre-training, without controls"])

    def pixels(self, split: Split, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Refused, as for `pool`."""
        raise DatasetError([f"source '{self.name}' is never decoded into memory: it is streamed"])

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over names, counts and bytes of the shards."""
        rows = [f"{shard.name} {shard.images} {shard.size}" for shard in self.shards(split)]
        return digest(self.name, split, "\n".join(rows))

    def problem(self) -> str | None:
        """One line: what is missing or wrong, the expected tree, and the command to fetch it."""
        return (wrong := self._wrong()) and (
            f"source '{self.name}' {wrong}; expected {self.layout}; to get it: {self.fetch_hint}")

    def _wrong(self) -> str | None:
        if not self.root.is_dir():
            return f"finds no folder {self.root}"
        try:
            shards = self.shards()
        except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
            return f"cannot read {self.root} ({error})"
        if not shards:
            return f"finds neither .tar nor .zip nor folders of images in {self.root}"
        lacking = [shard.name for shard in shards if shard.images < 1]
        if lacking:
            return (f"has {len(lacking)} of {len(shards)} shards in {self.root} that are missing, "
                    f"empty or not counted (first: {lacking[0]}): fetch them again, then count: "
                    f"{HOW_TO_COUNT.format(self.root)}")
        return None


@functools.lru_cache(maxsize=4)
def _shards(root: Path) -> tuple[Shard, ...]:
    """Shards of the first kind found: tar, zip, folders. Counts from sizes.json or zip tables."""
    counted = _sizes(root)
    for suffix in (".tar", ".zip"):
        found = {str(path.relative_to(root)): path for path in root.rglob(f"*{suffix}")}
        names = sorted({*found, *(name for name in counted if name.endswith(suffix))})
        if names:
            with ThreadPoolExecutor(16) as threads:
                return tuple(threads.map(_shard, names, map(found.get, names),
                                         map(counted.get, names)))
    return tuple(Shard(name, images, 0) for name, images in sorted(counted.items()))


def _shard(name: str, path: Path | None, images: int | None) -> Shard:
    """A shard with its count: given, or read from a zip's table; -1 where nobody knows."""
    if path is None:
        return Shard(name, -1, 0)
    if images is None:
        images = count(path) if path.suffix == ".zip" else _stats(path)
    return Shard(name, images, path.stat().st_size)


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
            return sum(_is_image(entry.name) for entry in entries)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return sum(_is_image(name) for name in archive.namelist())
    total = 0
    with tarfile.open(path, "r:") as archive:
        while member := archive.next():
            total += member.isfile() and _is_image(member.name)
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
                       if any(map(_is_image, names)))
    with ThreadPoolExecutor(16) as threads:
        sizes = dict(zip((str(p.relative_to(root)) for p in paths), threads.map(count, paths),
                         strict=True))
    partial = root / f".{SIZES}.{os.getpid()}"
    partial.write_text(json.dumps(sizes, indent=0))
    partial.replace(root / SIZES)
    return sum(sizes.values())


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not name.rpartition("/")[2].startswith(".")


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every image of a tar, in its order; nothing is kept."""
    with tarfile.open(path, "r:") as archive:
        while member := archive.next():
            if member.isfile() and _is_image(member.name):
                stream = archive.extractfile(member)
                assert stream is not None, member.name
                yield member.name, stream.read()
            archive.members.clear()  # type: ignore[attr-defined]  # it would grow


def read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every image of a zip, in the order of its table."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if _is_image(name):
                yield name, archive.read(name)


def read_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every image in a folder, by name."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if _is_image(entry.name))
    for name in names:
        yield name, (path / name).read_bytes()


def _reader(path: Path) -> Callable[[Path], Iterator[tuple[str, bytes]]]:
    return {".tar": read_tar, ".zip": read_zip}.get(path.suffix, read_folder)
