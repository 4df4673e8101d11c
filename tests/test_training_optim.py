"""LARS against the official optimisers, and which parameters decay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.training.optim import LARS, OPTIMIZERS, build_optimizer, parameter_groups, set_lr

GOLDEN = Path(__file__).parent / "golden"
Excluded = Callable[[str], bool]


def _replay(golden: Any, separator: str, excluded: Excluded, lr: float, weight_decay: float,
            order: str) -> float:
    """Run three golden steps; return the largest difference to the official parameters."""
    names = [key.split(separator, 1)[1] for key in golden.files if key.startswith(f"p0{separator}")]
    assert len(names) >= 3
    params = {name: nn.Parameter(torch.from_numpy(golden[f"p0{separator}{name}"]))
              for name in names}
    plain = [params[name] for name in names if excluded(name)]
    adapted = [params[name] for name in names if not excluded(name)]
    assert plain and adapted
    optimizer = LARS([{"params": adapted, "weight_decay": weight_decay},
                      {"params": plain, "adapt": False}], lr, 0.9, order=order)
    worst = 0.0
    for step in range(3):
        for name in names:
            params[name].grad = torch.from_numpy(golden[f"g{step}{separator}{name}"])
        optimizer.step()
        for name in names:
            expected = torch.from_numpy(golden[f"p{step + 1}{separator}{name}"])
            worst = max(worst, float((params[name].detach() - expected).abs().max()))
    return worst


def test_lars_in_byols_order() -> None:
    golden = np.load(GOLDEN / "byol_lars.npz")
    worst = _replay(golden, "|", lambda name: name.endswith("/b") or "norm" in name,
                    float(golden["lr"]), float(golden["weight_decay"]), "byol")
    assert worst < 1e-12


def test_lars_in_simclrs_order() -> None:
    golden = np.load(GOLDEN / "simclr_lars.npz")
    worst = _replay(golden, "|", lambda name: "batch_normalization" in name or "bias" in name,
                    float(golden["lr"]), float(golden["weight_decay"]), "simclr")
    assert worst < 1e-12


def test_lars_of_fnc_with_zero_gradients_and_parameters() -> None:
    golden = np.load(GOLDEN / "fnc" / "lars_3steps.npz")
    names = ("batch_normalization", "bias", "head_supervised")
    worst = _replay(golden, "::", lambda name: any(part in name for part in names),
                    6.4, 1e-4, "simclr")
    assert worst < 1e-5


def test_orders_differ_when_the_rate_changes() -> None:
    def path(order: str) -> Tensor:
        weight = nn.Parameter(torch.ones(2, 2))
        optimizer = LARS([weight], 1.0, order=order)
        for lr in (1.0, 0.1):
            set_lr(optimizer, lr)
            weight.grad = torch.ones(2, 2)
            optimizer.step()
        return weight.detach()

    assert not torch.allclose(path("byol"), path("simclr"))


def test_biases_and_norms_do_not_decay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    module[2].bias.requires_grad_(False)
    decayed, plain = parameter_groups(module, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert len(plain["params"]) == 3, "conv bias, BN weight, BN bias; not the frozen bias"
    assert (decayed["weight_decay"], plain["weight_decay"], plain["adapt"]) == (0.1, 0.0, False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_decreases_a_quadratic(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    x = torch.randn(32, 4)
    optimizer = build_optimizer(module, name, lr=0.05, weight_decay=1e-4)
    losses = []
    for _ in range(30):
        loss = (module(x) - 1).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'rmsprop'.*sgd, lars, lars_simclr"):
        build_optimizer(nn.Linear(1, 1), "rmsprop", lr=1.0)
    with pytest.raises(ValueError, match="'moco'.*byol, simclr"):
        LARS([nn.Parameter(torch.ones(1))], 1.0, order="moco")


def test_a_parameter_may_get_its_first_gradient_late() -> None:
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = build_optimizer(layers, "sgd", lr=0.1)
    frozen = layers[1].weight.detach().clone()
    for step in range(3):
        optimizer.zero_grad(set_to_none=True)
        (layers[0] if step < 2 else layers)(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        assert torch.equal(layers[1].weight, frozen) == (step < 2)


def test_what_decays_and_whose_rate_is_fixed() -> None:
    """As released: SGD over all decays biases too; SimSiam's predictor keeps its rate."""
    module = nn.ModuleDict({"body": nn.Linear(3, 2), "predictor": nn.Linear(2, 2)})
    usual = parameter_groups(module, 0.1)
    assert [(g["weight_decay"], len(g["params"]), "fixed" in g) for g in usual] == [
        (0.1, 2, False), (0.0, 2, False)]
    every = parameter_groups(module, 0.1, decay_all=True)
    assert [g["weight_decay"] for g in every] == [0.1, 0.1]
    optimizer = build_optimizer(module, "sgd", lr=0.5, decay_all=True, fixed=("predictor",))
    held = {id(p) for p in module["predictor"].parameters()}
    set_lr(optimizer, 0.2)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert len(rates) == 4
    assert {rate for p, rate in rates.items() if p in held} == {0.5}
    assert {rate for p, rate in rates.items() if p not in held} == {0.2}
