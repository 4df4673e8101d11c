"""What sources share whose images are files: one listing, undecoded bytes, one message."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from datasets.decode import decode
from datasets.messages import DatasetError
from datasets.photographs import Photographs
from datasets.sources import listings
from datasets.sources.base import digest
from datasets.sources.heldout import HeldOut
from datasets.sources.listings import Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

APART = ("image_size", "holdout", "partial", "whole")  # fields that a listing does not depend on
SHOWN = 5  # bad files that a message names
BLOCK = 512  # files read before they are decoded: 60 MB of ImageNet
SPOKEN = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Files(HeldOut):
    """Published images on disk, read when wanted.

    partial: take the images that are there, where fewer than the published ones are (a subset, or
    sets whose web addresses have died); without it that is refused. whole: photographs stay whole
    in their files: views crop from all of one, evaluations see the centre 224 of 256 pixels of its
    shorter side; without it both see its centre square at the image size.
    """

    partial: bool = False
    whole: bool = False

    identity = "order, class, name and size of the files: their content is published, not hashed"
    native_side = 224
    squares = True
    added = ("whole",)
    official: ClassVar[dict[str, tuple[int, ...]]] = {}  # published number(s) of images of a part

    @property
    def root(self) -> Path:
        """The folder that holds the files: `path`, or data/<name>."""
        return self.path or Path("data", self.name)

    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Files and folders, relative to the root, without which nothing can be listed."""

    @abstractmethod
    def rows(self, part: str) -> Listing:
        """List a published part. Raises OSError or ValueError if what describes it is wrong."""

    def parts(self) -> tuple[str, ...]:
        """Train and test."""
        return ("train", "test")

    def listing(self, part: str) -> Listing:
        """The files of a part, listed once; with `partial`, those that are there."""
        found = _listing(self, part)
        return found.at(found.sizes > 0) if self.partial else found

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels and origins of a part."""
        found = self.listing(part)
        return found.labels, found.origin

    def encoded(self, part: str, ids: NDArray[np.int64]) -> list[bytes]:
        """The undecoded files at these indices of a part."""
        root, files = self.root, self.listing(part).files[ids].tolist()
        with ThreadPoolExecutor(16) as threads:
            return list(threads.map(lambda raw: (root / raw.decode()).read_bytes(), files))

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these indices of a part. DatasetError names unreadable files."""
        side = self.side()
        assert side is not None, self.name
        out = np.empty((len(ids), side, side, 3), dtype=np.uint8)
        bad: list[str] = []
        for start in range(0, len(ids), BLOCK):
            block = ids[start:start + BLOCK]
            for place, pixels in enumerate(_decoded(self.encoded(part, block), side), start):
                if isinstance(pixels, str):
                    bad.append(f"{self.listing(part).files[ids[place]].decode()} ({pixels})")
                else:
                    out[place] = pixels
        if bad:
            raise DatasetError([self.unreadable(bad, len(ids))])
        return out

    def photographs(self, split: Split, index: NDArray[np.int64]) -> Photographs:
        """The photographs at these positions of the pool, undecoded."""
        side = self.side()
        assert side is not None, self.name
        files = self.listing(self.part_of(split)).files[self.pool(split).ids[index]]
        return Photographs(self, files, side)

    def unreadable(self, bad: Sequence[str], total: int, shown: int = SHOWN) -> str:
        """One line for files that cannot be decoded: which and why, and the two remedies."""
        more = f" and {len(bad) - shown} more" if len(bad) > shown else ""
        return (f"source '{self.name}': {len(bad)} of {total} files in {self.root} are no readable "
                f"images: {', '.join(bad[:shown])}{more}; to go on without them delete them and "
                f"set data.options.partial=true, or fetch them again: {self.fetch_hint}")

    def names(self, split: Split) -> list[str]:
        """class/file of each image of the pool."""
        listing = self.listing(self.part_of(split)).at(self.pool(split).ids)
        classes = self.class_names
        return [f"{classes[label]}/{name}"
                for label, name in zip(listing.labels, listing.names(), strict=True)]

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over classes, and label, origin, name and size of the files, in order.

        No file is read: at planning that would be 150 GB for ImageNet.
        """
        listing = self.listing(self.part_of(split))
        columns = (listing.labels, listing.origin, listing.sizes)
        return digest(self.name, split, *self.class_names, "\n".join(listing.names()),
                      *(column.astype("<i8").tobytes() for column in columns))

    def problem(self) -> str | None:
        """One line: what is missing or wrong, the expected tree, and the command to fetch it."""
        try:
            wrong = next(self._wrong(), None)
        except (OSError, ValueError, KeyError, IndexError) as error:
            wrong = f"cannot read {self.root} ({error or type(error).__name__})"
        return wrong and (f"source '{self.name}' {wrong}; expected {self.layout}; to get it: "
                          f"{self.fetch_hint}")

    def _wrong(self) -> Iterator[str]:
        """What is wrong with the files, worst first."""
        for name in self.needs():
            if not (self.root / name).exists():
                yield f"finds no {self.root / name}"
        for part in self.parts():
            yield from self._misfit(part, _listing(self, part))

    def _misfit(self, part: str, found: Listing) -> Iterator[str]:
        """What is wrong with the listing of a part."""
        if not (found.sizes > 0).any():
            yield f"has no {SPOKEN[part]} images in {self.root}"
        if not self.partial:
            for line in self._absent(part, found):
                yield (f"{line}: complete them, or set data.options.partial=true to use what is "
                       "there")

    def _absent(self, part: str, found: Listing) -> Iterator[str]:
        """What of a published part is not there."""
        spoken, published = SPOKEN[part], self.official.get(part, ())
        absent = np.flatnonzero(found.sizes <= 0)
        there = len(found.files) - len(absent)
        if len(absent):
            names = ", ".join(raw.decode() for raw in found.files[absent[:SHOWN]].tolist())
            yield (f"lacks {len(absent)} of {len(found.files)} {spoken} images in {self.root} "
                   f"(missing or empty: {names})")
        if published and there not in published and len(found.files) not in published:
            wanted = " or ".join(f"{number:,}" for number in published)
            yield (f"has {there:,} of {wanted} {spoken} images in {self.root} (half-downloaded, or "
                   "another version)")

    def left_out(self) -> list[str]:
        """A line for every part that `partial` takes incomplete."""
        return [f"source '{self.name}' {line}: partial=true goes on without"
                for part in self.parts() if self.partial
                for line in self._absent(part, _listing(self, part))]


@functools.lru_cache(maxsize=8)
def _listing(source: Files, part: str) -> Listing:
    """A part's files; the source is a frozen value, so it is a good key."""
    root = source.root
    values = [getattr(source, f.name) for f in fields(source) if f.name not in APART]
    key = digest(source.name, part, root.resolve(), source.revision, *values)[:32]
    needs = [root / name for name in source.needs()]
    return listings.kept(key, root, needs, lambda: source.rows(part))


def _decoded(files: list[bytes], side: int) -> list[NDArray[np.uint8] | str]:
    """Each file's pixels, or in words why there are none."""

    def one(data: bytes) -> NDArray[np.uint8] | str:
        try:
            return decode(data, side)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as threads:  # the decoders release the interpreter
        return list(threads.map(one, files))
