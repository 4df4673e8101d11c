"""Splits as types: choosing anything takes a `ValidationSplit`, and test labels are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from datasets.types import SPLITS, Split
from harness.evaluation.features import file_of
from harness.lazy import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

T = TypeVar("T")
BLOCK = 65536  # rows that are looked at together


@dataclass(frozen=True)
class Labelled:
    """Features float32 (n, d) and labels int64 (n,), on one device.

    For an evaluation that takes the encoder, `features` are its images, uint8 (n, H, W, 3). Of a
    data set whose images have several classes, labels are (n, C): 1 has, -1 has not, 0 not judged.
    """

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
    metric: str = "top1"

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", layer: str = "pooled",
             metric: str = "top1") -> Features:
        """Read a layer of a features artifact; on the CPU it stays in its files, mapped.

        Raises ValueError naming the split for values that are not finite, for a split without
        images or labels, and for a class without training or test images; and for a layer that the
        encoder does not have.
        """
        splits = {name: _read(folder, name, layer) for name in SPLITS}
        return cls.of({name: (found.to(device), labels.to(device))
                       for name, (found, labels) in splits.items()}, metric)

    @classmethod
    def of(cls, splits: Mapping[Split, tuple[Tensor, Tensor]], metric: str = "top1") -> Features:
        """The three splits of features (or images) and labels.

        Raises ValueError naming the split that has no images, or lacks labels or a class.
        """
        for name, (found, labels) in splits.items():
            _require_labels(len(found), labels, name)
        num_classes = _count(splits)
        for name in ("train", "test"):
            require_every_class(splits[name][1], num_classes, name)
        return cls(TrainSplit(*splits["train"]), ValidationSplit(*splits["validation"]),
                   TestSplit(*splits["test"]), num_classes, metric)


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


def as_tensor(array: NDArray[Any]) -> Tensor:
    """`array` as a tensor without a copy; one that is mapped read-only is mapped once more."""
    if isinstance(array, np.memmap) and not array.flags.writeable and array.filename:
        array = np.memmap(array.filename, array.dtype, "c", array.offset, array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _read(folder: Path, name: str, layer: str) -> tuple[Tensor, Tensor]:
    """Features, mapped copy-on-write since torch refuses read-only memory, and labels."""
    path = folder / file_of(name, layer)
    if not path.exists():
        there = sorted(found.stem.removeprefix("test_") for found in folder.glob("test_*.npy"))
        there.remove("labels")
        raise ValueError(f"the encoder has no layer '{layer}': use "
                         f"layer={' or '.join(['pooled', *there])}")
    features = torch.from_numpy(np.load(path, mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / f"{name}_labels.npy"))
    bad = sum(int((~torch.isfinite(block)).any(1).sum()) for block in features.split(BLOCK))
    if bad:
        raise ValueError(f"split '{name}': the features of {bad} of {len(features)} images are not "
                         "finite: the encoder has diverged; lower its lr or use precision=fp32")
    return features, labels


def _require_labels(images: int, labels: Tensor, name: str) -> None:
    if not len(labels) or images != len(labels):
        raise ValueError(f"split '{name}' has {images} images and {len(labels)} labels: "
                         "extract the features again")
    if labels.ndim == 1 and labels.min() < 0:
        raise ValueError(f"split '{name}' has images without a label: evaluate on labelled images")


def _count(splits: Mapping[Split, tuple[Tensor, Tensor]]) -> int:
    """The number of classes. Raises ValueError for less than 2."""
    found = [labels for _, labels in splits.values()]
    several = found[0].ndim == 2
    count = found[0].shape[1] if several else 1 + max(int(labels.max()) for labels in found)
    if count < 2:
        raise ValueError("the labelled images have one class: an evaluation needs 2")
    return count


def require_every_class(labels: Tensor, num_classes: int, name: str) -> None:
    """Raise ValueError, naming the split and the class, unless every class has an image."""
    sizes = ((labels == 1).sum(0) if labels.ndim == 2
             else torch.bincount(labels, minlength=num_classes))
    empty = (sizes == 0).nonzero()
    if len(empty):
        raise ValueError(f"split '{name}' has no image of class {int(empty[0])} ({len(empty)} of "
                         f"{num_classes} classes are empty): use more images")
