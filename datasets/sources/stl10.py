"""STL-10 through torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from datasets.sources.base import register
from datasets.sources.torchvision_base import Torchvision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split


@register("stl10")
@dataclass(frozen=True)
class STL10(Torchvision):
    """The labelled images of STL-10; the others are the source `stl10_unlabelled`."""

    title = "STL-10, labelled part"
    licence = "images from ImageNet: research use"
    citation = "Coates, Ng, Lee, An analysis of single-layer networks, AISTATS 2011"
    layout = "data.path/stl10_binary/{train_X,train_y,test_X,test_y,unlabeled_X}.bin"
    size = "5,000 + 8,000 of 96x96 colour, 10 classes, 2.6 GB (with the unlabelled part)"
    native_side = 96
    classes: ClassVar[tuple[str, ...]] = (
        "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    files = tuple(f"stl10_binary/{name}.bin" for name in ("train_X", "train_y", "test_X", "test_y"))
    archives = ("91f7769df0f17e558f3565bffb0c7dfb",)
    declared = {"train": (500,), "test": (800,)}

    def arguments(self, part: str) -> dict[str, Any]:
        """torchvision names the parts by `split`."""
        return {"split": part}

    def arrays(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels uint8 (N, 96, 96, 3) and labels int64 (N,) of a part."""
        opened = self.open(part)
        return (np.ascontiguousarray(opened.data.transpose(0, 2, 3, 1)),
                np.asarray(opened.labels, dtype=np.int64))


@register("stl10_unlabelled")
@dataclass(frozen=True)
class STL10Unlabelled(STL10):
    """The 100,000 unlabelled images, of more classes than the ten; evaluate on source `stl10`.

    with_labelled: the 5,000 labelled training images as well, without their labels (CLD's
    stl10-full).
    """

    with_labelled: bool = False

    title = "STL-10, unlabelled part"
    size = "100,000 of 96x96 colour, 2.6 GB (with the labelled part)"
    splits = "all images are train; there is no other part"
    classes = ("unlabelled",)
    files = (*STL10.files, "stl10_binary/unlabeled_X.bin")
    labelled = False

    def parts(self) -> tuple[str, ...]:
        """All three, of which two are empty: nothing is held out."""
        return ("train", "validation", "test")

    def counts(self, split: Split) -> NDArray[np.int64]:
        """All of one class, int64 (1,)."""
        whole = 105_000 if self.with_labelled else 100_000
        return np.array([whole if split == "train" else 0])

    def open(self, part: str, *, download: bool = False) -> Any:
        """torchvision's data set object."""
        import torchvision

        return torchvision.datasets.STL10(str(self.root), split=self._part(), download=download)

    def arrays(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels uint8 (N, 96, 96, 3) and zeros int64 (N,)."""
        if part != "train":
            return np.empty((0, 96, 96, 3), np.uint8), np.empty(0, np.int64)
        pixels = np.ascontiguousarray(self.open(part).data.transpose(0, 2, 3, 1))
        return pixels, np.zeros(len(pixels), dtype=np.int64)

    def _part(self) -> str:
        return "train+unlabeled" if self.with_labelled else "unlabeled"
