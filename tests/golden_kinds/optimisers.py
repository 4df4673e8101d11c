"""Golden checks of the optimisers and schedules."""

from __future__ import annotations

import re

import numpy as np
from torch import nn

from golden_kinds.compare import Vector, kind, state_is, tensor
from harness.training.optim import LARS
from harness.training.schedules import learning_rate
from methods.parts.ema import cosine_momentum


def lars(
    vector: Vector, separator: str, excluded: str, settings: dict[str, float], order: str
) -> None:
    """Run the recorded steps; parameters whose name matches `excluded` are not adapted."""
    start = f"p0{separator}"
    names = [key.removeprefix(start) for key in vector if key.startswith(start)]
    params = {name: nn.Parameter(tensor(vector[start + name])) for name in names}
    kept = [params[name] for name in names if not re.search(excluded, name)]
    plain = [params[name] for name in names if re.search(excluded, name)]
    assert kept and plain
    decay = settings.pop("weight_decay")
    optimiser = LARS(
        [
            {"params": kept, "weight_decay": decay, "adapt": True},
            {"params": plain, "weight_decay": 0.0, "adapt": False},
        ],
        order=order,
        **settings,
    )
    steps = len({key.split(separator)[0] for key in vector if key.startswith("g")})
    assert steps == 3
    for step in range(steps):
        for name, parameter in params.items():
            parameter.grad = tensor(vector[f"g{step}{separator}{name}"])
        optimiser.step()
        for name, parameter in params.items():
            state_is(parameter, vector[f"p{step + 1}{separator}{name}"])


@kind(r"byol_lars.*")
def byol_lars(vector: Vector) -> None:
    """BYOL's LARS: the learning rate is outside the momentum buffer."""
    settings = {key: float(vector[key]) for key in ("lr", "momentum", "weight_decay", "eta")}
    lars(vector, "|", r"norm|/b$", settings, "byol")


@kind(r"simclr_lars.*")
def simclr_lars(vector: Vector) -> None:
    """SimCLR's LARS: the learning rate is inside the momentum buffer."""
    settings = {key: float(vector[key]) for key in ("lr", "momentum", "weight_decay")}
    settings["eta"] = float(vector["eeta"])
    lars(vector, "|", r"batch_normalization|bias|head_supervised", settings, "simclr")


@kind(r"lars_3steps.*")
def fnc_lars(vector: Vector) -> None:
    """FNC's copy of SimCLR's LARS, with its published settings."""
    settings = {"lr": 6.4, "momentum": 0.9, "weight_decay": 1e-4, "eta": 1e-3}
    lars(vector, "::", r"batch_normalization|bias|head_supervised", settings, "simclr")


def rates(steps: np.ndarray, total: int, warmup: int, base: float) -> list[float]:
    """Return the cosine schedule's learning rates at some steps."""
    return [learning_rate("cosine", int(step), total, warmup, base) for step in steps]


@kind(r"byol_schedules")
def byol_schedules(vector: Vector) -> None:
    """Learning rate and target coefficient over BYOL's 1000 epochs."""
    total, warmup = int(vector["max_steps"]), int(vector["warmup_steps"])
    scale = int(vector["batch"]) / 256
    found = [key for key in vector if key.startswith("lr_base")]
    assert found
    for key in found:
        base = float(key.removeprefix("lr_base").replace("p", "."))
        got = rates(vector["steps"], total, warmup, base * scale)
        np.testing.assert_allclose(got, vector[key], rtol=1e-5, atol=1e-6)
    got = [cosine_momentum(0.996, step / total) for step in vector["steps"]]
    np.testing.assert_allclose(got, vector["ema"], rtol=1e-7)


@kind(r"lr_(linear|pretrain|finetune)_.*")
def fnc_rates(vector: Vector) -> None:
    """FNC's learning rates: sqrt scaling, warm-up in epochs, cosine."""
    words = dict(re.findall(r"(\w+)=([\w.]+)", str(vector["meta"])))
    base = float(words["base_lr"]) * int(words["batch"]) ** 0.5
    assert words["scaling"] == "sqrt"
    warmup = round(
        float(words["warmup_epochs"]) * int(words["num_examples"]) // int(words["batch"])
    )
    got = rates(vector["steps"], int(vector["total_steps"]), warmup, base)
    np.testing.assert_allclose(got, vector["lr"], rtol=1e-5, atol=1e-6 * base)


@kind(r"lr_cosine_.*")
def cld_rates(vector: Vector) -> None:
    """CLD's per-iteration schedule."""
    words = dict(re.findall(r"([\w/]+)=([\d.]+)", str(vector["meta"])))
    per_epoch, epochs = int(words["iters/epoch"]), int(words["epochs"])
    steps = range(len(vector["lr"]))
    got = [
        learning_rate("cosine_cld", step, epochs * per_epoch, 5 * per_epoch, float(words["lr"]))
        for step in steps
    ]
    np.testing.assert_allclose(got, vector["lr"], rtol=1e-5, atol=1e-9)
