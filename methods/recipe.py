"""Recipes: what a method asks to be run, as an expression over stages. No torch here.

Most methods are one pre-training run and need no recipe. A method of several runs is a function
from a budget to a `Pretrain` whose inputs are other runs; the planner turns the expression into
stages, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cluster:
    """A division of the pre-training images into k groups.

    `by="features"` clusters the embeddings of `base` at `layer`; `by="random"` deals the images
    into k groups of equal size and looks at no feature (the control of DnC, Table 10).
    """

    base: Pretrain
    k: int
    layer: str
    by: str = "features"


@dataclass(frozen=True)
class Pretrain:
    """One pre-training run.

    `epochs` are passes over the images of this run: an expert of group i with n epochs makes n
    passes over that group, so the experts of one division together see n times all images.
    `subset` is (division, i) for a run on group i only; `teachers` are finished runs whose
    embeddings the loss receives; `groups` is the division whose numbers the loss receives.
    `replica` tells runs apart that differ in nothing but their random numbers.
    `teacher_view` is what the teachers see: "same", the student's views, or "centre", the plain
    view of each image, once for the whole run.
    """

    method: str
    epochs: float
    options: Mapping[str, Any] = field(default_factory=dict)
    subset: tuple[Cluster, int] | None = None
    teachers: tuple[Pretrain, ...] = ()
    groups: Cluster | None = None
    replica: int = 0
    teacher_view: str = "same"


Recipe = Callable[[float, Mapping[str, Any]], Pretrain]


def recipe(
    name: str, *, config: type | None = None, paper: str = "", revision: int = 1
) -> Callable[[Recipe], Recipe]:
    """Register a function `(epochs, options) -> Pretrain` as a row that a grid can name.

    `epochs` is the whole budget of the row in passes over all images; `options` is the resolved
    mapping of `config`'s fields. The module that holds it must not import torch at top level.
    """

    def mark(function: Recipe) -> Recipe:
        function.recipe_name = name  # type: ignore[attr-defined]  # read back by registry.load
        return function

    return mark
