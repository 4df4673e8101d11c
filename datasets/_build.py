"""From a resolved dataset to its images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasets import packing, rows
from datasets._compose import halves, joined
from datasets._resolve import RESOLVED, foreign, known, open_source
from datasets.controls import apply
from datasets.messages import DatasetError, unknown
from datasets.photographs import Photographs
from datasets.sources import Source
from datasets.sources.files import Files
from datasets.sources.shards import Streamed
from datasets.types import SPLITS, Images, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from datasets.types import Split


def build(resolved: Mapping[str, Any], split: Split, path: str | Path | None = None,
          packs: str | Path | None = None, *,
          foreign_path: str | Path | None = None) -> Images:
    """The images of a split. Size and controls shape `train`; the other splits are whole.

    resolved: what `resolve` returned; path: where the source's files lie on this machine;
    packs: a folder where the source may lie decoded (`packing`): the bytes are the same, opened in
    milliseconds and left in their file where they are many. The source is then not looked at.
    foreign_path: where the files of a mixture's other source lie; its images come last. The pixels
    of a source that is `huge` are a `streams.Stream`, which stays in its shards.
    Raises FileNotFoundError if the files are not there, DatasetError if they cannot satisfy the
    controls.
    """
    if split not in SPLITS:
        raise DatasetError([unknown("split", split, SPLITS)])
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    if isinstance(source, Streamed):
        if problem := source.problem():
            raise FileNotFoundError(problem)
        return source.stream(split, resolved["size"] if split == "train" else None)
    opened = _open(resolved, source, packs)
    chosen = _chosen(opened, source, resolved, split)
    return _made(opened, source, resolved, split, chosen, packs, foreign_path)


class Sample(NamedTuple):
    """Some images of a split, and of all of them: how many, how many distinct, labels (-1 none)."""

    images: Images
    chosen: Selection
    total: int
    distinct: int
    labels: NDArray[np.int64]


def sample(resolved: Mapping[str, Any], split: Split, limit: int, path: str | Path | None = None,
           packs: str | Path | None = None, *,
           foreign_path: str | Path | None = None) -> Sample:
    """At most `limit` images of what `build` returns, a fixed random choice in the same order.

    Decodes no others. Raises as `build`; a source that is `huge` cannot be sampled.
    """
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    opened = _open(resolved, source, packs)
    every = _chosen(opened, source, resolved, split)
    pool = opened.pool(split)
    own = every.index[every.index < len(pool)]
    labels = np.full(len(every), -1)
    labels[:len(own)] = pool.labels[own]
    at = np.sort(np.random.default_rng(0).permutation(len(every))[:limit])
    chosen = every.at(at)
    images = _made(opened, source, resolved, split, chosen, packs, foreign_path)
    if isinstance(images.pixels, Photographs):  # few enough for memory
        images = replace(images, pixels=images.pixels[:])
    return Sample(images, chosen, len(every), len(np.unique(every.index)), labels)


def _made(opened: Source | packing.Pack, source: Source, resolved: Mapping[str, Any], split: Split,
          chosen: Selection, packs: str | Path | None, foreign_path: str | Path | None) -> Images:
    """The chosen images, with the halves of others and after them those of another source."""
    size = len(opened.pool(split))
    other = foreign(resolved) if split == "train" else None
    if other is None and chosen.partner is None:
        return _images(opened, source, split, chosen, int(resolved["seed"]))
    own = chosen.at(chosen.index < size)
    images = _images(opened, source, split, own, int(resolved["seed"]))
    if own.partner is not None:
        partners = _images(opened, source, split, _plain(np.maximum(own.partner, 0)), 0)
        images = halves(images, partners, own.partner)
    if other is None or len(chosen) == len(own):
        return images
    beside = open_source({key: other[key] for key in RESOLVED}, foreign_path)
    added = _plain(chosen.index[len(own):] - size)
    return joined(images, _images(_open(other, beside, packs), beside, "train", added, 0))


def _open(resolved: Mapping[str, Any], source: Source,
          packs: str | Path | None) -> Source | packing.Pack:
    """The source, or its pack; FileNotFoundError if neither is there."""
    if packs is not None and (pack := packing.find(Path(packs), resolved, source)):
        return pack
    if problem := source.problem():
        raise FileNotFoundError(problem)
    return source


def _images(opened: Source | packing.Pack, source: Source, split: Split, chosen: Selection,
            seed: int) -> Images:
    """The chosen images of one source, each as itself or as a near duplicate."""
    pool = opened.pool(split).at(chosen.index)
    if isinstance(source, Files) and source.whole:
        photographs: Any = source.photographs(split, chosen.index)  # indexed like an array
        return Images(photographs, pool.labels, pool.origin, opened.class_names)
    if isinstance(opened, Source):
        pixels = source.render(split, chosen.index, chosen.copy, seed)
    else:
        pixels = _packed(opened, source, split, chosen, seed)
    return Images(pixels, pool.labels, pool.origin, opened.class_names)


def _plain(index: NDArray[np.int64]) -> Selection:
    return Selection(index, np.zeros_like(index))


def select(resolved: Mapping[str, Any], split: Split,
           path: str | Path | None = None) -> Selection:
    """Positions in the source's pool that `build` decodes, with their copy numbers."""
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    return _chosen(source, source, resolved, split)


def _chosen(listed: Source | packing.Pack, source: Source, resolved: Mapping[str, Any],
            split: Split) -> Selection:
    """The selection from the pool that the source, or its pack, lists."""
    pool = listed.pool(split)
    if split != "train" or (resolved["size"] is None and not resolved["controls"]):
        return _plain(np.arange(len(pool)))
    return apply(pool, resolved["controls"], resolved["size"], int(resolved["seed"]),
                 known(source, listed.names(split) if "index_list" in resolved["controls"]
                       else None, listed.class_names))


def _packed(pack: packing.Pack, source: Source, split: Split, chosen: Selection,
            seed: int) -> NDArray[np.uint8]:
    """The chosen images of a pack; a source that renders copies from more than the image does."""
    pixels = pack.pixels(split)
    if type(source).render is Source.render or not chosen.copy.any():
        return rows.settle(rows.Rows(pixels, chosen.index, chosen.copy, seed))
    out = pixels[chosen.index]
    copies = np.flatnonzero(chosen.copy)
    out[copies] = source.render(split, chosen.index[copies], chosen.copy[copies], seed)
    return out


def prepare(spec: Mapping[str, Any]) -> None:
    """Download what the specification allows to download (`options.download: true`).

    To be called once, before stages run: stages themselves never download.
    """
    open_source(spec).fetch()
    if other := foreign(spec):
        open_source(other).fetch()
