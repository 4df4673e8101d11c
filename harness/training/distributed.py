"""One run on several processes: BatchNorm over all of them, averaged gradients, common decisions.

Each rank runs the same loop on its rows of every batch (see methods/parts/distributed.py). The
gradients are averaged after the backward pass in one flat all_reduce: DistributedDataParallel hooks
`forward`, which `Method.loss` does not go through. Overlapping the reduction with the backward
pass, which pays on GPUs, is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from methods.parts.distributed import gather, rank, total, world

__all__ = ["agree", "average", "convert", "process_group", "rank", "same_start", "shares", "world"]


@contextmanager
def process_group(meeting: str | distributed.Store, place: int, size: int, device: str,
                  timeout: float = 600.0) -> Iterator[None]:
    """Be process `place` of `size` while the block runs: gloo on a CPU, nccl on a GPU.

    meeting: torch's init_method, such as tcp://host:port or file:///shared/file, or a store that
    all have; timeout: seconds after which waiting for another rank raises.
    """
    backend = "nccl" if device == "cuda" else "gloo"
    where: Any = {"init_method": meeting} if isinstance(meeting, str) else {"store": meeting}
    distributed.init_process_group(backend, rank=place, world_size=size,
                                   timeout=timedelta(seconds=timeout), **where)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def shares(batch_size: int) -> None:
    """Raise ValueError where the ranks cannot have equal parts of a batch."""
    if batch_size % world():
        raise ValueError(f"a batch of {batch_size} images cannot be shared by {world()} processes: "
                         f"choose a batch_size, or a number of processes, that divides")


class SyncBatchNorm(_BatchNorm):
    """BatchNorm whose statistics are those of all ranks' rows, also on a CPU.

    Mean and variance of the ranks are gathered in one call; the gradient flows through them.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape and dtype; statistics are float32 at least."""
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x, dims, correction=0)
        moments_W2C = gather(torch.stack([var, mean])[None])
        mean = moments_W2C[:, 1].mean(0)
        var = moments_W2C[:, 0].mean(0) + moments_W2C[:, 1].var(0, correction=0)
        self._track(mean.detach(), var.detach(), x.numel() // x.shape[1] * world())
        scale = (var + self.eps).rsqrt()
        weight = scale if self.weight is None else scale * self.weight
        shape = (1, -1, *(1,) * (x.ndim - 2))
        out = (x - mean.view(shape)) * weight.view(shape)
        return (out if self.bias is None else out + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics as nn.BatchNorm does, the variance unbiased."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / max(count - 1, 1)), share)


def convert(module: nn.Module) -> None:
    """Synchronise every BatchNorm below `module`, in place; nothing with one process.

    Parameters, buffers and names stay. A module with `local_norm = True`, such as the key encoder
    of shuffling BN, keeps statistics of each rank's own rows.
    """
    if world() == 1 or getattr(module, "local_norm", False):
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _synchronised(child))
        else:
            convert(child)


def _synchronised(norm: _BatchNorm) -> _BatchNorm:
    """The same layer, with the same tensors, of the class that the device needs."""
    tensors = [*norm.parameters(), *norm.buffers()]
    cuda = bool(tensors) and tensors[0].is_cuda
    cls: type[_BatchNorm] = nn.SyncBatchNorm if cuda else SyncBatchNorm
    made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters():
        setattr(made, name, parameter)
    for name, buffer in norm.named_buffers():
        setattr(made, name, buffer)
    return made.train(norm.training)


@torch.no_grad()
def average(parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
    """Replace the gradients by their mean over the ranks and return the mean loss ().

    One all_reduce for all of them. A parameter without a gradient must have none on any rank.
    """
    loss = loss.detach()
    if world() == 1:
        return loss
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([loss.view(1), *(grad.flatten() for grad in grads)])
    distributed.all_reduce(flat)
    first, *parts = (flat / world()).split([1, *(grad.numel() for grad in grads)])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view(grad.shape))
    return first[0].to(loss.dtype)


def agree(*flags: bool, device: str) -> tuple[bool, ...]:
    """For each flag, whether any rank raises it: all ranks then do the same."""
    if world() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    return tuple(bool(count) for count in total(raised).tolist())


@torch.no_grad()
def same_start(module: nn.Module, step: int, device: str) -> None:
    """Give every rank the first one's parameters and buffers.

    Raises ValueError where the ranks are to start from different steps.
    """
    if world() == 1:
        return
    steps = gather(torch.tensor([step], device=device)).tolist()
    if len(set(steps)) > 1:
        raise ValueError(f"the processes found checkpoints of steps {steps}: put the checkpoint "
                         "folder where all of them see the same files")
    for tensor in [*module.parameters(), *module.buffers()]:
        first = tensor.contiguous()
        distributed.broadcast(first, 0)
        tensor.copy_(first)
