"""What was read of a store before, so that only what is new or changed is read again.

    <results>/store/index/<study>.parquet    key, stamp, what was kept of the artifact (JSON)

A cache: it may be deleted at any time. A stamp is made of the times of change and the sizes of an
artifact's files; editing one in place changes its stamp, so that it is read, and checked, again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .artifact import JSONS
from .store import write_atomic

# The folder itself comes first: it changes when a file of it is replaced. The features' files
# (an array, which is not read here) say nothing that a record has.
FILES = {"features": ("",)}
OTHERS = ("", *(f"/{name}" for name in JSONS))
ABSENT = 0
REVISION = 1  # of what `artifact.distil` keeps


def stamp(kind: str, *folders: str) -> tuple[int, str]:
    """A number that changes when an artifact does, and which of `folders` holds it.

    `ABSENT` and the first of them where none does. The time of change, not of modification: no
    tool sets it back.
    """
    for folder in folders:
        told: list[int] = []
        try:
            for name in FILES.get(kind, OTHERS):
                found = os.stat(folder + name)
                told += (found.st_ctime_ns, found.st_size, found.st_ino)
        except OSError:
            if not told:
                continue
        return hash(tuple(told)), folder
    return ABSENT, folders[0]


def file_stamp(path: Path) -> int:
    """`stamp` of one file."""
    try:
        found = path.stat()
    except OSError:
        return ABSENT
    return hash((found.st_ctime_ns, found.st_size, found.st_ino))


@dataclass
class Cache:
    """Stamps and kept JSON by key, and under `about` what the last collection was made from."""

    path: Path
    stamps: dict[str, int] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    _kept: dict[str, str] | None = None

    @classmethod
    def open(cls, path: Path) -> Cache:
        """The cache of a study; an empty one where it is missing, damaged or of other code."""
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(path, columns=["key", "stamp"])
            about = json.loads((table.schema.metadata or {})[b"about"])
        except Exception:  # pyarrow raises several unrelated classes; a cache is made again
            return cls(path)
        if about.get("revision") != str(REVISION):
            return cls(path)
        stamps = dict(zip(table["key"].to_pylist(), table["stamp"].to_pylist(), strict=True))
        return cls(path, stamps, about)

    def kept(self) -> dict[str, str]:
        """key -> JSON of what was kept; read only where something has changed."""
        import pyarrow.parquet as parquet

        if self._kept is None:
            self._kept = {}
            if self.stamps:
                table = parquet.read_table(self.path, columns=["key", "kept"])
                self._kept = dict(zip(table["key"].to_pylist(), table["kept"].to_pylist(),
                                      strict=True))
        return self._kept

    def write(self, stamps: Mapping[str, int], kept: Mapping[str, str],
              about: Mapping[str, str]) -> None:
        """Replace the cache; a place that cannot be written only costs time at the next call."""
        import io

        import pyarrow as pa
        import pyarrow.parquet as parquet

        keys = list(kept)
        table = pa.table({"key": keys, "stamp": pa.array([stamps[k] for k in keys], pa.int64()),
                          "kept": [kept[k] for k in keys]})
        told = json.dumps({**about, "revision": str(REVISION)}, sort_keys=True)
        out = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({"about": told}), out,
                            compression="zstd")
        try:
            write_atomic(self.path, out.getvalue())
        except OSError:
            pass


def digest_of(stamps: Mapping[str, int], order: Iterable[str]) -> str:
    """One number, in digits, for all stamps in their order."""
    return str(hash(tuple(stamps[key] for key in order)))
