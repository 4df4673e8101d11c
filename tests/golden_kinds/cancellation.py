"""Golden checks of FNC, run through the shipped class."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from golden_kinds.compare import (
    Columns,
    Vector,
    built,
    gradient_is,
    kind,
    leaf,
    loss_is,
    state_is,
    tensor,
)
from methods import fnc
from methods.base import Batch
from methods.parts.ema import Momentum
from methods.simclr import SimCLR

VARIANTS = {
    "elim": {"mode": "elimination"},
    "mean": {"aggregate": "mean"},
    "suponly": {"score_views": "support"},
}


def variants(vector: Vector) -> dict[str, str]:
    """Return the paper variants that a vector's description of its origin names."""
    said = str(vector["meta"])
    words = {
        "elim": "elimination|removal of the detected",
        "mean": "mean aggregation|reduce_mean",
        "suponly": "support views only|only the support views",
    }
    found: dict[str, str] = {}
    for name, pattern in words.items():
        if re.search(pattern, said):
            found |= VARIANTS[name]
    return found


def check(vector: Vector) -> None:
    """Loss, gradient, scores, mask and memory of one batch."""
    number, views, temperature = int(vector["B"]), int(vector["V"]), float(vector["T"])
    width = vector["hidden"].shape[1]
    settings = {
        "temperature": temperature,
        "support_size": views - 2,
        "top_k": int(vector["top_k"]),
        "threshold": float(vector["threshold"]),
        "output_dim": width,
        "hidden_norm": bool(vector.get("hidden_norm", True)),
        "memory_multiplier": int(vector.get("memory_multiplier", 0)),
        **variants(vector),
    }
    method = built(fnc.FNC, {"batch_size": number}, **settings)
    hidden = leaf(vector["hidden"])
    stacked = hidden
    method.projector = Columns(0, width)
    if "hidden_ema" in vector:
        stacked = torch.cat([hidden, tensor(vector["hidden_ema"])], dim=1)
        method.target = Momentum(Columns(width, 2 * width))
        method.memory = tensor(vector["memory_before"])
    method.float()
    masks = []
    with pytest.MonkeyPatch.context() as patch:
        found = fnc.top_k_mask
        patch.setattr(
            fnc,
            "top_k_mask",
            lambda *given: masks.append((given[0], found(*given))) or masks[-1][1],
        )
        loss = method.loss(Batch(list(stacked.chunk(views)), torch.arange(number)))
    weight = float(vector.get("weights", 1.0))
    (loss * weight).backward()
    loss_is(loss * weight, vector["loss"])
    gradient_is(hidden.grad, vector["grad_hidden"], temperature)
    ((scores, mask),) = masks
    np.testing.assert_allclose(scores.numpy(), vector["scores"], rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(mask.numpy(), vector["fn_mask"].astype(bool))
    if "memory_after" in vector:
        state_is(method.memory, vector["memory_after"])


kind(r"(att|simclr|multicrop|identical|tiny|mean|suponly|elim|mem)_(\w+_)?n\d+_.*")(check)


@kind(r"projection_head_3layer_train.*")
def head(vector: Vector) -> None:
    """The three-layer head of SimCLR v2 and FNC, with batch statistics."""
    width = vector["x"].shape[1]
    method = built(
        SimCLR,
        {"feature_dim": width},
        head_layers=3,
        hidden_dim=width,
        output_dim=vector["z"].shape[1],
    ).float()
    linears = [m for m in method.projector if isinstance(m, nn.Linear)]
    norms = [m for m in method.projector if isinstance(m, nn.BatchNorm1d)]
    with torch.no_grad():
        for i, (linear, norm) in enumerate(zip(linears, norms, strict=True)):
            name = f"w::head/nl_{i}"
            linear.weight.copy_(tensor(vector[f"{name}/dense/kernel:0"]).T)
            norm.weight.copy_(tensor(vector[f"{name}/batch_normalization/gamma:0"]))
            if f"{name}/batch_normalization/beta:0" in vector:
                norm.bias.copy_(tensor(vector[f"{name}/batch_normalization/beta:0"]))
            else:
                assert not norm.bias.requires_grad and not norm.bias.any()
    x = leaf(vector["x"])
    z = method.projector(x)
    z.backward(torch.linspace(-1, 1, z.numel()).reshape(z.shape))
    np.testing.assert_allclose(z.detach().numpy(), vector["z"], rtol=1e-5, atol=1e-5)
    gradient_is(x.grad, vector["grad_x"])
