"""Listings of image files: walked once, measured, and kept, so that opening is not walking."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLACE = "CURATION_GAP_CACHE"  # environment variable: where long listings are kept
LONG = 20_000  # files; listing fewer takes less than a second
SETTLED = 10.0  # seconds since a folder changed: before, a copy may still be under way
VERSION = 1  # of the kept files
LOG = logging.getLogger(__name__)


class Listing(NamedTuple):
    """The files of one part in a fixed order.

    files: UTF-8 paths below the source's folder, bytes (N,); labels, origin: int64 (N,) as in
    `Images`; sizes: int64 (N,) bytes on disk, -1 where a file is not there.
    """

    files: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def at(self, positions: NDArray[np.int64] | NDArray[np.bool_]) -> Listing:
        """The part of this listing at `positions` (indices or a mask), in that order."""
        return Listing(self.files[positions], self.labels[positions], self.origin[positions],
                       self.sizes[positions])

    def names(self) -> list[str]:
        """The last component of each path."""
        return [raw.rpartition(b"/")[2].decode() for raw in self.files.tolist()]


def of_folders(root: Path, folders: Sequence[str]) -> Listing:
    """Every file in `folders` (one a class, in order of label), by name; hidden files are not."""
    found = walk(root, folders)
    files = [f"{folder}/{name}" for folder, entries in zip(folders, found, strict=True)
             for name, _ in entries]
    labels = np.repeat(np.arange(len(folders)), [len(entries) for entries in found])
    sizes = np.array([size for entries in found for _, size in entries], dtype=np.int64)
    return Listing(_bytes(files), labels, np.full(len(files), -1), sizes)


def of_names(root: Path, files: Sequence[str], labels: Iterable[int],
             origin: Iterable[int] | None = None) -> Listing:
    """These files, in this order, with their sizes: one look into each folder they lie in."""
    folders = sorted({file.rpartition("/")[0] for file in files})
    sizes = {f"{folder}/{name}" if folder else name: size
             for folder, entries in zip(folders, walk(root, folders), strict=True)
             for name, size in entries}
    known = np.full(len(files), -1) if origin is None else np.array(list(origin), dtype=np.int64)
    return Listing(_bytes(files), np.array(list(labels), dtype=np.int64), known,
                   np.array([sizes.get(file, -1) for file in files], dtype=np.int64))


def _bytes(files: Sequence[str]) -> NDArray[np.bytes_]:
    # fixed width: 50 MB for ImageNet, where a list of str takes 130 MB
    return np.array([os.fsencode(file) for file in files] or [b""])[:len(files)]


def walk(root: Path, folders: Sequence[str]) -> list[list[tuple[str, int]]]:
    """Name and bytes of every file in each folder, sorted by name; [] where there is no folder."""
    with ThreadPoolExecutor(16) as threads:  # a network file system answers them side by side
        return list(threads.map(lambda folder: _entries(root / folder), folders))


def _entries(folder: Path) -> list[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.stat().st_size) for entry in entries
                          if not entry.name.startswith(".") and entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries
                          if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def kept(key: str, root: Path, needs: Iterable[Path], make: Callable[[], Listing]) -> Listing:
    """The listing that `make` returns, from an earlier time if nothing has changed since.

    Long listings are kept in $CURATION_GAP_CACHE (default: the user's cache folder) under `key`.
    They hold as long as no folder of theirs and no file of `needs` has changed its time: a file
    rewritten in place, at another size, is not noticed.
    """
    path = _cache() / "listings" / f"{key}.npz"
    found = _read(path, root)
    if found is not None:
        return found
    listing = make()
    if len(listing.files) >= LONG:
        _write(path, root, [*map(str, needs), *_folders(root, listing)], listing)
    return listing


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(PLACE) or Path(home, "curation-gap"))


def _folders(root: Path, listing: Listing) -> list[str]:
    """The folders that the files lie in, and those above them up to the root."""
    direct = {raw.rpartition(b"/")[0].decode() for raw in listing.files.tolist()}
    above = {str(parent) for folder in direct for parent in Path(folder).parents}
    return [str(root / folder) for folder in sorted(direct | above)]


def _times(paths: Sequence[str]) -> NDArray[np.int64]:
    with ThreadPoolExecutor(16) as threads:
        return np.array(list(threads.map(lambda path: os.stat(path).st_mtime_ns, paths)),
                        dtype=np.int64)


def _read(path: Path, root: Path) -> Listing | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            watched = [os.fsdecode(raw) for raw in arrays["watched"].tolist()]
            if int(arrays["version"]) != VERSION or (_times(watched) != arrays["times"]).any():
                return None
            return Listing(*(arrays[name] for name in Listing._fields))
    except Exception as error:  # whatever is wrong with a kept listing: make it again
        LOG.debug("listing of %s is made anew: %s", root, error)
        return None


def _write(path: Path, root: Path, watched: list[str], listing: Listing) -> None:
    try:
        times = _times(watched)
        if time.time() - times.max() / 1e9 < SETTLED:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as stream:
            np.savez(stream, version=VERSION, watched=_bytes(watched), times=times,
                     **listing._asdict())
        os.replace(stream.name, path)
    except OSError as error:
        LOG.debug("listing of %s is not kept: %s", root, error)
