"""A folder of images: train/<class>/*, and validation/ and test/ where they exist."""

from __future__ import annotations

import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.messages import DatasetError
from datasets.sources.base import digest, file_digest, register
from datasets.sources.heldout import HeldOut
from datasets.sources.resize import square

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
SHOWN = 10  # bad files that a message lists
LOG = logging.getLogger(__name__)


class Listing(NamedTuple):
    """The files of one part in a fixed order, and the classes of the training part."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    stamp: int  # changes with the name, size or time of any file


@register("folder")
@dataclass(frozen=True)
class Folder(HeldOut):
    """Images on disk, decoded to one side and kept in memory.

    on_corrupt: 'error' refuses a folder with files that are no readable images, 'skip' leaves them
    out and logs which; hidden files are ignored.
    """

    on_corrupt: str = "error"

    title = "Any folder of images"
    licence = "the folder's own"
    citation = "the folder's own"
    layout = ("data.path=FOLDER with train/<class>/*.jpg|png|webp and, if there are any, "
              "validation/<class>/* (or val/) and test/<class>/*")
    size = "as the folder; decoded images are kept in memory"
    splits = "the folder's own; a tenth of train for each of validation and test that is missing"
    identity = "class names and the files' bytes"

    @property
    def root(self) -> Path:
        """The folder. Raises DatasetError if none was named."""
        if self.path is None:
            raise DatasetError(["source 'folder' needs a folder: set data.path=FOLDER"])
        return self.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the folders in train/, sorted."""
        return self._listing("train").classes

    def parts(self) -> tuple[str, ...]:
        """The parts that have a folder."""
        return tuple(part for part in NAMES if _folder(self.root, part) is not None)

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels; origins unknown."""
        labels = np.array(self._listing(part).labels, dtype=np.int64)
        if self.on_corrupt == "skip":
            labels = labels[self._decoded(part)[1]]
        return labels, np.full(len(labels), -1)

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these indices of a part."""
        return self._decoded(part)[0][ids]

    def encoded(self, part: str, ids: NDArray[np.int64]) -> list[bytes]:
        """The undecoded files at these indices of a part."""
        files = self._listing(part).files
        places = self._decoded(part)[1][ids] if self.on_corrupt == "skip" else ids
        return [files[place].read_bytes() for place in places]

    def names(self, split: Split) -> list[str]:
        """class/file of each image of the pool."""
        part = self.part_of(split)
        files = self._listing(part).files
        good = self._decoded(part)[1] if self.on_corrupt == "skip" else np.arange(len(files))
        return ["/".join(files[good[i]].parts[-2:]) for i in self.pool(split).ids]

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the class names and the files' bytes, in order."""
        listing = self._listing(self.part_of(split))
        return digest("folder", split, *listing.classes, _content(listing))

    def problem(self) -> str | None:
        """One line if the folder is missing, laid out otherwise, or holds files of other kinds."""
        if self.on_corrupt not in ("error", "skip"):
            return f"data.options.on_corrupt must be 'error' or 'skip', not {self.on_corrupt!r}"
        if self.image_size is None:
            return "source 'folder' needs the side to decode to: set data.image_size=PIXELS"
        if self.path is None or _folder(self.path, "train") is None:
            state = "needs a folder" if self.path is None else f"finds no {self.path}/train"
            return f"source 'folder' {state}: expected {self.layout}"
        for part in self.parts():
            listing = self._listing(part)
            if not listing.files:
                return f"source 'folder': {self.path}/{part} has no files: expected {self.layout}"
            lacking = [name for label, name in enumerate(listing.classes)
                       if label not in set(listing.labels)]
            if lacking:
                return (f"source 'folder': {part} has no images of class "
                        f"{', '.join(lacking[:SHOWN])}: every class of train/ must be there")
            foreign = [path for path in listing.files if path.suffix.lower() not in SUFFIXES]
            if foreign and self.on_corrupt == "error":
                return self._refusal([f"{path.relative_to(self.path)} (not an image)"
                                      for path in foreign], len(listing.files))
        return None

    def skipped(self) -> list[str]:
        """The files that on_corrupt=skip leaves out, each with its cause. Decodes all."""
        if self.on_corrupt != "skip":
            return []
        assert self.image_size is not None, "checked by problem()"
        return [f"{listing.files[number].relative_to(self.root)} ({cause})"
                for listing in map(self._listing, self.parts())
                for number, cause in sorted(_decode(listing, self.image_size)[1].items())]

    def left_out(self) -> list[str]:
        """A line for the files that on_corrupt=skip leaves out."""
        bad = self.skipped()
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        return [f"source 'folder': on_corrupt=skip goes on without {len(bad)} files in {self.root} "
                f"that are no readable images: {', '.join(bad[:SHOWN])}{more}"] if bad else []

    def _listing(self, part: str) -> Listing:
        folder = _folder(self.root, part)
        assert folder is not None, part
        train = _folder(self.root, "train") or folder
        return _list(folder, train)

    def _decoded(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels of the readable images of a part and their places in the listing."""
        listing = self._listing(part)
        assert self.image_size is not None, "checked by problem()"
        pixels, causes = _decode(listing, self.image_size)
        good = np.array([number for number in range(len(listing.files)) if number not in causes],
                        dtype=np.int64)
        bad = [f"{listing.files[number].relative_to(self.root)} ({cause})"
               for number, cause in sorted(causes.items())]
        if bad and self.on_corrupt == "error":
            raise DatasetError([self._refusal(bad, len(listing.files))])
        return pixels, good

    def _refusal(self, bad: list[str], total: int) -> str:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        return (f"source 'folder': {len(bad)} of {total} files in {self.root} are no readable "
                f"images: {', '.join(bad[:SHOWN])}{more}; remove them, or set "
                "data.options.on_corrupt=skip")


def _folder(root: Path, part: str) -> Path | None:
    """The folder of a part under any of its names."""
    return next((root / name for name in NAMES[part] if (root / name).is_dir()), None)


def _list(folder: Path, train: Path) -> Listing:
    """All files of a part by class and name; classes are the folders of the training part."""
    classes = sorted(entry.name for entry in os.scandir(train)
                     if entry.is_dir() and not entry.name.startswith("."))
    files, labels, states = [], [], []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            for entry in sorted(entries, key=lambda found: found.name):
                if entry.is_file() and not entry.name.startswith("."):
                    files.append(Path(entry.path))
                    labels.append(label)
                    states.append((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns))
    return Listing(tuple(files), tuple(labels), tuple(classes), hash(tuple(states)))


@functools.lru_cache(maxsize=6)
def _content(listing: Listing) -> str:
    """SHA-256 over labels and file contents in order."""
    with ThreadPoolExecutor() as threads:
        return digest(*listing.labels, *threads.map(file_digest, listing.files))


@functools.lru_cache(maxsize=3)
def _decode(listing: Listing, side: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Every readable image as uint8 (n, side, side, 3), and the cause for each that is not."""
    with ThreadPoolExecutor() as threads:  # PIL releases the interpreter while it decodes
        results = list(threads.map(lambda path: _open(path, side), listing.files))
    causes = {n: result for n, result in enumerate(results) if isinstance(result, str)}
    good = [result for result in results if not isinstance(result, str)]
    if causes:
        first = [f"{listing.files[n]} ({cause})" for n, cause in list(causes.items())[:SHOWN]]
        LOG.warning("%d of %d files are no readable images: %s", len(causes), len(results),
                    ", ".join(first))
    return np.stack(good) if good else np.empty((0, side, side, 3), np.uint8), causes


def _open(path: Path, side: int) -> NDArray[np.uint8] | str:
    """The decoded image, or in words why there is none."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))  # a JPEG is decoded at the nearest larger scale
            return square(image, side)
    except UnidentifiedImageError:
        return "not an image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
