"""records.parquet: written with a checksum of what it says, refused when that no longer holds."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .store import write_atomic

if TYPE_CHECKING:
    import pandas as pd

CHECKSUM = b"curation-gap:sha256"
UNCHECKED = ("{}: carries no checksum (an older version or other software wrote it), so that "
             "changes by hand do not show.")
# Numbers, and what says whose they are.
COVERED = ("method", "condition", "seed", "evaluation", "metric", "evaluate_key", "protocol")


def checksum(frame: pd.DataFrame) -> str:
    """SHA-256 of the numbers and of what says whose they are, in the order of the rows."""
    hasher = hashlib.sha256(frame["value"].to_numpy("float64").tobytes())
    for name in (name for name in COVERED if name in frame):
        hasher.update("\x1f".join(map(str, frame[name].tolist())).encode())
    return hasher.hexdigest()


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write records, by one rename."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), CHECKSUM: checksum(frame).encode()}
    out = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), out, write_page_checksum=True)
    write_atomic(path, out.getvalue())


def read(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The records, and what a reader has to know of the file itself.

    Raises FileNotFoundError, and UserError that names a file that is damaged or was changed.
    """
    import pyarrow.parquet as parquet

    if not path.exists():
        raise FileNotFoundError(path)
    try:
        table = parquet.read_table(path, page_checksum_verification=True)
        frame = table.to_pandas()
    except Exception as error:  # pyarrow raises several unrelated classes on a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not readable ({first}); delete it, it is made again") from None
    expected = (table.schema.metadata or {}).get(CHECKSUM)
    if expected is None:
        return frame, (UNCHECKED.format(path.name),)
    if "value" not in frame or checksum(frame).encode() != expected:
        raise UserError(f"{path} was changed after it was written (its checksum does not hold); "
                        "delete it, it is made again from the store")
    return frame, ()
