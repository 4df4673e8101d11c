"""What a control is: a pure function from a selection and labels to a selection, with a schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.counts import apportion
from datasets.messages import TooFewImages
from datasets.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

ControlFunction = Callable[..., Selection]
# What `apply` passes by itself: the rest of a signature is what users write.
WANTS = ("ids", "names", "folder", "origin", "class_names", "coarse_names")
# and what `resolve` finds out about the other source of a mixture
FOUND = ("foreign", "content")
RESERVED = ("selection", "labels", "total", "seed", *WANTS, *FOUND)


@dataclass(frozen=True)
class Control:
    """A registered control; `parameters` is read from the function's own signature."""

    name: str
    function: ControlFunction
    revision: int
    parameters: dict[str, inspect.Parameter]
    wants: tuple[str, ...]  # of WANTS: what else it is given
    summary: str
    neutral: Mapping[str, Any]  # at these values it changes nothing

    def idle(self, values: Mapping[str, Any]) -> bool:
        """Whether the control with these values leaves every selection as it is."""
        return bool(self.neutral) and all(values.get(k) == v for k, v in self.neutral.items())


CONTROLS: dict[str, Control] = {}


def control(name: str, revision: int = 1, neutral: Mapping[str, Any] | None = None,
            ) -> Callable[[ControlFunction], ControlFunction]:
    """Function decorator: registers a control; bump `revision` when its result changes.

    neutral: the values at which it changes nothing, whatever the selection; a data set with it is
    then the one without it, and is pre-trained on once.
    """

    def add(function: ControlFunction) -> ControlFunction:
        if name in CONTROLS:
            raise ValueError(f"control '{name}' is defined twice: "
                             f"{CONTROLS[name].function.__module__} and {function.__module__}")
        signature = inspect.signature(function).parameters
        parameters = {key: value for key, value in signature.items() if key not in RESERVED}
        summary = (function.__doc__ or "").partition("\n")[0]
        wants = tuple(key for key in WANTS if key in signature)
        CONTROLS[name] = Control(name, function, revision, parameters, wants, summary,
                                 neutral or {})
        return function

    return add


def ranks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each row among the rows of its own class, in order of appearance; int64 (n,)."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    out = np.empty(len(labels), dtype=np.int64)
    out[order] = np.arange(len(labels)) - starts[labels[order]]
    return out


def take(selection: Selection, labels: NDArray[np.int64],
         counts: NDArray[np.int64]) -> Selection:
    """The first counts[c] entries of every class c.

    labels: int64 of the whole pool. Raises TooFewImages for the class that lacks most.
    """
    own = labels[selection.index]
    has = np.bincount(own, minlength=len(counts))
    missing = counts - has[:len(counts)]
    if (missing > 0).any():
        worst = int(np.argmax(missing))
        raise TooFewImages(worst, int(counts[worst]), int(has[worst]), -1)
    return selection.at(ranks(own) < counts[own])


def present(selection: Selection, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes of a selection, ascending; int64 (C,)."""
    return np.unique(labels[selection.index])


def class_order(classes: NDArray[np.int64], order: str, seed: int) -> NDArray[np.int64]:
    """The classes from head to tail: by label, or permuted by the seed."""
    if order not in ("label", "seed"):
        raise ValueError(f"order must be 'label' or 'seed', not {order!r}")
    if order == "label":
        return classes
    return classes[np.random.default_rng([seed, 1]).permutation(len(classes))]


def weighted(selection: Selection, labels: NDArray[np.int64], classes: NDArray[np.int64],
             weights: NDArray[np.float64], total: int) -> Selection:
    """Take `total` images, classes[i] in proportion to weights[i], at least one of each.

    Raises TooFewImages with the number of images by which the total has to shrink.
    """
    width = int(labels.max(initial=0)) + 1
    counts = np.zeros(width, dtype=np.int64)
    counts[classes] = apportion(weights, total)
    try:
        return take(selection, labels, counts)
    except TooFewImages as error:
        has = np.bincount(labels[selection.index], minlength=width)[classes]
        fits = largest_total(weights, has, total)
        raise TooFewImages(error.label, error.needed, error.available, total - fits) from None


def largest_total(weights: NDArray[np.float64], available: NDArray[np.int64], total: int) -> int:
    """The largest total below `total` whose share of every class is available."""
    low, high = len(weights), total
    while high - low > 1:
        middle = (low + high) // 2
        fits = bool((apportion(weights, middle) <= available).all())
        low, high = (middle, high) if fits else (low, middle)
    return low
