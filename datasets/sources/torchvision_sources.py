"""Sources that torchvision downloads and reads; it is imported only when images are wanted."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from datasets.sources.base import digest, register
from datasets.sources.heldout import HeldOut

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

    def problem(self) -> str | None:
        """One line with the expected tree if files are missing and may not be downloaded."""
        missing = [name for name in self.files if not (self.root / name).is_file()]
        if not missing or self.download:
            return None
        tree = ", ".join(f"{self.root}/{name}" for name in self.files[:3])
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return (f"source '{self.name}' lacks {len(missing)} of {len(self.files)} files in "
                f"{self.root} (first: {missing[0]}); expected {tree}{more}: set data.path=FOLDER, "
                "or data.options.download=true to fetch them")

    def fetch(self) -> None:
        """Download and verify the archives if `download` is set and files are missing."""
        if self.download and any(not (self.root / name).is_file() for name in self.files):
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
        """uint8 (n, H, W, 3) at these indices of a part."""
        return _read(self, part)[0][ids]


@functools.lru_cache(maxsize=4)
def _read(source: Torchvision, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A part's arrays, read once; the source is a frozen value, so it is a good key."""
    try:
        return source.arrays(part)
    except (OSError, RuntimeError, EOFError) as error:
        raise FileNotFoundError(
            f"source '{source.name}': {source.root} cannot be read ({error}): delete it and set "
            "data.options.download=true") from error


def rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (N, H, W) or (N, H, W, 1 or 3) as (N, H, W, 3); grey is repeated."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


@register("cifar10")
@dataclass(frozen=True)
class CIFAR10(Torchvision):
    """CIFAR-10."""

    title = "CIFAR-10"
    licence = "none stated by its authors; research use with citation"
    citation = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    layout = "data.path/cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}"
    size = "50,000 + 10,000 of 32x32 colour, 10 classes, 170 MB"
    native_side = 32
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
               "truck")
    files = tuple(f"cifar-10-batches-py/{name}" for name in (
        "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
        "test_batch", "batches.meta"))
    archives = ("c58f30108f718f92721af3b95e74349a",)
    declared = {"train": (5000,), "test": (1000,)}


@register("cifar100")
@dataclass(frozen=True)
class CIFAR100(Torchvision):
    """CIFAR-100, fine labels."""

    title = "CIFAR-100"
    licence = CIFAR10.licence
    citation = CIFAR10.citation
    layout = "data.path/cifar-100-python/{train,test,meta}"
    size = "50,000 + 10,000 of 32x32 colour, 100 classes, 169 MB"
    native_side = 32
    classes = tuple((
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
        "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
        "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
        "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
        "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper "
        "table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
        "willow_tree wolf woman worm").split())
    files = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")
    archives = ("eb9058c3a382ffc7106e4002c42a8d85",)
    declared = {"train": (500,), "test": (100,)}
