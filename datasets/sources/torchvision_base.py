"""What sources that torchvision downloads share; it is imported only when images are wanted."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from datasets.sources.base import digest
from datasets.sources.heldout import HeldOut
from datasets.sources.resize import fit, rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split


@dataclass(frozen=True)
class Torchvision(HeldOut):
    """A torchvision data set. Class sizes and archive checksums are declared, so planning reads
    nothing; torchvision itself verifies the checksums.
    """

    download: bool = False

    transport = ("download",)
    identity = "the published archives' checksums, which torchvision verifies"
    splits = "official train and test; a tenth of train, by seed, is validation"
    fetch_hint = "data.options.download=true, once"
    classes: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()  # that must be there, relative to the path
    archives: ClassVar[tuple[str, ...]] = ()  # MD5 of the published archives
    declared: ClassVar[dict[str, tuple[int, ...]]] = {}  # images per class of each part

    @property
    def class_names(self) -> tuple[str, ...]:
        """The published class names."""
        return self.classes

    @property
    def root(self) -> Path:
        """The folder that holds the files: `path`, or data/<name>."""
        return self.path or Path("data", self.name)

    def parts(self) -> tuple[str, ...]:
        """Train and test."""
        return ("train", "test")

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images per class, int64 (C,), from the declared sizes."""
        sizes = self.declared[self.part_of(split)]
        if len(sizes) == 1:
            sizes = sizes * len(self.classes)
        counts = np.array(sizes)
        if self.part_of(split) != split or split == "train":
            quota = round(0.1 * int(counts.sum()) / len(counts))
            held = np.minimum(quota, counts // 2) if self.holdout else np.zeros_like(counts)
            return counts - held if split == "train" else held
        return counts

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the published archives' MD5 sums, which torchvision checks."""
        return digest(self.name, split, *self.archives)

    def found(self, name: str) -> Path | None:
        """The path of a published file, None if it is not there."""
        path = self.root / name
        return path if path.is_file() else None

    def missing(self) -> list[str]:
        """The published files that are not there."""
        return [name for name in self.files if self.found(name) is None]

    def problem(self) -> str | None:
        """One line with the expected tree if files are missing and may not be downloaded."""
        missing = self.missing()
        if not missing or self.download:
            return None
        tree = ", ".join(f"{self.root}/{name}" for name in self.files[:3])
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return (f"source '{self.name}' lacks {len(missing)} of {len(self.files)} files in "
                f"{self.root} (first: {missing[0]}); expected {tree}{more}: set data.path=FOLDER, "
                "or data.options.download=true to fetch them")

    def fetch(self) -> None:
        """Download and verify the archives if `download` is set and files are missing."""
        if self.download and self.missing():
            for part in self.parts():
                self.open(part, download=True)

    def open(self, part: str, *, download: bool = False) -> Any:
        """torchvision's data set object of a published part."""
        import torchvision

        make = getattr(torchvision.datasets, type(self).__name__)
        return make(str(self.root), **self.arguments(part), download=download)

    def arguments(self, part: str) -> dict[str, Any]:
        """How torchvision's class names the part."""
        return {"train": part == "train"}

    def arrays(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels uint8 (N, H, W, 3) and labels int64 (N,) of a part."""
        opened = self.open(part)
        return rgb(np.asarray(opened.data)), np.asarray(opened.targets, dtype=np.int64)

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels as published; origins unknown."""
        labels = _read(self, part)[1]
        return labels, np.full(len(labels), -1)

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these indices of a part."""
        return fit(_read(self, part)[0][ids], self.side())


@functools.lru_cache(maxsize=4)
def _read(source: Torchvision, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A part's arrays, read once; the source is a frozen value, so it is a good key."""
    try:
        return source.arrays(part)
    except (OSError, RuntimeError, EOFError) as error:
        raise FileNotFoundError(
            f"source '{source.name}': {source.root} cannot be read ({error}): delete it and set "
            "data.options.download=true") from error
