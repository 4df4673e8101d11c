"""The rows of all processes: what a loss needs to see the whole batch when each rank holds a part.

A batch of N images lies on W ranks in rank order, n = N / W on each. The objective is the mean over
the ranks of what each returns as its loss, so the loop averages the ranks' gradients; here a rank
receives the gradients that all ranks' losses send to its rows. With one process all is a no-op.

Random numbers: every rank draws for the whole batch from its global generator, which all ranks seed
alike, and takes its own rows, so that the ranks' generators stay equal to a single process's.

Shapes: n images of the rank, N of all ranks, V views, D width. Rows v n + i are view v of image i.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed


def world() -> int:
    """Return the number of processes that share the batch; 1 without a process group."""
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def rank() -> int:
    """Return this process's place among them, 0 without a process group."""
    return distributed.get_rank() if world() > 1 else 0


def deal(option: str, parts: int, batch_size: int) -> None:
    """Raise ValueError where several processes cannot have equal shares of a batch's parts."""
    if parts > 1 and world() > 1 and (parts % world() or batch_size % parts):
        raise ValueError(
            f"option '{option}' {parts} over {world()} processes: choose a multiple of {world()}"
            f" that divides the batch of {batch_size}"
        )


def gather(x: Tensor, views: int = 1) -> Tensor:
    """Return all ranks' rows (V N, ...) of x (V n, ...), view by view; differentiable.

    The gradient of a rank's rows is the sum over the ranks of what their losses send there.
    """
    if world() == 1:
        return x
    if views == 1:
        return cast(Tensor, _Gather.apply(x))
    by_image = x.unflatten(0, (views, -1)).transpose(0, 1)
    return cast(Tensor, _Gather.apply(by_image)).transpose(0, 1).flatten(0, 1)


def total(x: Tensor) -> Tensor:
    """Return the sum over the ranks of x, whose gradient is the sum of the ranks' gradients."""
    return x if world() == 1 else cast(Tensor, _Total.apply(x))


def mine(x: Tensor, dim: int = 0) -> Tensor:
    """Return this rank's n of all ranks' N entries along a dimension, a view."""
    if world() == 1:
        return x
    number = x.shape[dim] // world()
    return x.narrow(dim, rank() * number, number)


def rank_rows(number: int, views: int = 1, device: torch.device | None = None) -> Tensor:
    """Return where this rank's V n rows are among the V N gathered ones, int64 (V n,)."""
    rows_VN = torch.arange(views * number * world(), device=device).view(views, -1)
    return mine(rows_VN, dim=1).flatten()


def shuffle(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many rows (n, ...) drawn from all ranks', and the order (N,) for `unshuffle`.

    Every rank draws, as a single process would; the first one's order is used by all.
    Source: MoCo, arXiv 1911.05722, section 3.3.
    """
    order_N = torch.randperm(len(x) * world(), device=x.device)
    if world() > 1:
        distributed.broadcast(order_N, 0)
    return gather(x)[mine(order_N)], order_N


def unshuffle(x: Tensor, order_N: Tensor) -> Tensor:
    """Return this rank's rows (n, ...) in their own order."""
    return gather(x)[mine(order_N.argsort())]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # all_reduce and not reduce_scatter, which gloo lacks; embeddings are small
        return mine(_summed(grad))


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(x)
    return x
