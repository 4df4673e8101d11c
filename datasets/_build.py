"""From a resolved dataset to its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import packing, rows
from datasets._resolve import RESOLVED, open_source
from datasets.controls import apply
from datasets.messages import DatasetError, unknown
from datasets.sources import Source
from datasets.types import SPLITS, Images, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from datasets.types import Split


def build(resolved: Mapping[str, Any], split: Split, path: str | Path | None = None,
          packs: str | Path | None = None) -> Images:
    """The images of a split. Size and controls shape `train`; the other splits are whole.

    resolved: what `resolve` returned; path: where the source's files lie on this machine;
    packs: a folder where the source may lie decoded (`packing`): the bytes are the same, opened in
    milliseconds and left in their file where they are many. The source is then not looked at.
    Raises FileNotFoundError if the files are not there, DatasetError if they cannot satisfy the
    controls.
    """
    if split not in SPLITS:
        raise DatasetError([unknown("split", split, SPLITS)])
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    seed = int(resolved["seed"])
    if packs is not None and (pack := packing.find(Path(packs), resolved, source)):
        chosen = _chosen(pack, source, resolved, split)
        pool = pack.pool(split).at(chosen.index)
        return Images(_packed(pack, source, split, chosen, seed), pool.labels, pool.origin,
                      pack.class_names)
    if problem := source.problem():
        raise FileNotFoundError(problem)
    chosen = _chosen(source, source, resolved, split)
    pool = source.pool(split).at(chosen.index)
    pixels = source.render(split, chosen.index, chosen.copy, seed)
    return Images(pixels, pool.labels, pool.origin, source.class_names)


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
        return Selection(np.arange(len(pool)), np.zeros(len(pool), dtype=np.int64))
    return apply(pool, resolved["controls"], resolved["size"], int(resolved["seed"]),
                 names=listed.names(split), folder=source.folder())


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
