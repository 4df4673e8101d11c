"""The card of a dataset: what is in it, how skewed, how repetitive, what evaluation sets share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasets import multilabel
from datasets._build import Sample, sample
from datasets.copies import BITS, content_keys, hashes, matches, repeats
from datasets.sources import SOURCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Images, Split

Place = str | Path | None
REVISION = 1  # of what is on a card and how it is measured
LIMIT = 20_000  # images looked at in each split; of more, a sample, and the card says so
MEMORY = 1 << 28  # bytes of pixels looked at in each split


class Held(NamedTuple):
    """An evaluation set: a resolved dataset, the split that is scored, and where it lies."""

    resolved: Mapping[str, Any]
    split: Split = "test"
    path: Place = None


def card(resolved: Mapping[str, Any], path: Place = None, *, foreign_path: Place = None,
         held: Mapping[str, Held] | None = None, limit: int = LIMIT) -> dict[str, Any]:
    """Everything on the card of a resolved dataset, JSON-able.

    held: further evaluation sets, by name, whose overlap with the training images is counted, as
    it is for the dataset's own validation and test split. limit: images looked at in each split.
    A source that is only read in order is described by what is declared of it.
    """
    if SOURCES[resolved["source"]].huge:
        return {**_declared(resolved), "images": {"train": int(resolved["images"])}}
    return of(look(resolved, path, foreign_path=foreign_path, limit=limit), resolved, path,
              held=held, limit=limit)


def look(resolved: Mapping[str, Any], path: Place = None, *, foreign_path: Place = None,
         split: Split = "train", limit: int = LIMIT) -> Sample:
    """The images of a split that a card is made from: all, or as many as the limits allow."""
    side = int(resolved["image_size"] or 224)
    return sample(resolved, split, max(1, min(limit, MEMORY // (3 * side * side))), path,
                  foreign_path=foreign_path)


def of(train: Sample, resolved: Mapping[str, Any], path: Place = None, *,
       held: Mapping[str, Held] | None = None, limit: int = LIMIT) -> dict[str, Any]:
    """The card of training images that `look` has returned; see `card`."""
    names = train.images.class_names
    if SOURCES[resolved["source"]].multilabel:
        counts = multilabel.counts(train.labels, len(names))
    else:
        counts = np.bincount(train.labels[train.labels >= 0], minlength=len(names))
    origin = train.images.origin
    others = {"validation": Held(resolved, "validation", path),
              "test": Held(resolved, "test", path), **(held or {})}
    sets = {name: look(one.resolved, one.path, split=one.split, limit=limit)
            for name, one in others.items() if not SOURCES[one.resolved["source"]].huge}
    return {
        **_declared(resolved),
        "images": {"train": train.total, **{name: sets[name].total for name in sets}},
        "unlabelled": int((train.labels < 0).sum()),
        "class_counts": dict(zip(names, counts.tolist(), strict=True)),
        "classes_present": int((counts > 0).sum()),
        "gini": gini(counts), "imbalance": imbalance(counts),
        "origins": len(np.unique(origin[origin >= 0])),
        "distinct": {"by_construction": train.distinct, **distinct(train.images.pixels,
                                                                   train.total)},
        "overlap": {name: overlap(one.images, train.images, one.total)
                    for name, one in sets.items()},
    }


def _declared(resolved: Mapping[str, Any]) -> dict[str, Any]:
    return {"revision": REVISION, "source": resolved["source"],
            "fingerprint": resolved["fingerprint"], "controls": dict(resolved["controls"]),
            "seed": resolved["seed"], "image_size": resolved["image_size"]}


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of the class counts: 0 balanced, towards 1 all in one class."""
    ordered = np.sort(counts[counts > 0]).astype(np.float64)
    n = len(ordered)
    if n == 0:
        return 0.0
    rank = np.arange(1, n + 1)
    return float((2 * (rank * ordered).sum() / ordered.sum() - (n + 1)) / n)


def imbalance(counts: NDArray[np.int64]) -> float:
    """Largest over smallest class, of the classes that are there."""
    there = counts[counts > 0]
    return float(there.max() / there.min()) if len(there) else 1.0


def distinct(pixels: NDArray[np.uint8], total: int | None = None) -> dict[str, Any]:
    """How many images there are without exact, and without near, copies of earlier ones.

    Of the images compared; `effective` scales the near count up to `total`. A sample misses copies,
    so then it is an upper bound. Windows moved by several pixels are no near copies to the hash;
    `by_construction` on the card counts those.
    """
    near = int(np.count_nonzero(~repeats(hashes(pixels))))
    whole = len(pixels) if total is None else total
    return {"exact": len(np.unique(content_keys(pixels))), "near": near, "compared": len(pixels),
            "effective": round(near * whole / max(len(pixels), 1)), "bits": BITS}


def overlap(held: Images, train: Images, total: int | None = None) -> dict[str, Any]:
    """How many of the held images are also in `train`: byte for byte, and nearly."""
    exact = np.isin(content_keys(held.pixels), content_keys(train.pixels))
    near = matches(hashes(held.pixels), hashes(train.pixels))
    return {"exact": int(exact.sum()), "near": int(near.sum()), "images": len(held),
            "of": len(held) if total is None else total, "compared_with": len(train)}
