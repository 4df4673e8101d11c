"""Sources: images that exist, one file each."""

from __future__ import annotations

from datasets.sources import arrays as arrays
from datasets.sources import cifar as cifar
from datasets.sources import digits as digits
from datasets.sources import fashion_mnist as fashion_mnist
from datasets.sources import folder as folder
from datasets.sources import folders as folders
from datasets.sources import imagenet as imagenet
from datasets.sources import long_tailed as long_tailed
from datasets.sources import parquet as parquet
from datasets.sources import photos as photos
from datasets.sources import places as places
from datasets.sources import shards as shards
from datasets.sources import stl10 as stl10
from datasets.sources import svhn as svhn
from datasets.sources import transfer as transfer
from datasets.sources import transfer_more as transfer_more
from datasets.sources import yfcc as yfcc
from datasets.sources.base import SOURCES, Source, holdout

__all__ = ["SOURCES", "Source", "holdout"]
