"""Sources that are streamed from tar shards: our own, with a manifest, and any WebDataset."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets import decoders, shards
from datasets.messages import DatasetError
from datasets.sources.base import Source, digest, file_digest, register
from datasets.streams import CANVAS, Stream
from datasets.types import Images, Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

LABELS = "labels.npy"


@dataclass(frozen=True)
class Streamed(Source):
    """Images in shards, decoded while training; crops see the whole image.

    lanes, window: how a batch is mixed (`datasets.shards`); canvas: longest side that images are
    decoded to, None: 16/7 of the image size; decoder: pil, or simplejpeg (faster; the pixels differ
    by rounding); on_corrupt: 'error' or 'skip'.
    """

    lanes: int = 8
    window: int = 2048
    canvas: int | None = None
    decoder: str = "pil"
    on_corrupt: str = "error"

    huge = True
    native_side = 224
    splits = "a folder of shards each; without one a split is empty"

    @abstractmethod
    def listing(self, split: Split) -> shards.Listing | None:
        """The shards of a split, None if it has none."""

    @abstractmethod
    def labels(self, split: Split, images: int) -> NDArray[np.int64]:
        """Labels of the first images of a split, int64 (images,)."""

    def stream(self, split: Split, size: int | None) -> Images:
        """The first `size` images of a split, in its shards. Raises DatasetError for too few."""
        listing = self.listing(split) or shards.Listing("", 0, 0, 1)
        if size is not None and size > listing.images:
            raise DatasetError([f"source '{self.name}': size {size} is more than the "
                                f"{listing.images} images there are"])
        if size is not None and size < listing.images:
            listing = listing.head(size)
        side = self.side()
        assert side is not None, "every streamed source has a native side"
        pixels = Stream(listing, side, self.canvas or round(CANVAS * side), self.decoder,
                        self.on_corrupt, self.lanes, self.window)
        unknown = np.broadcast_to(np.int64(-1), (listing.images,))
        return Images(pixels, self.labels(split, listing.images), unknown,  # type: ignore[arg-type]
                      self.class_names)  # a Stream is indexed like an array

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images per class, int64 (C,)."""
        listing = self.listing(split)
        return self.first(split, listing.images if listing else 0)

    def first(self, split: Split, images: int) -> NDArray[np.int64]:
        """Images per class of the first `images`, int64 (C,)."""
        return np.bincount(self.labels(split, images), minlength=len(self.class_names))

    def pool(self, split: Split) -> Pool:
        """Labels of all images. Planning and training do not ask for it."""
        number = int(self.counts(split).sum())
        zeros = np.broadcast_to(np.int64(0), (number,))
        return Pool(self.labels(split, number), zeros - 1, zeros, np.arange(number))

    def pixels(self, split: Split, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these positions, each read once."""
        rows, back = np.unique(index, return_inverse=True)
        return self.stream(split, None).pixels[rows][back]

    def problem(self) -> str | None:
        """One line if the shards are not there or the options contradict each other."""
        if wrong := decoders.missing(self.decoder):
            return f"source '{self.name}': {wrong}"
        if self.on_corrupt not in ("error", "skip"):
            return f"data.options.on_corrupt must be 'error' or 'skip', not {self.on_corrupt!r}"
        if self.lanes < 1 or self.window < 1 or (self.canvas is not None and self.canvas < 1):
            return f"source '{self.name}': data.options.lanes, window and canvas are at least 1"
        try:
            listing = self.listing("train")
        except DatasetError as error:
            return f"source '{self.name}': {error}"
        if listing is None:
            state = "needs a place" if self.path is None else f"finds no shards in {self.path}"
            return f"source '{self.name}' {state}: expected {self.layout}"
        ends = (0, listing.shards - 1)
        absent = [str(listing.path(n)) for n in ends if not listing.path(n).exists()]
        if absent:
            return (f"source '{self.name}' finds no {absent[0]} (of {listing.shards} shards, first "
                    f"and last looked for): expected {self.layout}")
        return None


@register("shards")
@dataclass(frozen=True)
class Shards(Streamed):
    """What `harness.data pack=shards` has written."""

    title = "Tar shards written by harness.data pack=shards"
    licence = "the images' own"
    citation = "the images' own"
    layout = ("data.path=FOLDER with train/shards.json, train/*.tar and perhaps validation/ and "
              "test/ like it")
    fetch_hint = "python -m harness.data dataset=SOURCE path=... pack=shards out=FOLDER"
    size = "as written; memory holds one shuffle window"
    identity = "the checksums of the shards, taken when they were written"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the source that was written."""
        return tuple(shards.manifest(self._folder("train"))["class_names"])

    def listing(self, split: Split) -> shards.Listing | None:
        """The shards of a split, with the number of images in each."""
        folder = self._folder(split)
        there = self.path is not None and (folder / shards.MANIFEST).is_file()
        return shards.written(folder) if there else None

    def labels(self, split: Split, images: int) -> NDArray[np.int64]:
        """Labels of the first images of a split."""
        if not images:
            return np.zeros(0, dtype=np.int64)
        labels = np.load(self._folder(split) / LABELS, allow_pickle=False)
        return np.asarray(labels[:images], dtype=np.int64)

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the manifest (checksums of the shards) and the labels."""
        if self.listing(split) is None:
            return digest("shards", split)
        facts, folder = shards.manifest(self._folder(split)), self._folder(split)
        return digest("shards", split, *facts["sha256"], *facts["class_names"],
                      file_digest(folder / LABELS))

    def _folder(self, split: Split) -> Path:
        return (self.path or Path()) / split


@register("webdataset")
@dataclass(frozen=True)
class WebDataset(Streamed):
    """Anyone's tar shards in a numbered range: images to pre-train on, without labels."""

    images: int | None = None
    per_shard: int | None = None

    title = "Any WebDataset of images: a numbered range of tar shards"
    licence = "the images' own"
    citation = "the images' own"
    layout = ("data.path='FOLDER/name-{000000..099999}.tar' and data.options.images=NUMBER (in "
              "all; per_shard=NUMBER if they are not spread evenly): each image in a file "
              "KEY.jpg|png|webp of its tar, other files are ignored")
    fetch_hint = "img2dataset --output_format webdataset, for instance"
    size = "any: 10^8 images need no more memory than 10^6"
    identity = "names, declared numbers of images and the sizes of the first and the last shard"
    splits = "training only"
    labelled = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """One, for images without labels."""
        return ("unlabelled",)

    def listing(self, split: Split) -> shards.Listing | None:
        """The declared range; nothing is listed."""
        if split != "train" or self.path is None:
            return None
        return shards.parse(self.path, self.images, self.per_shard)

    def labels(self, split: Split, images: int) -> NDArray[np.int64]:
        """Zeros that take no memory."""
        return np.broadcast_to(np.int64(0), (images,))

    def first(self, split: Split, images: int) -> NDArray[np.int64]:
        """All of them."""
        return np.array([images])

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over what is declared, and the sizes of the first and the last shard."""
        listing = self.listing(split)
        if listing is None:
            return digest("webdataset", split)
        ends = [listing.path(number) for number in (0, listing.shards - 1)]
        return digest("webdataset", split, listing.images, listing.per_shard, listing.shards,
                      *(path.name for path in ends), *(path.stat().st_size for path in ends))
