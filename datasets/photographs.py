"""Photographs that stay in their files: decoded whole when they are asked for, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import decoders
from datasets.messages import DatasetError
from datasets.streams import CANVAS, PIECE, threads

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from datasets.sources.files import Files

FULL = 1 << 24  # a side that no photograph has: tests resample once, from the file's own pixels


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs of a source that is `whole`; in the place of an array of pixels (N, S, S, 3).

    Training crops from what `whole` gives. Indexed, as evaluations do, they are the papers' test
    images: of 224 pixels the centre 224 of a shorter side of 256, bicubic. Nothing is kept.
    files: bytes (N,), names relative to the source's root.
    """

    source: Files
    files: NDArray[np.bytes_]
    side: int

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array with all the images."""
        return (len(self), self.side, self.side, 3)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: Any) -> NDArray[np.uint8]:
        if isinstance(at, (int, np.integer)):
            return self[np.array([at])][0]
        files = self.files[at]
        out = np.empty((len(files), self.side, self.side, 3), np.uint8)
        for start in range(0, len(files), PIECE):
            for place, image in enumerate(self._decoded(files[start:start + PIECE], FULL), start):
                out[place] = centre(image, self.side)
        return out

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self), PIECE):
            yield from self[start:start + PIECE]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Photographs:
        """The photographs at these positions, in that order; nothing is read."""
        return replace(self, files=self.files[rows])

    def followed_by(self, others: Photographs) -> Photographs:
        """These and then others of the same source."""
        return replace(self, files=np.concatenate([self.files, others.files]))

    def whole(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The photographs (h, w, 3) at these positions, resized where the longer side is over
        16/7 S, as a stream's are. DatasetError names unreadable files."""
        return self._decoded(self.files[rows], round(CANVAS * self.side))

    def _decoded(self, files: NDArray[np.bytes_], limit: int) -> list[NDArray[np.uint8]]:
        paths = [self.source.root / raw.decode() for raw in files.tolist()]
        found = list(threads().map(partial(_one, limit=limit), paths))
        good = [image for image in found if not isinstance(image, str)]
        if len(good) < len(found):
            bad = [f"{path.relative_to(self.source.root)} ({image})"
                   for path, image in zip(paths, found, strict=True) if isinstance(image, str)]
            raise DatasetError([self.source.unreadable(bad, len(files))])
        return good


def centre(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3) of a photograph (h, w, 3): `views_legacy.eval_preprocess`, rounded."""
    import torch  # planning lists photographs and needs no torch

    from datasets.views_legacy import eval_preprocess

    # PIL's arrays are read-only, which torch does not take
    made = eval_preprocess(torch.from_numpy(np.array(image))[None], side)[0]
    pixels: NDArray[np.uint8] = (made * 255).round_().byte().permute(1, 2, 0).numpy()
    return pixels


def _one(path: Path, limit: int) -> NDArray[np.uint8] | str:
    try:
        return decoders.whole(path.read_bytes(), limit)
    except (OSError, ValueError) as error:
        return str(error)
