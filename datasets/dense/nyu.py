"""NYU Depth v2: indoor images with depth, as one labelled file, as HDF5 frames or as PNGs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from datasets.dense.base import Depths, Reader, need, open_image, register
from datasets.messages import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.dense.base import Part

LABELLED, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
FOLDERS = {"train": ("train",), "test": ("test", "val", "val/official")}


@register("nyu_v2")
@dataclass(frozen=True)
class NyuV2(Reader):
    """The official split (795 + 654 labelled frames), or the raw frames that are in the folder.

    One of three layouts is found by itself: the labelled MATLAB file with its split; one HDF5 file
    a frame with `rgb` uint8 (3, H, W) and `depth` metres (H, W); or rgb/NAME.png|jpg beside
    depth/NAME.png in 16 bit millimetres.
    """

    title = "NYU Depth v2"
    licence = "research only, see the data set's page"
    citation = "Silberman et al., ECCV 2012"
    layout = (f"PATH/{LABELLED} and PATH/{SPLITS}; or PATH/{{train,test}}/SCENE/*.h5; or "
              "PATH/{train,test}/rgb/*.{png,jpg} with depth/*.png (16 bit, millimetres)")
    download = ("curl -O http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/"
                f"{LABELLED} -O http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/{SPLITS}")
    size = "2.8 GB (labelled frames)"
    task = "depth"

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: depth is a number."""
        return ()

    def problem(self) -> str | None:
        """One line if none of the layouts is there, or a part has no frames."""
        if self.path is None:
            return self.missing("needs a folder")
        if (self.path / LABELLED).exists():
            return None if (self.path / SPLITS).exists() else self.missing(
                f"finds no {self.path / SPLITS}")
        for part in FOLDERS:
            if self._folder(part) is None or not self._frames(part):
                return self.missing(f"finds no frames of {self.path}/{part}")
        return None

    def count(self, part: Part) -> int:
        """Frames of a part."""
        return len(self._numbers(part)) if self._labelled else len(self._frames(part))

    def listing(self, part: Part) -> list[str]:
        """The frames' numbers, or their files with sizes."""
        if self._labelled:
            return [str(number) for number in self._numbers(part)]
        folder = self._folder(part)
        assert folder is not None
        return [f"{path.relative_to(folder)} {path.stat().st_size}" for path in self._frames(part)]

    def read(self, part: Part, number: int) -> Depths:
        """The frame at a place of a part."""
        if self._labelled:
            return self._from_labelled(self._numbers(part)[number])
        path = self._frames(part)[number]
        if path.suffix == ".h5":
            with need("h5py").File(path, "r") as file:
                return Depths(np.ascontiguousarray(np.moveaxis(file["rgb"][:], 0, -1)),
                              np.asarray(file["depth"][:], np.float32))
        drawn = path.parent.parent / "depth" / f"{path.stem}.png"
        try:
            with Image.open(drawn) as image:
                metres = np.asarray(image, np.float32) / np.float32(1000)
        except OSError as error:
            raise DatasetError([f"{drawn}: not readable ({error}): fetch it again"]) from None
        return Depths(open_image(path), metres)

    @property
    def _labelled(self) -> bool:
        return (self.root / LABELLED).exists()

    def _from_labelled(self, number: int) -> Depths:
        # MATLAB writes columns first: images (n, 3, W, H), depths (n, W, H)
        with need("h5py").File(self.root / LABELLED, "r") as file:
            image = file["images"][number].transpose(2, 1, 0)
            metres = file["depths"][number].T
        return Depths(np.ascontiguousarray(image), np.ascontiguousarray(metres, dtype=np.float32))

    def _numbers(self, part: Part) -> NDArray[np.int64]:
        return _split(self.root / SPLITS)[part]

    def _folder(self, part: str) -> Path | None:
        return next((self.root / name for name in FOLDERS[part]
                     if (self.root / name).is_dir()), None)

    def _frames(self, part: str) -> tuple[Path, ...]:
        folder = self._folder(part)
        assert folder is not None
        return _frames_of(folder)


@functools.lru_cache(maxsize=4)
def _split(path: Path) -> dict[str, NDArray[np.int64]]:
    """Positions from 0 of the frames of each part; the file counts from 1."""
    from scipy.io import loadmat

    found: dict[str, Any] = loadmat(path)
    return {part: np.sort(found[f"{part}Ndxs"].ravel().astype(np.int64)) - 1
            for part in ("train", "test")}


@functools.lru_cache(maxsize=8)
def _frames_of(folder: Path) -> tuple[Path, ...]:
    """Every *.h5 below a folder, else every picture in rgb/, sorted."""
    found = sorted(folder.rglob("*.h5"))
    if not found and (folder / "rgb").is_dir():
        found = sorted(path for path in (folder / "rgb").iterdir()
                       if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return tuple(found)
