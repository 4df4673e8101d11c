"""Fashion-MNIST: torchvision's download, or the folder of Debian's dataset-fashion-mnist."""

from __future__ import annotations

import functools
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.sources.base import digest, register
from datasets.sources.resize import rgb
from datasets.sources.torchvision_base import Torchvision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

RAW = "FashionMNIST/raw"  # where torchvision puts its files
MAGIC = {1: 2049, 3: 2051}  # of IDX files of bytes with this many dimensions


@register("fashion_mnist")
@dataclass(frozen=True)
class FashionMNIST(Torchvision):
    """Grey pictures of clothes; read from IDX files, plain or gzipped, without torchvision."""

    title = "Fashion-MNIST"
    licence = "MIT"
    citation = "Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv 1708.07747"
    layout = ("data.path/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz], or the same below "
              f"data.path/{RAW}; on Debian: apt install dataset-fashion-mnist and "
              "data.path=/usr/share/datasets/fashion-mnist")
    size = "60,000 + 10,000 of 28x28 grey, 10 classes, 31 MB"
    identity = "the unpacked contents of the four files"
    native_side = 28
    classes = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
               "bag", "ankle boot")
    files = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
             "t10k-labels-idx1-ubyte")
    # SHA-256 of the four files unpacked, from the Debian package: what is assumed before they are
    # there. Present files are hashed, since archives differ in their compression.
    archives = ("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34")
    declared = {"train": (6000,), "test": (1000,)}

    def found(self, name: str) -> Path | None:
        """A published file, plain or gzipped, in the folder or where torchvision puts it."""
        places = (self.root, self.root / RAW)
        paths = [place / f"{name}{suffix}" for place in places for suffix in ("", ".gz")]
        return next((path for path in paths if path.is_file()), None)

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the unpacked contents of the four files."""
        there = [path for name in self.files if (path := self.found(name))]
        if len(there) < len(self.files):
            return digest(self.name, split, *self.archives)
        return digest(self.name, split, *(_content(path, path.stat().st_mtime_ns)
                                          for path in there))

    def arrays(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels uint8 (N, 28, 28, 3) and labels int64 (N,) of a part."""
        prefix = "train" if part == "train" else "t10k"
        pixels = read_idx(self.found(f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(self.found(f"{prefix}-labels-idx1-ubyte"))
        return rgb(pixels), labels.astype(np.int64)


def unpacked(path: Path) -> bytes:
    """The file's content, unzipped if need be. Raises OSError if it is damaged."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path} is damaged: {error}") from error


@functools.lru_cache(maxsize=8)
def _content(path: Path, changed: int) -> str:
    return hashlib.sha256(unpacked(path)).hexdigest()


def read_idx(path: Path | None) -> NDArray[np.uint8]:
    """An IDX file of bytes, gzipped or not. Raises OSError if it is damaged or of another kind."""
    if path is None:
        raise OSError("a file is missing")
    raw = unpacked(path)
    dimensions = raw[3] if len(raw) > 3 else 0
    shape = tuple(int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(dimensions))
    values = np.frombuffer(raw, dtype=np.uint8, offset=min(4 + 4 * dimensions, len(raw)))
    if MAGIC.get(dimensions) != int.from_bytes(raw[:4], "big") or values.size != np.prod(shape):
        raise OSError(f"{path} is truncated or no IDX file of bytes")
    return values.reshape(shape)
