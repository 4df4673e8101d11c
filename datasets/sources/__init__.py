"""Sources: images that exist, one file each."""

from __future__ import annotations

from datasets.sources import photos as photos
from datasets.sources.base import SOURCES, Source, holdout

__all__ = ["SOURCES", "Source", "holdout"]
