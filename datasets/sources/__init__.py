"""Sources: images that exist, one file each."""

from __future__ import annotations

from datasets.sources import arrays as arrays
from datasets.sources import folder as folder
from datasets.sources import photos as photos
from datasets.sources import torchvision_sources as torchvision_sources
from datasets.sources.base import SOURCES, Source, holdout

__all__ = ["SOURCES", "Source", "holdout"]
