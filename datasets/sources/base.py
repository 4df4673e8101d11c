"""What every source answers, and what it inherits: hold-out, near duplicates, defaults."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from datasets.duplicates import near_duplicates
from datasets.types import Images, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from datasets.types import Split

SOURCES: dict[str, type[Source]] = {}
HOLDOUT_SEED = 0
HOLDOUT_SHARE = 0.1
S = TypeVar("S", bound="type[Source]")


def register(name: str) -> Callable[[S], S]:
    """Class decorator: makes a source known under `name`; a second one is an error."""

    def add(cls: S) -> S:
        if name in SOURCES:
            raise ValueError(f"source '{name}' is defined twice: {SOURCES[name].__module__} and "
                             f"{cls.__module__}; rename one")
        cls.name = name
        SOURCES[name] = cls
        return cls

    return add


@dataclasses.dataclass(frozen=True)
class Source(ABC):
    """Images that exist. Sub-classes are frozen dataclasses; their own fields are the options.

    `path` is where the files lie (None: the source's default place) and is never hashed;
    `image_size` is the side of the images in pixels, None for the source's native one.
    """

    path: Path | None = None
    image_size: int | None = None

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    size: ClassVar[str] = ""
    native_side: ClassVar[int | None] = None
    revision: ClassVar[int] = 1
    # Options that say how to get the data but do not change it: kept out of the fingerprint.
    transport: ClassVar[tuple[str, ...]] = ()
    # Options that came later: at their default, what was there before, they are in no fingerprint.
    added: ClassVar[tuple[str, ...]] = ()
    fetch_hint: ClassVar[str] = ""  # the command that fetches the files
    splits: ClassVar[str] = ""  # which images are train, validation, test, and by whose choice
    identity: ClassVar[str] = "content"  # what the fingerprint covers
    metric: ClassVar[str] = "top1"  # of the transfer protocol: top1, mean_per_class or map11
    multilabel: ClassVar[bool] = False  # labels hold several classes, see datasets.multilabel
    labelled: ClassVar[bool] = True  # False: every training image is of the one class 'unlabelled'
    squares: ClassVar[bool] = False  # what is left of a photograph is its centre square
    huge: ClassVar[bool] = False  # never listed, never decoded into memory: read shard by shard

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field[Any]]:
        """The options of this source beside path and image_size, by name."""
        return {f.name: f for f in dataclasses.fields(cls) if f.name not in ("path", "image_size")}

    def lasting(self) -> dict[str, Any]:
        """The options that change the data, defaults included but of those that came later."""
        return {name: getattr(self, name) for name, field in self.options().items()
                if name not in self.transport
                and not (name in self.added and getattr(self, name) == field.default)}

    def side(self) -> int | None:
        """The side of the images in pixels: the one asked for, else the native one."""
        return self.image_size if self.image_size is not None else self.native_side

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """One name per label value."""

    @abstractmethod
    def pool(self, split: Split) -> Pool:
        """Labels, origins and priority of a split, without pixels."""

    @abstractmethod
    def pixels(self, split: Split, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, H, W, 3) at these positions of the pool."""

    @abstractmethod
    def fingerprint(self, split: Split) -> str:
        """SHA-256 (hex) of the split's content; the path has no part in it."""

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images per class, int64 (C,)."""
        return np.bincount(self.pool(split).labels, minlength=len(self.class_names))

    def load(self, split: Split) -> Images:
        """The whole pool of a split, decoded, in order of priority within each class."""
        pool = self.pool(split)
        pixels = self.pixels(split, np.arange(len(pool)))
        return Images(pixels, pool.labels, pool.origin, self.class_names)

    def render(self, split: Split, index: NDArray[np.int64], copy: NDArray[np.int64],
               seed: int) -> NDArray[np.uint8]:
        """Pixels of images (copy 0) and of their near duplicates (copy > 0)."""
        return near_duplicates(self.pixels(split, index), index, copy, seed)

    def names(self, split: Split) -> list[str] | None:
        """class/file of each image of the pool, None where images are not files."""
        return None

    def coarse_names(self) -> tuple[str, ...] | None:
        """The coarse class of each class, None where the source has no such grouping."""
        return None

    def folder(self) -> Path | None:
        """The folder that index lists are relative to."""
        if self.path is None:
            return None
        return self.path if self.path.is_dir() else self.path.parent

    def problem(self) -> str | None:
        """One line if the data is not there or the options contradict each other, else None."""
        return None

    def fetch(self) -> None:
        """Download what the options allow to download. Does nothing by default."""
        return None


def holdout(labels: NDArray[np.int64], origin: NDArray[np.int64],
            seed: int = HOLDOUT_SEED, share: float = HOLDOUT_SHARE) -> NDArray[np.bool_]:
    """Mask of the images held out for validation where a source has no such split.

    As many of each class: a tenth (`share`) of the mean class size, at most half of the class.
    Images of one origin stay together; a class with a single origin keeps it for training.
    """
    held = np.zeros(len(labels), dtype=bool)
    classes = int(labels.max(initial=-1)) + 1
    quota = round(share * len(labels) / max(classes, 1))
    rng = np.random.default_rng([seed, 0x5EED])
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        wanted = min(quota, len(members) // 2)
        held[_whole_origins(members, origin[members], wanted)] = True
    return held


def _whole_origins(members: NDArray[np.int64], origin: NDArray[np.int64],
                   wanted: int) -> NDArray[np.int64]:
    """The first images of `members` whose origins fit into `wanted`, at least one origin."""
    if len(members) == 0 or wanted == 0:
        return members[:0]
    if (origin < 0).any():
        return members[:wanted]
    groups, first, sizes = np.unique(origin, return_index=True, return_counts=True)
    if len(groups) == 1:
        return members[:0]
    order = np.argsort(first)
    taken = np.cumsum(sizes[order]) <= wanted
    taken[0] = True
    return members[np.isin(origin, groups[order][taken])]


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts' text or bytes, with their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        sha.update(f"{len(data)}:".encode() + data)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
