"""Images of several classes: their labels as one int64 each, so that every array stays a column.

Bit c is set where class c is in the image; bit 31 + c where it is there but too hard to count
("difficult" in PASCAL VOC), which evaluations leave out for that class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HARD = 31  # first bit of the classes to be left out
MOST = 31  # classes that fit


def pack(signs: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (N,) from (N, C) of 1 present, -1 absent, 0 difficult. ValueError beyond 31 classes."""
    signs = np.asarray(signs)
    classes = signs.shape[1]
    if classes > MOST:
        raise ValueError(f"{classes} classes do not fit into one label: at most {MOST}")
    bits = 1 << np.arange(classes, dtype=np.int64)
    return (signs == 1) @ bits + ((signs == 0) @ bits << HARD)


def unpack(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(N, C) of 1 present, -1 absent, 0 to be left out, from int64 (N,): the inverse of `pack`."""
    bits = np.arange(classes, dtype=np.int64)
    present, hard = labels[:, None] >> bits & 1, labels[:, None] >> (bits + HARD) & 1
    return np.where(present == 1, 1, np.where(hard == 1, 0, -1))


def counts(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Images in which each class is present, int64 (C,); their sum may exceed the images."""
    return (unpack(labels, classes) == 1).sum(axis=0)
