"""Datasets: sources of images, controls on them, and their fingerprints. No torch at import."""

from __future__ import annotations

from datasets._build import build, prepare, select
from datasets._resolve import describe, foreign, left_out, open_source, resolve
from datasets.controls import CONTROLS, sized
from datasets.messages import DatasetError, TooFewImages
from datasets.sources import SOURCES, Source
from datasets.types import SPLITS, Images, Selection, Split

__all__ = ["CONTROLS", "SOURCES", "SPLITS", "DatasetError", "Images", "Selection", "Source",
           "Split", "TooFewImages", "build", "describe", "foreign", "left_out",
           "open_source", "prepare", "resolve", "select", "sized"]
