"""The interface between a method and everything else: what it is given and what it returns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.limits import Rules, broken
from methods.parts.distributed import world

LAYERS = ("pooled", "hidden", "output")


@dataclass(frozen=True)
class Info:
    """What a method may know about the run when it is built.

    `num_images` counts the pre-training set, `batch_size` is the global one, `total_steps` counts
    optimiser steps, `teacher_dims` are the widths of the teachers' outputs.
    """

    num_images: int
    num_classes: int
    batch_size: int
    total_steps: int
    feature_dim: int
    num_groups: int = 0
    teacher_dims: tuple[int, ...] = ()


@dataclass
class Batch:
    """One batch.

    views: one tensor (B, 3, H, W) float for each view of the method;
    index: (B,) int64, the images' positions in the pre-training set;
    progress: step / total_steps of the step that this batch makes, in [0, 1);
    labels: (B,) int64, only for a method with `needs_labels`;
    groups: (B,) int64, only where the recipe has groups;
    teachers: for teacher t and view v the (B, d) raw outputs in evaluation mode, without gradient.
    """

    views: list[Tensor]
    index: Tensor
    progress: float = 0.0
    labels: Tensor | None = None
    groups: Tensor | None = None
    teachers: list[list[Tensor]] = field(default_factory=list)


class Method(nn.Module):
    """A self-supervised objective around a backbone (B, 3, H, W) -> (B, feature_dim).

    Class attributes say what the method is; they must be literals, since planning reads them
    without importing the module.

    paper: title and arXiv id.
    views: augmentation recipe of each view, by name or as fields. A method whose number of views
        depends on an option sets `self.views` in `__init__`; the loop reads the instance.
    revision: raised by hand when the meaning of the method changes; it is part of every key.
    keeps: the state beside the networks, out of "ema", "queue", "bank", "memory".
    refuses, warns: limits between options and the batch, see methods/limits.py.
    couples: what of the loss depends on which images are in one forward pass, BatchNorm aside:
        "negatives of the batch"; "" for a loss that is a mean over images.
    dealt: options that, above 1, are dealt to the processes: they must divide by their number.
    fixed_rate: children whose learning rate stays at its peak; where that depends on an option, it
        is set in `__init__`, as `views` are.
    trainable: False for a reference that is evaluated as it is; its `loss` is never called.
    layers: those of `embed` that it has, so that no other is planned; () for all of them, or, of
        a reference that is not trained, for "pooled" alone.

    Everything that training changes is a parameter or a buffer, so `state_dict()` is the whole
    state. Random numbers come from torch's global generator only. Where several processes share a
    batch each gets its own images: what compares images gathers them, and what draws draws for all
    of them (`methods/parts/distributed.py`).

    Where a batch does not fit, `loss` is called on several parts of it before `after_step`: a queue
    or bank that moves after the step then gets the rows of all parts, in their order, and an
    average moves once. What moves inside `loss` moves with each part.
    """

    paper: str = ""
    views: tuple[str | Mapping[str, Any], ...] = ()
    revision: int = 1
    keeps: tuple[str, ...] = ()
    couples: str = ""
    dealt: tuple[str, ...] = ()
    fixed_rate: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    needs_labels: bool = False
    needs_teachers: bool = False
    trainable: bool = True
    refuses: Rules = ()
    warns: Rules = ()

    @dataclass(frozen=True)
    class Config:
        """The method's options; none by default."""

    def __init__(self, backbone: nn.Module, info: Info, config: Any) -> None:
        """Keep the backbone and the settings; a subclass adds its heads and its state.

        Raises ValueError for settings that the method refuses; warns of those it warns of.
        """
        super().__init__()
        given = vars(config) if config is not None else {}
        for line in broken(self.refuses, given, info.batch_size, world()):
            raise ValueError(line)
        for line in broken(self.warns, given, info.batch_size, world()):
            warnings.warn(line, stacklevel=2)
        self.backbone = backbone
        self.info = info
        self.config = config

    def loss(self, batch: Batch) -> Tensor | dict[str, Tensor]:
        """Return the scalar to minimise, or named parts whose sum it is."""
        raise ValueError(f"method '{type(self).__name__}' is a reference and is not trained")

    def after_step(self, progress: float) -> None:
        """Update what the gradient does not; called after each optimiser step.

        `progress` is that of the step just made: step / total_steps, in [0, 1).
        """

    @property
    def encoder(self) -> nn.Module:
        """The module that is evaluated: (B, 3, H, W) -> (B, d)."""
        return self.backbone

    def embed(self, x: Tensor, layer: str) -> Tensor:
        """Return embeddings of images (B, 3, H, W) at a layer, in the mode the module is in.

        "pooled" is the encoder's output, "hidden" the projection head's first hidden layer after
        its ReLU, "output" the head's output as the loss sees it before normalisation.
        """
        return self.lift(self.encoder(x), layer)

    def lift(self, pooled: Tensor, layer: str) -> Tensor:
        """Return what the head makes of the encoder's output (B, d) at a layer, see `embed`."""
        if layer not in LAYERS:
            raise ValueError(f"unknown layer '{layer}'. Available: {', '.join(LAYERS)}")
        head = getattr(self, "projector", None)
        if layer == "pooled":
            return pooled
        if head is None or (layer == "hidden" and not hasattr(head, "hidden")):
            raise ValueError(f"{type(self).__name__} has no layer '{layer}'; use layer='pooled'")
        return torch.as_tensor(head.hidden(pooled) if layer == "hidden" else head(pooled))
