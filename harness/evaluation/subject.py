"""What an evaluation that takes the encoder itself is given. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.splits import Features

if TYPE_CHECKING:
    from torch import nn

    from harness.execute import Context


@dataclass(frozen=True)
class Subject:
    """An encoder under evaluation, the data set and the place where it is done.

    network(layer): a fresh copy of the trained network up to "pooled", "hidden" or "output", on
    the device, (B, 3, H, W) -> (B, d), in evaluation mode, all of its parameters trainable;
    its attribute `encoder` is the backbone alone, `feature_dim` is d.
    splits(): the labelled images as splits whose `features` are uint8 (n, H, W, 3) on the CPU; the
    labels of the test split can be read once.
    data: the resolved specification of the data set; metric: the data set's own; seed: the cell's;
    layer: where the classifier is put; key: the stage's, for checkpoints; work: the
    folder of the artifact, for files beside metrics.
    """

    network: Callable[[str], nn.Module]
    splits: Callable[[], Features]
    data: Mapping[str, Any]
    metric: str
    layer: str
    seed: int
    precision: str
    key: str
    work: Path
    context: Context

    @property
    def size(self) -> int:
        """The side of the images that the network sees."""
        return int(self.data["image_size"])

    @property
    def device(self) -> str:
        """Where it is done."""
        return self.context.device

    @property
    def folder(self) -> str | None:
        """Where the files of the data set lie on this machine."""
        return self.context.path_of(self.data)
