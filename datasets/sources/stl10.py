"""STL-10 through torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.sources.base import register
from datasets.sources.torchvision_base import Torchvision

if TYPE_CHECKING:
    from numpy.typing import NDArray


@register("stl10")
@dataclass(frozen=True)
class STL10(Torchvision):
    """The labelled images of STL-10; its 100,000 unlabelled ones are not read here."""

    title = "STL-10, labelled part"
    licence = "images from ImageNet: research use"
    citation = "Coates, Ng, Lee, An analysis of single-layer networks, AISTATS 2011"
    layout = "data.path/stl10_binary/{train_X,train_y,test_X,test_y,unlabeled_X}.bin"
    size = "5,000 + 8,000 of 96x96 colour, 10 classes, 2.6 GB (with the unlabelled part)"
    native_side = 96
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
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
