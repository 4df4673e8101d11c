"""From a resolved dataset to its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets._resolve import open_source
from datasets.controls import apply
from datasets.messages import DatasetError, unknown
from datasets.types import SPLITS, Images, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets.types import Split

RESOLVED = ("source", "image_size", "size", "seed", "controls", "options")


def build(resolved: Mapping[str, Any], split: Split, path: str | Path | None = None) -> Images:
    """The images of a split. Size and controls shape `train`; the other splits are whole.

    resolved: what `resolve` returned; path: where the source's files lie on this machine.
    Raises FileNotFoundError if they do not, DatasetError if they cannot satisfy the controls.
    """
    if split not in SPLITS:
        raise DatasetError([unknown("split", split, SPLITS)])
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    if problem := source.problem():
        raise FileNotFoundError(problem)
    selection = select(resolved, split, path)
    pool = source.pool(split).at(selection.index)
    pixels = source.render(split, selection.index, selection.copy, int(resolved["seed"]))
    return Images(pixels, pool.labels, pool.origin, source.class_names)


def select(resolved: Mapping[str, Any], split: Split,
           path: str | Path | None = None) -> Selection:
    """Positions in the source's pool that `build` decodes, with their copy numbers."""
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    pool = source.pool(split)
    if split != "train" or (resolved["size"] is None and not resolved["controls"]):
        return Selection(np.arange(len(pool)), np.zeros(len(pool), dtype=np.int64))
    return apply(pool, resolved["controls"], resolved["size"], int(resolved["seed"]),
                 names=source.names(split), folder=source.folder())


def prepare(spec: Mapping[str, Any]) -> None:
    """Download what the specification allows to download (`options.download: true`).

    To be called once, before stages run: stages themselves never download.
    """
    open_source(spec).fetch()
