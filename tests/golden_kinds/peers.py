"""Golden checks of SwAV, MSN, SDCLR, TS and KoLeo, run through the shipped classes."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from golden_kinds.compare import Vector, built, gradient_is, kind, leaf, loss_is, state_is, tensor
from methods.base import Batch
from methods.msn import MSN
from methods.parts.ema import Momentum
from methods.parts.losses import koleo
from methods.parts.pruning import magnitude_masks
from methods.sdclr import SDCLR
from methods.swav import SwAV
from methods.ts import TS


@kind(r"swav_.*")
def swav(vector: Vector) -> None:
    """One step: prototypes, codes, loss, gradients, queue."""
    number, crops = int(vector["bs"]), int(vector["n_crops"])
    prototypes, width = vector["proto_before"].shape
    size = vector["queue_before"].shape[1] if "queue_before" in vector else 0
    method = built(
        SwAV,
        {"batch_size": number},
        temperature=float(vector["temperature"]),
        epsilon=float(vector["epsilon"]),
        iterations=int(vector["iters"]),
        prototypes=prototypes,
        output_dim=width,
        local_views=crops - 2,
        queue_size=size,
        queue_start=0,
        freeze_steps=0,
    )
    assert len(method.views) == crops
    method.projector = nn.Identity()
    method.prototypes.weight.data.copy_(tensor(vector["proto_before"]))
    if size:
        method.queue.copy_(tensor(vector["queue_before"]))
    codes, make = [], method._codes
    method._codes = lambda *given: codes.append(make(*given)) or codes[-1]
    embedding = leaf(vector["emb_raw"])
    loss = method.loss(Batch(list(embedding.chunk(crops)), torch.arange(number)))
    loss.backward()
    loss_is(loss, vector["loss"])
    state_is(method.prototypes.weight, vector["proto_normalized"])
    gradient_is(embedding.grad, vector["grad_emb_raw"])
    gradient_is(method.prototypes.weight.grad, vector["grad_proto"])
    for view, code in enumerate(codes):
        np.testing.assert_allclose(code.numpy(), vector[f"q{view}"], rtol=1e-5, atol=1e-8)
    if size:
        state_is(method.queue, vector["queue_after"])


def msn(vector: Vector, sinkhorn: bool) -> None:
    """MSN's three terms, and the gradients of the first two with the released weights."""
    number, (prototypes, width) = len(vector["targets"]), vector["prototypes"].shape
    method = built(
        MSN,
        {"batch_size": number, "feature_dim": width},
        temperature=float(vector["tau"]),
        sharpen=float(vector["T"]),
        sinkhorn=sinkhorn,
        prototypes=prototypes,
        output_dim=width,
        focal_views=len(vector["anchors"]) // number - 1,
        masked=0,
        entropy_weight=1,
    )
    method.projector, method.target = nn.Identity(), Momentum(nn.Identity())
    method.prototypes.data.copy_(tensor(vector["prototypes"]))
    anchors = leaf(vector["anchors"])
    views = [tensor(vector["targets"]), *anchors.split(number)]
    parts = method.loss(Batch(views, torch.arange(number)))
    for name, expected in (("assign", "ce"), ("memax", "rloss"), ("entropy", "ent")):
        loss_is(parts[name], vector[expected])
    total = parts["assign"] + parts["memax"]
    total.backward()
    loss_is(total, vector["total"])
    gradient_is(anchors.grad, vector["grad_anchors"])
    gradient_is(method.prototypes.grad, vector["grad_prototypes"])


kind(r"msn_plain.*")(partial(msn, sinkhorn=False))
kind(r"msn_sk.*")(partial(msn, sinkhorn=True))


@kind(r"dinov2_koleo.*")
def spread(vector: Vector) -> None:
    """KoLeo and its gradient, which was recorded in float32 to 1e-4."""
    x = leaf(vector["x"])
    loss = koleo(x)
    loss.backward()
    loss_is(loss, vector["loss"])
    np.testing.assert_allclose(x.grad.numpy(), vector["grad"], rtol=0, atol=1e-5)


@kind(r"sdclr_nt_xent.*")
def sdclr_loss(vector: Vector) -> None:
    """SDCLR's mean NT-Xent, from interleaved rows and from two branches."""
    method = built(SDCLR, temperature=float(vector["t"]))
    rows = leaf(vector["x_interleaved"])
    loss = method.contrast(rows[0::2], rows[1::2], 0.0)
    loss.backward()
    loss_is(loss, vector["loss_single"])
    gradient_is(rows.grad, vector["grad_single"])
    branches = [leaf(vector[f"f{i}"]) for i in (1, 2)]
    loss = method.contrast(*branches, 0.0)
    loss.backward()
    loss_is(loss, vector["loss_two"])
    for i, branch in zip((1, 2), branches, strict=True):
        gradient_is(branch.grad, vector[f"grad_f{i}"])


@kind(r"sdclr_magnitude_prune.*")
def sdclr_masks(vector: Vector) -> None:
    """Global magnitude pruning at every recorded share."""
    weights = [tensor(vector[key]) for key in sorted(vector) if key.startswith("w")]
    shares = sorted({key.split("_")[1] for key in vector if key.startswith("mask0_")})
    assert shares
    for share in shares:
        masks = magnitude_masks(weights, float(share))
        for i, mask in enumerate(masks):
            np.testing.assert_array_equal(mask.numpy(), vector[f"mask{i}_{share}"] != 0)
        kept = torch.cat([mask.flatten() for mask in masks]).float().mean()
        np.testing.assert_allclose(kept.numpy(), vector[f"density_{share}"], rtol=1e-6)


@kind(r"ts_temperature_schedule.*")
def temperatures(vector: Vector) -> None:
    """The temperature of every recorded epoch."""
    steps = int(vector["epoch"][-1]) + 1
    method = built(
        TS,
        {"total_steps": steps, "num_images": 4, "batch_size": 4},
        temperature=float(vector["tau_max"]),
        lowest=float(vector["tau_min"]),
        half_period=float(vector["t_max"]),
    )
    got = [method.temperature(epoch / steps) for epoch in vector["epoch"]]
    np.testing.assert_allclose(got, vector["tau"], rtol=1e-9)
