"""Official index lists: which images of a published set a long-tailed one consists of."""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLACES = "CURATION_GAP_LISTS"  # environment variable: further folders to look for lists in
FORMATS = ".npz, .npy, .txt or .txt.xz"


class IndexList(NamedTuple):
    """A published list: positions in the published order, or file names, and labels if given."""

    ids: NDArray[np.int64] | None
    names: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    digest: str

    def __len__(self) -> int:
        return len(self.ids if self.ids is not None else self.names or ())


def find(file: str, folder: Path | None) -> Path:
    """The list `file`, or `file`.xz, relative to the data's folder or one of $CURATION_GAP_LISTS.

    Relative, so that no machine's path enters a key. Raises FileNotFoundError.
    """
    if Path(file).is_absolute():
        raise ValueError(f"index list {file} must be relative to data.path or to a folder of "
                         f"${PLACES}: absolute paths would make keys differ between machines")
    extra = [Path(part) for part in os.environ.get(PLACES, "").split(os.pathsep) if part]
    places = ([folder] if folder else []) + extra
    for path in (place / name for place in places for name in (file, f"{file}.xz")):
        if path.is_file():
            return path
    where = ", ".join(map(str, places)) or "no folder (set data.path)"
    raise FileNotFoundError(f"index list {file} is not in {where}: put it there, or name its "
                            f"folder in ${PLACES}")


def read(path: Path, key: str = "") -> IndexList:
    """A list from .npz (array `key`), .npy, or text lines of 'path label' or 'index'.

    Raises ValueError naming the file and, for .npz, the arrays that it has.
    """
    state = path.stat()
    return _read(path, key, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read(path: Path, key: str, size: int, changed: int) -> IndexList:
    try:
        if path.suffix in (".npz", ".npy"):
            return _from_array(_array(path, key))
        if path.name.endswith((".txt", ".txt.xz")):
            raw = path.read_bytes()
            text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode()
            return _from_lines(text)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ValueError(f"index list {path} cannot be read: {error}") from error
    raise ValueError(f"index list {path} must be {FORMATS}")


def _array(path: Path, key: str) -> NDArray[np.int64]:
    """The one-dimensional whole numbers of an array file."""
    with open(path, "rb") as stream:
        opened = np.load(stream, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            values = opened
        elif key in opened.files:
            values = opened[key]
        else:
            raise ValueError(f"it has no array {key!r}; set key to one of "
                             f"{', '.join(sorted(opened.files))}")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"an index list is whole numbers in one row, not {values.dtype} "
                         f"{values.shape}")
    return values.astype(np.int64)


def _from_array(ids: NDArray[np.int64]) -> IndexList:
    return IndexList(ids, None, None, hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest())


def _from_lines(text: str) -> IndexList:
    """Lines of 'index', 'path' or 'path label'; blank lines do not count."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows:
        raise ValueError("it is empty")
    if any(len(row) != len(rows[0]) or len(row) > 2 for row in rows):
        raise ValueError("lines must all be 'path label', or all 'path', or all an index")
    if len(rows[0]) == 1 and all(row[0].isdigit() for row in rows):
        return _from_array(np.array([int(row[0]) for row in rows], dtype=np.int64))
    labels = np.array([int(row[1]) for row in rows]) if len(rows[0]) == 2 else None
    digest = hashlib.sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest()
    return IndexList(None, tuple(row[0] for row in rows), labels, digest)


def short(name: str) -> str:
    """class/file of a listed path, the part that lists and folders have in common."""
    return "/".join(name.rsplit("/", 2)[-2:])


def counts(path: Path) -> NDArray[np.int64]:
    """Images per class, int64 (C,), from a JSON list of them or from a list that has labels."""
    if path.suffix != ".json":
        return class_counts(read(path))
    found = _json(path)
    if not isinstance(found, list) or not all(type(value) is int for value in found):
        raise ValueError(f"{path} must be a JSON list of whole numbers, one of each class")
    return np.array(found, dtype=np.int64)


def mapping(path: Path) -> dict[str, str]:
    """A JSON object of names to names."""
    found = _json(path)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{path} must be a JSON object of class names to coarse class names")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error


def class_counts(listed: IndexList) -> NDArray[np.int64]:
    """Images per label of a list that has labels, int64 (C,)."""
    if listed.labels is None:
        raise ValueError("this list has no labels: count those of the source")
    return np.bincount(listed.labels)
