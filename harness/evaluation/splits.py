"""Splits as types: choosing anything takes a `ValidationSplit`, and test labels are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from harness.lazy import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Labelled:
    """Features float32 (n, d) and labels int64 (n,), on one device."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class TrainSplit(Labelled):
    """What a classifier is fitted to."""


class ValidationSplit(Labelled):
    """What settings are chosen on."""


class TestSplit:
    """What is reported. Its labels can be read once, after everything is chosen."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features = features
        self._labels: Tensor | None = labels

    def __len__(self) -> int:
        return len(self.features)

    def read_labels(self) -> Tensor:
        """The labels, int64 (n,). Raises RuntimeError the second time."""
        if self._labels is None:
            raise RuntimeError("the test labels were read already: an evaluation measures its test "
                               "accuracy once; choose on the validation split")
        labels, self._labels = self._labels, None
        return labels


@dataclass(frozen=True)
class Features:
    """The three splits of one feature extraction."""

    train: TrainSplit
    validation: ValidationSplit
    test: TestSplit
    num_classes: int

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Features:
        """Read a features artifact.

        Raises ValueError naming the split for values that are not finite, for a split without
        images or labels, and for a class without training or test images.
        """
        arrays = {name: _read(folder, name) for name in ("train", "validation", "test")}
        num_classes = 1 + max(int(labels.max()) for _, labels in arrays.values())
        if num_classes < 2:
            raise ValueError("the labelled images have one class: an evaluation needs 2")
        for name in ("train", "test"):
            _require_every_class(arrays[name][1], num_classes, name)
        tensors = {name: (torch.from_numpy(found).to(device), torch.from_numpy(labels).to(device))
                   for name, (found, labels) in arrays.items()}
        return cls(TrainSplit(*tensors["train"]), ValidationSplit(*tensors["validation"]),
                   TestSplit(*tensors["test"]), num_classes)


def best(candidates: Iterable[T], score: Callable[[T, ValidationSplit], float],
         validation: ValidationSplit) -> tuple[T, float]:
    """The candidate with the highest validation score (the first of equals), and the score.

    Raises TypeError for any other split: what is chosen on the test set is not measured by it.
    """
    require_validation(validation)
    scored = [(candidate, score(candidate, validation)) for candidate in candidates]
    if not scored:
        raise ValueError("nothing to choose from: give at least one candidate")
    return max(scored, key=lambda pair: pair[1])


def require_validation(split: ValidationSplit) -> None:
    """Raise TypeError unless `split` is a ValidationSplit."""
    if not isinstance(split, ValidationSplit):
        raise TypeError(f"selection takes a ValidationSplit, got {type(split).__name__}")


def _read(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    features = np.load(folder / f"{name}.npy")
    labels = np.load(folder / f"{name}_labels.npy")
    if not len(labels) or len(features) != len(labels):
        raise ValueError(f"split '{name}' has {len(features)} images and {len(labels)} labels: "
                         "extract the features again")
    if labels.min() < 0:
        raise ValueError(f"split '{name}' has images without a label: evaluate on labelled images")
    bad = int((~np.isfinite(features)).any(1).sum())
    if bad:
        raise ValueError(f"split '{name}': the features of {bad} of {len(features)} images are not "
                         "finite: the encoder has diverged; lower its lr or use precision=fp32")
    return features, labels


def _require_every_class(labels: NDArray[np.int64], num_classes: int, name: str) -> None:
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        raise ValueError(f"split '{name}' has no image of class {empty[0]} ({len(empty)} of "
                         f"{num_classes} classes are empty): use more images")
