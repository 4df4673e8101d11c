"""Images in parquet files: a column of encoded images and one of labels."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasets.decode import decode
from datasets.messages import DatasetError
from datasets.sources.base import digest, file_digest, register
from datasets.sources.heldout import HeldOut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

PARTS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
HASHED = 4 << 30  # bytes of files up to which the fingerprint covers every byte
SHOWN = 5


class Table(NamedTuple):
    """One part: its files, and the first row of each row group in each file."""

    files: tuple[Path, ...]
    starts: NDArray[np.int64]  # (groups + 1,) first row of each group, then the number of rows
    groups: tuple[tuple[int, int], ...]  # file and number in it of each group


@register("parquet")
@dataclass(frozen=True)
class Parquet(HeldOut):
    """Files as the Hugging Face hub has them; nothing but bytes and numbers is read.

    image: the column of encoded images, binary or a struct with `bytes`; label: that of whole
    numbers from 0, an empty name where there are no labels.
    """

    image: str = "image"
    label: str = "label"

    title = "Any images in parquet files"
    licence = "the files' own"
    citation = "the files' own"
    layout = ("data.path=FOLDER with train*.parquet (or data/train-*.parquet) and, if there are "
              "any, validation*.parquet and test*.parquet, each with the columns image (bytes, or "
              "a struct of bytes and path) and label (whole numbers from 0)")
    size = "as the files"
    splits = "the files' own; a tenth of train each for validation and test where they are missing"
    fetch_hint = "huggingface-cli download --repo-type dataset OWNER/NAME --local-dir FOLDER"
    identity = "the files' bytes up to 4 GB in all, above that names, sizes and footers"
    native_side = 224

    @property
    def root(self) -> Path:
        """The folder of the files. Raises DatasetError if none was named."""
        if self.path is None:
            raise DatasetError(["source 'parquet' needs a folder: set data.path=FOLDER"])
        return self.path

    def files(self, part: str) -> tuple[Path, ...]:
        """The files of a part, sorted by name; empty if there are none."""
        found = [path for folder in (self.root, self.root / "data") for stem in PARTS[part]
                 for path in folder.glob(f"{stem}*.parquet")]
        return tuple(sorted(set(found)))

    def parts(self) -> tuple[str, ...]:
        """The parts that have files."""
        return tuple(part for part in PARTS if self.files(part))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in the files' description of themselves, or the numbers."""
        if not self.label:
            return ("unlabelled",)
        names = _names(self.files("train")[0], self.label)
        return names or tuple(map(str, range(int(self.known("train")[0].max()) + 1)))

    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The label column; origins unknown."""
        labels = _labels(self.files(part), self.label)
        return labels, np.full(len(labels), -1)

    def encoded(self, part: str, ids: NDArray[np.int64]) -> list[bytes]:
        """The undecoded images at these rows of a part; each row group is read once."""
        table = _table(self.files(part))
        group = np.searchsorted(table.starts, ids, side="right") - 1
        out: list[bytes] = [b""] * len(ids)
        for number in np.unique(group):
            rows = np.flatnonzero(group == number)
            file, inside = table.groups[number]
            found = _group(table.files[file], inside, self.image)
            for row in rows:
                out[row] = found[int(ids[row] - table.starts[number])]
        return out

    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) at these rows of a part."""
        side = self.side()
        assert side is not None
        out = np.empty((len(ids), side, side, 3), dtype=np.uint8)
        bad = []
        for place, data in enumerate(self.encoded(part, ids)):
            try:
                out[place] = decode(data, side)
            except ValueError as error:
                bad.append(f"row {ids[place]} ({error})")
        if bad:
            raise DatasetError([f"source 'parquet': {len(bad)} of {len(ids)} rows of {part} in "
                                f"{self.root} are no readable images: {', '.join(bad[:SHOWN])}; "
                                "fetch the file again, or write it without them"])
        return out

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the files' bytes; above 4 GB over their names, sizes and footers."""
        files = self.files(self.part_of(split))
        return digest("parquet", split, *_content(files, _stamp(files)))

    def problem(self) -> str | None:
        """One line if files are missing, damaged, or have other columns."""
        try:
            wrong = self._wrong()
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            wrong = f"cannot read {self.path} ({str(error).splitlines()[0]})"
        return wrong and (f"source 'parquet' {wrong}; expected {self.layout}; to get it: "
                          f"{self.fetch_hint}")

    def _wrong(self) -> str | None:
        if self.path is None:
            return "needs a folder"
        if not self.files("train"):
            return f"finds no train*.parquet in {self.path}"
        for part in self.parts():
            for path in self.files(part):
                if wrong := _misfit(path, self.image, self.label):
                    return f"{path} {wrong}"
            labels = self.known(part)[0]
            if len(labels) == 0 or labels.min() < 0:
                state = "no rows" if len(labels) == 0 else "rows without a label (below 0)"
                return f"has {state} in {part}: set data.options.label='' for unlabelled images"
        return None


def _misfit(path: Path, image: str, label: str) -> str | None:
    """What is wrong with a file's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    if image not in schema.names or (label and label not in schema.names):
        lacking = image if image not in schema.names else label
        return (f"has no column {lacking!r} (it has {', '.join(schema.names)}): set "
                "data.options.image or data.options.label")
    kind = schema.field(image).type
    if pa.types.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), kind)
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return f"has {kind} in column {image!r}: it must be the bytes of encoded images"
    if label and not pa.types.is_integer(schema.field(label).type):
        return f"has {schema.field(label).type} in column {label!r}: labels are whole numbers"
    return None


def _stamp(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    return tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in files)


@functools.lru_cache(maxsize=8)
def _content(files: tuple[Path, ...], stamp: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """What identifies the files: digests of all their bytes, or of their footers if large."""
    if sum(size for size, _ in stamp) <= HASHED:
        return tuple(file_digest(path) for path in files)
    return tuple(f"{path.name} {size} {_footer(path)}" for path, (size, _) in
                 zip(files, stamp, strict=True))


def _footer(path: Path) -> str:
    """SHA-256 of the file's last part, which holds the offsets and statistics of every column."""
    with path.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        return digest(stream.read(length))


@functools.lru_cache(maxsize=8)
def _table(files: tuple[Path, ...]) -> Table:
    import pyarrow.parquet as pq

    footers = [pq.read_metadata(path) for path in files]
    groups = tuple((number, group) for number, footer in enumerate(footers)
                   for group in range(footer.num_row_groups))
    rows = [footers[number].row_group(group).num_rows for number, group in groups]
    return Table(files, np.concatenate([[0], np.cumsum(rows)]).astype(np.int64), groups)


@functools.lru_cache(maxsize=8)
def _labels(files: tuple[Path, ...], label: str) -> NDArray[np.int64]:
    import pyarrow.parquet as pq

    if not label:
        return np.zeros(int(_table(files).starts[-1]), dtype=np.int64)
    columns = [pq.read_table(path, columns=[label])[label] for path in files]
    return np.concatenate([column.fill_null(-1).to_numpy() for column in columns]).astype(np.int64)


@functools.lru_cache(maxsize=4)
def _group(path: Path, group: int, image: str) -> list[bytes]:
    """The encoded images of one row group; an absent one is empty bytes."""
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).read_row_group(group, columns=[image])[image]
    values = column.to_pylist()
    return [(value.get("bytes") if isinstance(value, dict) else value) or b"" for value in values]


def _names(path: Path, label: str) -> tuple[str, ...]:
    """Class names from the description that the Hugging Face hub writes into its files."""
    import pyarrow.parquet as pq

    told = (pq.read_schema(path).metadata or {}).get(b"huggingface")
    try:
        return tuple(json.loads(told or b"{}")["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
