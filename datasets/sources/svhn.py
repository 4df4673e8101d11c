"""SVHN, cropped digits, through torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.sources.base import register
from datasets.sources.torchvision_base import Torchvision

if TYPE_CHECKING:
    from numpy.typing import NDArray


@register("svhn")
@dataclass(frozen=True)
class SVHN(Torchvision):
    """House numbers, one digit in the middle of each image; naturally imbalanced, 3 to 1."""

    title = "Street View House Numbers, cropped digits"
    licence = "non-commercial use"
    citation = "Netzer et al., Reading digits in natural images, NIPS workshop 2011"
    layout = "data.path/{train_32x32.mat,test_32x32.mat}"
    size = "73,257 + 26,032 of 32x32 colour, 10 classes, 246 MB"
    native_side = 32
    classes = tuple("0123456789")
    files = ("train_32x32.mat", "test_32x32.mat")
    archives = ("e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3")
    declared = {
        "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)}

    def arguments(self, part: str) -> dict[str, Any]:
        """torchvision names the parts by `split`."""
        return {"split": part}

    def arrays(self, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels uint8 (N, 32, 32, 3) and labels int64 (N,) of a part."""
        opened = self.open(part)
        return (np.ascontiguousarray(opened.data.transpose(0, 2, 3, 1)),
                np.asarray(opened.labels, dtype=np.int64))
