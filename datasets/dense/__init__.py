"""Images with boxes, masks, class maps or depths, in their official layouts. No torch."""

from __future__ import annotations

from datasets.dense import coco as _coco
from datasets.dense import nyu as _nyu
from datasets.dense import voc as _voc
from datasets.dense.base import (
    IGNORED,
    READERS,
    Classes,
    Depths,
    Objects,
    Part,
    Reader,
    describe,
    open_reader,
    resolve,
)

__all__ = ["IGNORED", "READERS", "Classes", "Depths", "Objects", "Part", "Reader", "describe",
           "open_reader", "resolve"]

assert _coco and _nyu and _voc  # importing them registers them
