"""The card of a dataset: what is in it, how skewed, how repetitive, what the test set shares."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets._build import build, select
from datasets.types import SPLITS, Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 0.995  # correlation of 16x16 grey thumbnails above which two images are near duplicates
THUMB = 16
BLOCK = 2048  # rows compared at a time: a block of similarities is 16 MB
LIMIT = 20_000  # images compared pairwise; more are sampled and the card says so


def card(resolved: Mapping[str, Any], path: str | Path | None = None, *,
         limit: int = LIMIT) -> dict[str, Any]:
    """Everything on the card of a resolved dataset, JSON-able. Builds all three splits."""
    splits = {split: build(resolved, split, path) for split in SPLITS}
    train = splits["train"]
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    return {
        "source": resolved["source"], "fingerprint": resolved["fingerprint"],
        "controls": dict(resolved["controls"]), "seed": resolved["seed"],
        "image_size": int(train.pixels.shape[1]),
        "images": {split: len(images) for split, images in splits.items()},
        "class_counts": dict(zip(train.class_names, counts.tolist(), strict=True)),
        "classes_present": int((counts > 0).sum()),
        "gini": gini(counts), "imbalance": imbalance(counts),
        "origins": len(np.unique(train.origin[train.origin >= 0])),
        "distinct": {"by_construction": len(np.unique(select(resolved, "train", path).index)),
                     **distinct(train.pixels, limit)},
        "overlap": {split: overlap(splits[split], train, limit)
                    for split in ("validation", "test")},
    }


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


def distinct(pixels: NDArray[np.uint8], limit: int = LIMIT) -> dict[str, Any]:
    """How many images are there without exact, and without near, copies of earlier ones.

    `effective` scales the near count of the compared images up to all of them. Windows moved by a
    few pixels do not correlate that highly; `by_construction` on the card counts those.
    """
    keys = content_keys(pixels)
    chosen = _sample(len(pixels), limit)
    thumbs = thumbnails(pixels[chosen])
    near = int(np.count_nonzero(~repeats(thumbs)))
    return {"exact": len(np.unique(keys)), "near": near, "compared": len(chosen),
            "effective": round(near * len(pixels) / max(len(chosen), 1)), "threshold": NEAR}


def overlap(held: Images, train: Images, limit: int = LIMIT) -> dict[str, Any]:
    """How many of the held images are also in `train`: byte for byte, and nearly."""
    known = set(content_keys(train.pixels).tolist())
    exact = sum(key in known for key in content_keys(held.pixels).tolist())
    chosen = _sample(len(train), limit)
    near = matches(thumbnails(held.pixels), thumbnails(train.pixels[chosen]))
    return {"exact": exact, "near": int(near.sum()), "images": len(held),
            "compared_with": len(chosen)}


def content_keys(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """64 bits of BLAKE2b of every image's bytes, int64 (N,)."""
    keys = [hashlib.blake2b(image.tobytes(), digest_size=8).digest()
            for image in pixels]
    return np.frombuffer(b"".join(keys), dtype=np.int64)


def thumbnails(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey 16x16 means with zero mean and unit norm, float32 (N, 256); flat images are all 0.

    The dot product of two rows is the correlation of the two images.
    """
    out = np.empty((len(pixels), THUMB * THUMB), dtype=np.float32)
    rows, columns = (_box(pixels.shape[axis]) for axis in (1, 2))
    for start in range(0, len(pixels), BLOCK):
        gray = pixels[start:start + BLOCK].astype(np.float32).mean(axis=3)
        out[start:start + BLOCK] = (rows @ gray @ columns.T).reshape(-1, THUMB * THUMB)
    out -= out.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    # below 1e-3 of a grey level only rounding is left
    return np.where(norm > 1e-3, out / np.maximum(norm, 1e-3), 0).astype(np.float32)


def _box(side: int) -> NDArray[np.float32]:
    """(16, side): averages `side` pixels into 16 equal parts, sharing pixels at the borders."""
    edges = np.arange(side + 1) * (THUMB / side)
    low, high = edges[:-1][None, :], edges[1:][None, :]
    cell = np.arange(THUMB)[:, None]
    share = np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0, None)
    return share.astype(np.float32)


def matches(held: NDArray[np.float32], known: NDArray[np.float32],
            threshold: float = NEAR) -> NDArray[np.bool_]:
    """Whether each row of `held` correlates above the threshold with a row of `known`; (N,)."""
    found = np.zeros(len(held), dtype=bool)
    for start in range(0, len(held), BLOCK):
        rows = slice(start, start + BLOCK)
        for other in range(0, len(known), BLOCK):
            found[rows] |= (held[rows] @ known[other:other + BLOCK].T > threshold).any(axis=1)
    return found


def repeats(thumbs: NDArray[np.float32], threshold: float = NEAR) -> NDArray[np.bool_]:
    """Whether each row correlates above the threshold with an earlier row; bool (N,)."""
    found = np.zeros(len(thumbs), dtype=bool)
    for start in range(0, len(thumbs), BLOCK):
        rows = thumbs[start:start + BLOCK]
        own = np.tril(rows @ rows.T, k=-1) > threshold
        found[start:start + BLOCK] = own.any(axis=1) | matches(rows, thumbs[:start], threshold)
    return found


def _sample(n: int, limit: int) -> NDArray[np.int64]:
    """All positions, or a fixed random `limit` of them, ascending."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])
