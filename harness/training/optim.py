"""Optimisers: SGD, Adam, AdamW from torch, and LARS in its two published orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

OPTIMIZERS = ("sgd", "lars", "lars_simclr", "adam", "adamw")
LARS_ORDERS = ("byol", "simclr")


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888).

    With g + weight_decay * p as the gradient and trust = eta |p| / |g| (1 if either norm is 0):

    * order "byol": m <- momentum m + trust g;       p <- p - lr m
      (deepmind-research/byol/utils/optimizers.py)
    * order "simclr": m <- momentum m + lr trust g;  p <- p - m
      (google-research/simclr/lars_optimizer.py, classic momentum; FNC uses the same file)

    They differ whenever lr changes. A group with `adapt=False` has trust = 1.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9,
                 weight_decay: float = 0.0, eta: float = 1e-3, order: str = "byol") -> None:
        if order not in LARS_ORDERS:
            raise ValueError(f"LARS order '{order}': choose one of {', '.join(LARS_ORDERS)}")
        self.order = order
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta,
                    "adapt": True}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None:
        """One update."""

    @overload
    def step(self, closure: Callable[[], float]) -> float:
        """Not offered: fails."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        assert closure is None, "the loop computes the loss itself"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return None

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        if group["adapt"]:
            grads = list(torch._foreach_mul(grads, _trust(params, grads, group["eta"])))
        inside = group["lr"] if self.order == "simclr" else 1.0
        outside = 1.0 if self.order == "simclr" else group["lr"]
        momenta = [self._momentum(p) for p in params]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, grads, alpha=inside)
        torch._foreach_add_(params, momenta, alpha=-outside)

    def _momentum(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _trust(params: list[Tensor], grads: list[Tensor], eta: float) -> list[Tensor]:
    """eta |p| / |g| of each tensor, 1 where a norm is 0; stays on the device (no sync)."""
    p = torch.stack(list(torch._foreach_norm(params)))
    g = torch.stack(list(torch._foreach_norm(grads)))
    return list(torch.where((p > 0) & (g > 0), eta * p / g, torch.ones_like(p)).unbind())


def parameter_groups(module: nn.Module, weight_decay: float, *, decay_all: bool = False,
                     fixed: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, then vectors and scalars.

    Biases and normalisation parameters are the tensors of fewer than two dimensions: they get
    neither weight decay nor LARS adaptation, as in the official BYOL and SimCLR code.
    decay_all: they are decayed too, as in the released MoCo, CLD and SimSiam.
    fixed: children with two groups of their own, last, which `set_lr` leaves alone.
    """
    held = {id(p) for name in fixed for p in module.get_submodule(name).parameters()}
    groups: list[dict[str, Any]] = []
    for own in (False, True):
        params = [p for p in module.parameters() if p.requires_grad and (id(p) in held) is own]
        matrices = [p for p in params if p.ndim > 1]
        vectors = [p for p in params if p.ndim <= 1]
        said = {"fixed": True} if own else {}
        if matrices:
            groups.append({"params": matrices, "weight_decay": weight_decay, "adapt": True, **said})
        if vectors:
            groups.append({"params": vectors, "weight_decay": weight_decay if decay_all else 0.0,
                           "adapt": False, **said})
    return groups


def build_optimizer(module: nn.Module, name: str, *, lr: float, momentum: float = 0.9,
                    weight_decay: float = 0.0, nesterov: bool = False, decay_all: bool = False,
                    fixed: Iterable[str] = ()) -> Optimizer:
    """The optimiser `name` over `parameter_groups(module)`; Adam's beta1 is `momentum`.

    nesterov: for "sgd" only; decay_all, fixed: see `parameter_groups`.

    "lars" is BYOL's order, "lars_simclr" SimCLR's. Raises ValueError for an unknown name, naming
    the valid ones.
    """
    groups = parameter_groups(module, weight_decay, decay_all=decay_all, fixed=fixed)
    if name in ("lars", "lars_simclr"):
        return LARS(groups, lr, momentum, order="byol" if name == "lars" else "simclr")
    for group in groups:
        del group["adapt"]
    # fused: one kernel per group instead of four per tensor
    if name == "sgd":
        return _with_buffers(torch.optim.SGD(
            groups, lr, momentum, nesterov=nesterov, fused=True), momentum)
    if name == "adam":
        return torch.optim.Adam(groups, lr, (momentum, 0.999), fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr, (momentum, 0.999), fused=True)
    raise ValueError(f"unknown optimizer '{name}': choose one of {', '.join(OPTIMIZERS)}")


def _with_buffers(optimizer: Optimizer, momentum: float) -> Optimizer:
    """Give every parameter its momentum buffer at the start: zeros, which change no byte.

    The fused kernel refuses a group in which some have one and some not, as when SwAV's prototypes
    have no gradient for the first steps.
    """
    if momentum:
        for group in optimizer.param_groups:
            for param in group["params"]:
                optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)
    return optimizer


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` from the next step on, in every group whose rate is not fixed."""
    for group in optimizer.param_groups:
        if not group.get("fixed"):
            group["lr"] = lr
