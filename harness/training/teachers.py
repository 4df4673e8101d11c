"""Frozen teachers: what each of them says about a batch, computed only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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

    @torch.no_grad()
    def dims(self, size: int) -> tuple[int, ...]:
        """The width of each teacher's output for images of `size` pixels."""
        probe = torch.zeros(2, 3, size, size, device=self._device)
        return tuple(method.embed(probe, "output").shape[1] for method in self._methods)

    @torch.no_grad()
    def embed(self, views: Sequence[Tensor], groups: Tensor | None) -> list[list[Tensor]]:
        """For teacher t and view v: float32 (B, d_t). `groups` is int64 (B,) on the CPU."""
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


def _rows_of(method: Method, view: Tensor, rows: Tensor) -> Tensor:
    """The embeddings of the given rows of `view`, zeros elsewhere."""
    if not len(rows):
        width = method.embed(view[:1], "output").shape[1]
        return torch.zeros(len(view), width, device=view.device)
    own = method.embed(view[rows].contiguous(memory_format=torch.channels_last), "output").float()
    return own.new_zeros(len(view), own.shape[1]).index_copy_(0, rows, own)
