"""Images in one .npz file: x_train, y_train, x_test, y_test and a few optional arrays."""

from __future__ import annotations

import functools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.messages import DatasetError
from datasets.sources.base import digest, file_digest, register
from datasets.sources.heldout import HeldOut
from datasets.sources.resize import fit, rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

NEEDED = ("x_train", "y_train", "x_test", "y_test")
Header = tuple[tuple[int, ...], np.dtype[Any]]


@register("npz")
@dataclass(frozen=True)
class Npz(HeldOut):
    """A plain .npz; nothing in it is ever unpickled."""

    title = "Any images in one .npz file"
    licence = "the file's own"
    citation = "the file's own"
    layout = ("data.path=FILE.npz with x_train, x_test (uint8, N x H x W or N x H x W x 1 or 3), "
              "y_train, y_test (whole numbers from 0); optional x_validation, y_validation, "
              "track_train (what an image was cut from, numbered over all classes: splits never "
              "divide a track), class_names")
    size = "as the file"
    splits = "the file's own; a tenth of train is validation where it has none"
    identity = "the file's bytes"

    @property
    def file(self) -> Path:
        """The .npz file. Raises DatasetError if none was named."""
        if self.path is None:
            raise DatasetError(["source 'npz' needs a file: set data.path=FILE.npz"])
        return self.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The array class_names, or the numbers."""
        names = _names(self.file, _stamp(self.file))
        return names or tuple(str(c) for c in range(int(self.known("train")[0].max()) + 1))

    def side(self) -> int | None:
        """The side asked for, or the shorter side of the images in the file."""
        if self.image_size is not None:
            return self.image_size
        shape, _ = _headers(self.file, _stamp(self.file))["x_train"]
        return min(shape[1:3])

    def parts(self) -> tuple[str, ...]:
        """Train and test, and validation if the file has it."""
        there = "x_validation" in _headers(self.file, _stamp(self.file))
        return ("train", "validation", "test") if there else ("train", "test")

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels, and tracks of the training images if the file has them."""
        stamp = _stamp(self.file)
        labels = _array(self.file, f"y_{part}", stamp).astype(np.int64)
        track = f"track_{part}"
        if track in _headers(self.file, stamp):
            return labels, _array(self.file, track, stamp).astype(np.int64)
        return labels, np.full(len(labels), -1)

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these indices of a part."""
        pixels = rgb(_array(self.file, f"x_{part}", _stamp(self.file))[ids])
        return fit(pixels, self.side())

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the file's bytes."""
        return digest("npz", split, _file_digest(self.file, _stamp(self.file)))

    def problem(self) -> str | None:
        """One line if the file cannot be read, or its arrays do not fit together."""
        if self.path is None or not self.path.is_file():
            state = "needs a file" if self.path is None else f"finds no file {self.path}"
            return f"source 'npz' {state}: set data.path=FILE.npz with {', '.join(NEEDED)}"
        try:
            wrong = _misfit(_headers(self.path, _stamp(self.path)))
            wrong = wrong or self._mislabelled()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            wrong = f"cannot be read ({error}): it is truncated or no .npz; write it again"
        return wrong and f"source 'npz': {self.path} {wrong}"

    def _mislabelled(self) -> str | None:
        """What is wrong with the labels: each class must be in every published part."""
        labels = {part: self.known(part)[0] for part in self.parts()}
        classes = max(int(values.max()) for values in labels.values()) + 1
        names = _names(self.file, _stamp(self.file))
        if names and len(names) < classes:
            return f"has {classes} classes but {len(names)} class_names: name them all"
        for part, values in labels.items():
            if int(values.min()) < 0:
                return f"has negative labels in y_{part}: number the classes from 0"
            lacking = np.setdiff1d(np.arange(classes), values)
            if len(lacking):
                shown = ", ".join(map(str, lacking[:10]))
                return (f"has no image of class {shown} in y_{part}: every class must be in "
                        "training and test; number them from 0 without gaps")
        return None


def _misfit(headers: dict[str, Header]) -> str | None:
    """What is wrong with the arrays' names, types and shapes; None if nothing."""
    missing = [name for name in NEEDED if name not in headers]
    if missing:
        return f"lacks {', '.join(missing)} (it has {', '.join(sorted(headers)) or 'nothing'})"
    for name, (shape, dtype) in headers.items():
        if dtype.hasobject:
            return f"holds Python objects in {name}: save plain arrays, nothing is unpickled"
        if name.startswith("x_") and (dtype != np.uint8 or not _image_shape(shape)):
            return (f"has {name} of {dtype} {shape}: it must be uint8, N x H x W or "
                    "N x H x W x 1 or 3, with at least one image")
        if name.startswith(("y_", "track_")):
            images = headers.get("x_" + name.partition("_")[2])
            if dtype.kind not in "iu" or len(shape) != 1:
                return f"has {name} of {dtype} {shape}: it must be whole numbers, one an image"
            if images and images[0][0] != shape[0]:
                return f"has {shape[0]} entries in {name} for {images[0][0]} images"
    if "x_validation" in headers and "y_validation" not in headers:
        return "has x_validation without y_validation"
    sides = {shape[1:3] for name, (shape, _) in headers.items() if name.startswith("x_")}
    return None if len(sides) == 1 else f"has images of different sides: {sorted(sides)}"


def _image_shape(shape: tuple[int, ...]) -> bool:
    return (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) and min(shape) > 0


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what the caches below are valid for."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _headers(path: Path, stamp: tuple[int, int]) -> dict[str, Header]:
    """Shape and type of every array, from the first bytes of each; no pixel is read."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                version = np.lib.format.read_magic(stream)
                read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                        else np.lib.format.read_array_header_2_0)
                shape, _, dtype = read(stream)
            found[name.removesuffix(".npy")] = (shape, dtype)
    return found


@functools.lru_cache(maxsize=8)
def _array(path: Path, name: str, stamp: tuple[int, int]) -> NDArray[Any]:
    """One array of the file. Raises DatasetError if its data is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError([f"source 'npz': {name} in {path} cannot be read ({error}): the file is "
                            "damaged; write it again"]) from error


def _names(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    """The array class_names as text, empty if there is none."""
    if "class_names" not in _headers(path, stamp):
        return ()
    return tuple(str(name) for name in _array(path, "class_names", stamp))


@functools.lru_cache(maxsize=8)
def _file_digest(path: Path, stamp: tuple[int, int]) -> str:
    return file_digest(path)
