"""Purity: what share of the images comes from one coarse class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets import lists
from datasets.controls.base import control, present, weighted
from datasets.messages import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("purity")
def purity(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
           share: float, coarse: str = "", file: str = "", class_names: Sequence[str] = (),
           coarse_names: Sequence[str] | None = None, folder: Path | None = None) -> Selection:
    """Take `total` images, a share of them from one coarse class, evenly from its classes.

    The rest comes evenly from all other classes. coarse: its name, '' draws it by the seed. file:
    JSON of {class: coarse class}, for instance of an ImageNet wnid and its ancestor, relative to
    data.path or $CURATION_GAP_LISTS; without it the source's own (CIFAR-100's superclasses).
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    names = _coarse(file, class_names, coarse_names, folder)
    there = present(selection, labels)
    options = sorted({names[label] for label in there})
    if coarse and coarse not in options:
        raise ValueError(unknown("coarse class", coarse, options))
    rng = np.random.default_rng([seed, 5])
    focus = coarse or options[int(rng.integers(len(options)))]
    inside = np.array([names[label] == focus for label in there])
    if inside.all():
        raise ValueError(f"all classes are of the coarse class '{focus}': choose a finer one")
    weights = np.where(inside, share / inside.sum(), (1 - share) / (~inside).sum())
    kept = weights > 0
    return weighted(selection, labels, there[kept], weights[kept], total)


def _coarse(file: str, class_names: Sequence[str], coarse_names: Sequence[str] | None,
            folder: Path | None) -> list[str]:
    """The coarse class of each class."""
    if not file:
        if coarse_names is None:
            raise ValueError("this source has no coarse classes: set controls.purity.file to a "
                             "JSON file of {class: coarse class}")
        return list(coarse_names)
    mapping = lists.mapping(lists.find(file, folder))
    lacking = [name for name in class_names if name not in mapping]
    if lacking:
        raise ValueError(f"{file} has no coarse class for {len(lacking)} of {len(class_names)} "
                         f"classes (first: {lacking[0]})")
    return [mapping[name] for name in class_names]
