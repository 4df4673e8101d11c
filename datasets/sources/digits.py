"""The handwritten digits that scikit-learn ships. No download; also foreign images for `photos`."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.sources.base import digest, register
from datasets.sources.heldout import HeldOut
from datasets.sources.resize import fit, rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

NATIVE = 8


@register("digits")
@dataclass(frozen=True)
class Digits(HeldOut):
    """8x8 grey digits, enlarged to the side that is asked for."""

    title = "Handwritten digits of scikit-learn (UCI optdigits, its test part)"
    licence = "as optdigits of the UCI repository; scikit-learn ships it under its own BSD licence"
    citation = "Alpaydin, Kaynak, Cascading classifiers, Kybernetika 1998"
    layout = "nothing to prepare: the images are inside the installed scikit-learn"
    size = "1,797 of 8x8 grey levels, 10 classes"
    native_side = NATIVE

    @property
    def class_names(self) -> tuple[str, ...]:
        """The digits."""
        return tuple("0123456789")

    def parts(self) -> tuple[str, ...]:
        """One part: validation and test are held out of it."""
        return ("train",)

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels; origins unknown."""
        labels = _read()[1]
        return labels, np.full(len(labels), -1)

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these indices."""
        return fit(rgb(_read()[0][ids]), self.side())

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the pixels and labels."""
        return digest("digits", split, *(part.tobytes() for part in _read()))

    def problem(self) -> str | None:
        """One line if scikit-learn lacks the file."""
        return None if _locate() else ("source 'digits': the installed scikit-learn lacks "
                                       "datasets/data/digits.csv.gz; install the version that this "
                                       "project pins: pip install --force-reinstall scikit-learn")


def _locate() -> Path | None:
    """The file inside the installed package, which is not imported."""
    spec = importlib.util.find_spec("sklearn")
    roots = [Path(root) for root in spec.submodule_search_locations or ()] if spec else []
    paths = [root / "datasets" / "data" / "digits.csv.gz" for root in roots]
    return next((path for path in paths if path.is_file()), None)


@functools.cache
def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels uint8 (1797, 8, 8), 16 levels spread over 0..255, and labels int64 (1797,)."""
    path = _locate()
    assert path is not None, "checked by problem()"
    with gzip.open(path, "rt") as text:
        rows = np.array([line.split(",") for line in text.read().split()], dtype=float).astype(int)
    pixels = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8)
    return pixels.reshape(-1, NATIVE, NATIVE), rows[:, -1].astype(np.int64)
