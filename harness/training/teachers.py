"""Frozen teachers: what each of them says about a batch, computed only where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.rows import take
from harness.evaluation.features import embed
from harness.training.precision import autocast
from methods.base import Method


class Teachers:
    """The output-layer embeddings of frozen methods.

    With `num_groups` = K groups and K + 1 teachers, teacher 0 sees every image and teacher k + 1
    only those of group k; with K teachers, teacher k those of group k. Its other rows are zero.
    So an image passes 2 networks instead of K + 1. Without groups every teacher sees every image.
    """

    def __init__(self, methods: Sequence[Method], num_groups: int, precision: str,
                 device: str) -> None:
        self._methods = [method.eval().requires_grad_(False) for method in methods]
        self._precision, self._device = precision, device
        shared = len(methods) - num_groups
        self._num_shared = shared if num_groups and shared in (0, 1) else len(methods)
        # what they say of every plain image: one table per shared teacher, one for all experts
        self._known: list[Tensor] = []

    @torch.no_grad()
    def dims(self, size: int) -> tuple[int, ...]:
        """The width of each teacher's output for images of `size` pixels."""
        probe = torch.zeros(2, 3, size, size, device=self._device)
        return tuple(method.embed(probe, "output").shape[1] for method in self._methods)

    def remember(self, pixels: NDArray[np.uint8], size: int, groups: Tensor | None) -> None:
        """Embed the plain view of every image (n, H, W, 3) now; `embed` then answers from that.

        Raises ValueError for experts of different widths, which one table cannot hold.
        """
        says = [partial(embed, partial(method.embed, layer="output"), size=size,
                        device=self._device, precision=self._precision)
                for method in self._methods]
        found = [say(pixels) for say in says[:self._num_shared]]
        if groups is not None and says[self._num_shared:]:
            found.append(_own_expert(says[self._num_shared:], pixels, groups.numpy()))
        self._known = [torch.from_numpy(table).to(self._device) for table in found]

    @torch.no_grad()
    def embed(self, views: Sequence[Tensor], groups: Tensor | None,
              index: Tensor | None = None) -> list[list[Tensor]]:
        """For teacher t and view v: float32 (B, d_t). `groups` is int64 (B,) on the CPU.

        After `remember`, `index` (B,) on the device says which images these are.
        """
        if self._known and index is not None:
            return [[row] * len(views) for row in self._recall(index, groups)]
        with autocast(self._precision, self._device):
            said = [[method.embed(view, "output").float() for view in views]
                    for method in self._methods[:self._num_shared]]
            if groups is None:
                return said
            # sorted on the CPU, where the groups are: no synchronisation with the device
            order = groups.argsort(stable=True)
            experts = self._methods[self._num_shared:]
            sizes = torch.bincount(groups, minlength=len(experts)).tolist()
            rows = [part.to(self._device) for part in order.split(sizes)]
            said += [[_rows_of(method, view, own) for view in views]
                     for method, own in zip(experts, rows, strict=False)]
        return said

    def _recall(self, index: Tensor, groups: Tensor | None) -> list[Tensor]:
        """The remembered row of each image for every teacher, zero for another group's expert."""
        rows = [table[index] for table in self._known]
        if groups is None or len(self._methods) == self._num_shared:
            return rows
        own, groups = rows.pop(), groups.to(index.device)
        experts = range(len(self._methods) - self._num_shared)
        return rows + [own * (groups == k)[:, None] for k in experts]


def _own_expert(experts: Sequence[Callable[[NDArray[np.uint8]], NDArray[np.float32]]],
                pixels: NDArray[np.uint8], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    """What each image's own expert says of it (n, d)."""
    found: NDArray[np.float32] | None = None
    for k, expert in enumerate(experts):
        rows = np.flatnonzero(groups == k)
        if not len(rows):
            continue
        said = expert(take(pixels, rows))
        if found is None:
            found = np.zeros((len(pixels), said.shape[1]), np.float32)
        if said.shape[1] != found.shape[1]:
            raise ValueError(f"teacher_view=centre needs experts of one width, not "
                             f"{found.shape[1]} and {said.shape[1]}: give them one output_dim")
        found[rows] = said
    assert found is not None  # every image has a group
    return found


def _rows_of(method: Method, view: Tensor, rows: Tensor) -> Tensor:
    """The embeddings of the given rows of `view`, zeros elsewhere."""
    if not len(rows):
        width = method.embed(view[:1], "output").shape[1]
        return torch.zeros(len(view), width, device=view.device)
    own = method.embed(view[rows].contiguous(memory_format=torch.channels_last), "output").float()
    return own.new_zeros(len(view), own.shape[1]).index_copy_(0, rows, own)
