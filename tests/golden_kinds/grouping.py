"""Golden checks of CLD, NPID and their queues and banks, run through the shipped classes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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
from methods import cld, npid
from methods.base import Batch
from methods.cld import CLD
from methods.parts import branches, instance
from methods.parts.branches import BankBranch, JigsawBranch, QueueBranch
from methods.parts.ema import Momentum
from methods.parts.grouping import cross_level, kmeans, normalised_cuts, spectral_embedding
from methods.parts.heads import NormLinear
from methods.parts.stores import Bank, Queue


def close(actual: Tensor, expected: np.ndarray) -> None:
    """Check a float32 result that is not a loss."""
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-5, atol=2e-6)


@kind(r"kmeans_.*")
def batch_kmeans(vector: Vector) -> None:
    """Labels exactly, centroids to rounding, for any K."""
    labels, centroids = kmeans(tensor(vector["x"]), int(vector["K"]), int(vector["Niters"]))
    np.testing.assert_array_equal(labels.numpy(), vector["labels"])
    close(centroids, vector["centroids"])


@kind(r"ncuts_.*")
def ncuts(vector: Vector) -> None:
    """Spectral embedding up to signs, labels, and the groups' means."""
    x, number = tensor(vector["x"]), int(vector["k_eigen"])
    sigma = float(vector["sigma"])
    embedding = spectral_embedding(x, number, sigma).abs()
    np.testing.assert_allclose(embedding.numpy(), vector["abs_eigvec"], rtol=1e-3, atol=1e-4)
    settings = int(vector["clusters"]), int(vector["Niters"]), number, sigma
    labels, centroids = normalised_cuts(x, *settings)
    np.testing.assert_array_equal(labels.numpy(), vector["labels"])
    close(centroids, vector["centroids"])


def group_model(**values: Any) -> CLD:
    """Return CLD with given group settings, a batch of as many images, and a small queue."""
    number = values["groups"]
    return built(CLD, {"batch_size": number}, queue_size=number, **values).float()


def constant_centroids(f1: Tensor, f2: Tensor, settings: dict[str, Any]) -> Tensor:
    """Return the group loss with the released groups, the empty ones included, as constants."""
    temperature, shape = settings["group_temperature"], (settings["groups"], settings["iterations"])
    (labels1, centroids1), (labels2, centroids2) = (kmeans(f.detach(), *shape) for f in (f1, f2))
    first = cross_level(f1, centroids2, labels2, temperature)
    return (first + cross_level(f2, centroids1, labels1, temperature)) / 2


@kind(r"cld_.*")
def group_losses(vector: Vector) -> None:
    """Group loss with both gradients, and with constant centroids.

    The paper variant has constant centroids too; it differs where groups are empty.
    """
    temperature = float(vector["T"])
    settings = {
        "groups": int(vector["K"]),
        "iterations": int(vector["Niters"]),
        "group_temperature": temperature,
    }
    losses = {"": group_model(**settings).group_loss}
    const = "_centroids_const"
    losses[const] = lambda f1, f2: constant_centroids(f1, f2, settings)
    full = all(len(np.unique(vector[f"labels{v}"])) == settings["groups"] for v in (1, 2))
    cases = [*losses.items(), *([(const, group_model(variant="paper", **settings).group_loss)]
                                if full else [])]
    for suffix, group_loss in cases:
        f1, f2 = leaf(vector["f1"]), leaf(vector["f2"])
        loss = group_loss(f1, f2)
        loss.backward()
        loss_is(loss, vector["loss"])
        gradient_is(f1.grad, vector[f"grad_f1{suffix}"], temperature)
        gradient_is(f2.grad, vector[f"grad_f2{suffix}"], temperature)
    for view in "12":
        labels, centroids = kmeans(
            tensor(vector[f"f{view}"]), settings["groups"], settings["iterations"]
        )
        np.testing.assert_array_equal(labels.numpy(), vector[f"labels{view}"])
        close(centroids, vector[f"centroids{view}"])


def queue_branch(
    rows: np.ndarray, temperature: float, kind: type[QueueBranch] = QueueBranch
) -> QueueBranch:
    """Return a queue branch as CLD's CIFAR code has it, whose key encoder passes its input on."""
    branch = kind([nn.Identity()], Queue(*rows.shape), temperature, 0.999, False)
    branch.key_encoder = Momentum(Columns(0, rows.shape[1]))
    branch.queue.rows.copy_(tensor(rows))
    return branch


@kind(r"moco_n\d+.*", r"moco_queue_wrap_.*")
def two_query_moco(vector: Vector) -> None:
    """Two queries against one key over several steps; the queue wraps around."""
    temperature = float(vector["T"])
    branch = queue_branch(vector["memory0"], temperature)
    for step in range(int(vector["steps"])):
        queries = [leaf(vector[f"q{v}_{step}"]) for v in (1, 2)]
        loss = branch.loss(queries, tensor(vector[f"k_{step}"]))
        loss.backward()
        loss_is(loss, vector[f"loss_{step}"])
        for v, query in zip((1, 2), queries, strict=True):
            gradient_is(query.grad, vector[f"grad_q{v}_{step}"], temperature)
        branch.after_step()
        state_is(branch.queue.rows, vector[f"memory_after_{step}"])
        assert int(branch.queue.pointer) == int(vector[f"index_after_{step}"])


@kind(r"moco_imagenet_logits_.*")
def imagenet_moco(vector: Vector) -> None:
    """The released ImageNet branch: one query, the queue stored by columns there."""
    branch = queue_branch(vector["queue_dxK"].T, float(vector["T"]))
    query = leaf(vector["q"])
    loss = branch.loss([query], tensor(vector["k"]))
    loss.backward()
    loss_is(loss, vector["loss"])
    gradient_is(query.grad, vector["grad_q"], float(vector["T"]))


@kind(r"mococld_total_.*")
def moco_cld(vector: Vector) -> None:
    """One whole step of CLD over MoCo."""
    width, number = vector["q1"].shape[1], len(vector["q1"])
    model = built(
        CLD,
        {"batch_size": number},
        instance="moco",
        queue_size=int(vector["Q"]),
        temperature=float(vector["T_moco"]),
        group_temperature=float(vector["T_cld"]),
        groups=int(vector["K"]),
        iterations=int(vector["Niters"]),
        weight=float(vector["Lambda"]),
        output_dim=width,
    ).float()
    model.trunk, model.instance_head = nn.Identity(), Columns(0, width)
    model.group_head = Columns(width, 2 * width)
    model.instance = queue_branch(vector["memory0"], float(vector["T_moco"]))
    views = [leaf(np.hstack([vector[f"q{v}"], vector[f"f{v}"]])) for v in (1, 2)]
    with pytest.MonkeyPatch.context() as patch:
        # The recorded gradients are with respect to the unit vectors.
        patch.setattr(instance, "unit", lambda x: x)
        patch.setattr(cld, "unit", lambda x: x)
        parts = model.loss(Batch([*views, tensor(vector["k"])], torch.arange(number)))
    loss_is(parts["instance"], vector["loss_instance"])
    loss_is(parts["group"], vector["loss_group"] * vector["Lambda"])
    total = parts["instance"] + parts["group"]
    total.backward()
    loss_is(total, vector["loss_total"])
    for v, view in zip((1, 2), views, strict=True):
        gradient_is(view.grad[:, :width], vector[f"grad_q{v}"], float(vector["T_moco"]))
        gradient_is(view.grad[:, width:], vector[f"grad_f{v}"], float(vector["T_cld"]))
    model.after_step(0.0)
    state_is(model.instance.queue.rows, vector["memory_after"])


def fact(vector: Vector, name: str) -> float:
    """Return a parameter that a vector holds as an array, or names in its description."""
    if name in vector:
        return float(vector[name])
    said = re.search(rf"\b{name}=([\d.]*\d)", str(vector["meta"]))
    assert said, f"{name} is neither an array nor in {vector['meta']}"
    return float(said[1])


class Patches(nn.Module):
    """Stands for the jigsaw: the view is its embedding."""

    def forward(self, backbone: nn.Module, view: Tensor) -> Tensor:
        """Return the view."""
        return view


@kind(r"infomincld_total_.*")
def infomin_cld(vector: Vector) -> None:
    """One whole step of CLD over InfoMin, each query's call writing the keys."""
    (number, width), temperature = vector["q1"].shape, fact(vector, "T")
    model = built(
        CLD,
        {"batch_size": number},
        instance="infomin",
        queue_size=len(vector["memory0"]),
        temperature=temperature,
        group_temperature=fact(vector, "T_cld"),
        groups=int(fact(vector, "K")),
        iterations=int(fact(vector, "Niters")),
        weight=fact(vector, "Lambda"),
        output_dim=width,
    ).float()
    assert fact(vector, "beta") == 0.5
    model.trunk, model.instance_head = nn.Identity(), Columns(0, width)
    model.group_head = Columns(width, 2 * width)
    model.jigsaw = Patches()
    model.instance = queue_branch(vector["memory0"], temperature, JigsawBranch)
    views = [leaf(np.hstack([vector[f"q{v}"], vector[f"f{v}"]])) for v in (1, 2)]
    jigsaw, rows = leaf(vector["q_jig"]), []
    nce = branches.queue_nce

    def noted(query: Tensor, key: Tensor, seen: Tensor, cold: float) -> Tensor:
        rows.append((query, seen))
        return nce(query, key, seen, cold)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance, "unit", lambda x: x)
        patch.setattr(cld, "unit", lambda x: x)
        patch.setattr(branches, "queue_nce", noted)
        batch = Batch([*views, tensor(vector["k"]), jigsaw], torch.arange(number))
        parts = model.loss(batch)
    for (query, seen), name in zip(rows, ("1", "1_jig", "2", "2_jig"), strict=True):
        close(query @ seen.T / temperature, vector[f"logits{name}"][:, 1:])
    close(rows[2][1], vector["memory_after_first_call"])
    views_loss = (vector["loss_view1"] + vector["loss_view2"]) / 2
    loss_is(parts["instance"], views_loss)
    loss_is(parts["group"], vector["loss_group_weighted"])
    total = parts["instance"] + parts["group"]
    total.backward()
    loss_is(total, vector["loss"])
    for v, view in zip((1, 2), views, strict=True):
        gradient_is(view.grad[:, :width], vector[f"grad_q{v}"], temperature)
        gradient_is(view.grad[:, width:], vector[f"grad_f{v}"])
    gradient_is(jigsaw.grad, vector["grad_q_jig"], temperature)
    model.after_step(0.0)
    state_is(model.instance.queue.rows, vector["memory_after"])
    assert int(model.instance.queue.pointer) == int(vector["index_after"])


@kind(r"npid_full_n\d+.*")
def two_view_npid(vector: Vector) -> None:
    """CLD's NPID branch: the released gradient of the first view, the exact one, the bank."""
    temperature, momentum = float(vector["T"]), float(vector["m"])
    for shifted, exact in ((False, "exact_"), (True, "")):
        branch = BankBranch(Bank(*vector["memory0"].shape, momentum), temperature, shifted)
        branch.bank.rows.copy_(tensor(vector["memory0"]))
        views = [leaf(vector[f"x{v}"]) for v in (1, 2)]
        loss = branch.loss(views, tensor(vector["y"]))
        loss.backward()
        loss_is(loss, vector[f"{exact}loss"])
        for v, view in zip((1, 2), views, strict=True):
            gradient_is(view.grad, vector[f"{exact}grad_x{v}"], temperature)
        branch.after_step()
        state_is(branch.bank.rows, vector["memory_after"])


def npid_model(vector: Vector, momentum: float, **values: Any) -> npid.NPID:
    """Return NPID with a recorded bank and the identity for its head."""
    number, width = vector["memory_before" if "memory_before" in vector else "memory0"].shape
    model = built(
        npid.NPID,
        {"num_images": number},
        output_dim=width,
        momentum=momentum,
        temperature=float(vector["T"]),
        **values,
    ).float()
    model.projector = nn.Identity()
    rows = vector["memory_before" if "memory_before" in vector else "memory0"]
    model.instance.bank.rows.copy_(tensor(rows))
    return model


def npid_step(model: npid.NPID, vector: Vector, given: str) -> None:
    """Run one step from the array `given` and compare loss, gradient and bank."""
    x = leaf(vector[given])
    with pytest.MonkeyPatch.context() as patch:
        if given == "x":
            patch.setattr(npid, "unit", lambda x: x)
        loss = model.loss(Batch([x], tensor(vector["y"])))
    loss.backward()
    loss_is(loss, vector["loss"])
    gradient_is(x.grad, vector[f"grad_{given}"], float(vector["T"]))
    model.after_step(0.0)
    state_is(model.instance.bank.rows, vector["memory_after"])


@kind(r"npid_full_softmax.*")
def npid_softmax(vector: Vector) -> None:
    """The softmax over the whole bank."""
    npid_step(npid_model(vector, float(vector["momentum"]), negatives=0), vector, "raw")


@kind(r"npid_nce.*")
def npid_nce(vector: Vector) -> None:
    """Noise-contrastive estimation with the recorded samples; Z from this first batch."""
    samples = tensor(vector["idx_used" if "idx_used" in vector else "idx_sampled"])
    samples[:, 0] = tensor(vector["y"])
    said = re.search(r" m=([\d.]+)", str(vector.get("meta", "")))
    momentum = float(vector["momentum"] if "momentum" in vector else said[1])
    model = npid_model(vector, momentum, negatives=samples.shape[1] - 1)
    model.draw = lambda index: samples
    npid_step(model, vector, "raw" if "raw" in vector else "x")
    expected = vector["Z"] if "Z" in vector else vector["params_after"][2]  # K, T, Z, momentum
    np.testing.assert_allclose(model.normaliser.numpy(), expected, rtol=1e-5)


@kind(r"normlinear.*")
def norm_linear(vector: Vector) -> None:
    """NormLinear and its gradients, which W's column norms scale."""
    layer = NormLinear(*vector["W0"].shape)
    for weights, y in (("W0", "y"), ("W_scaled", "y_scaled")):
        layer.weight.data = tensor(vector[weights]).T.contiguous()
        x = leaf(vector["x"])
        out = layer(x)
        close(out, vector[y])
    out.backward(tensor(vector["upstream"]))
    gradient_is(x.grad, vector["grad_x_scaled"])
    gradient_is(layer.weight.grad.T, vector["grad_W_scaled"])
