"""Golden checks of the two-view methods and of DnC, run through the shipped classes."""

from __future__ import annotations

import numpy as np
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
from harness.training.schedules import num_steps
from methods.base import Batch, Info, Method
from methods.byol import BYOL
from methods.distil import Distil
from methods.dnc import Config as DnCConfig
from methods.dnc import dnc
from methods.moclr import MoCLR
from methods.moco_v2 import MoCoV2
from methods.moco_v3 import MoCoV3
from methods.options import build, options_of
from methods.parts.ema import Momentum
from methods.parts.heads import mlp
from methods.simclr import SimCLR


def batch(*views: torch.Tensor, **more: object) -> Batch:
    """Return a batch of these views."""
    return Batch(list(views), torch.arange(len(views[0])), **more)


def two_branch(method: Method, width: int) -> Method:
    """Let the first `width` columns of a view be the online output and the rest the target."""
    method.projector, method.predictor = Columns(0, width), nn.Identity()
    method.target = Momentum(Columns(width, 2 * width))
    return method


@kind(r"moclr_T[\d.]+")
def moclr(vector: Vector) -> None:
    """MoCLR's Eq. 1 and its gradients; the targets get none."""
    width, temperature = vector["z1"].shape[1], float(vector["T"])
    method = two_branch(built(MoCLR, temperature=temperature), width)
    views = [leaf(np.hstack([vector[f"z{v}"], vector[f"k{v}"]])) for v in (1, 2)]
    loss = method.loss(batch(*views))
    loss.backward()
    loss_is(loss, vector["moclr_loss"])
    for v, view in zip((1, 2), views, strict=True):
        gradient_is(view.grad[:, :width], vector[f"moclr_grad_z{v}"], temperature)
        assert not view.grad[:, width:].any()
    moco_v3(vector)


def moco_v3(vector: Vector) -> None:
    """MoCo v3: 2 T times the same loss."""
    width, temperature = vector["z1"].shape[1], float(vector["T"])
    method = two_branch(built(MoCoV3, temperature=temperature), width)
    views = [leaf(np.hstack([vector[f"z{v}"], vector[f"k{v}"]])) for v in (1, 2)]
    loss = method.loss(batch(*views))
    loss.backward()
    loss_is(loss, vector["moco_v3_loss"])
    for v, view in zip((1, 2), views, strict=True):
        gradient_is(view.grad[:, :width], vector[f"moco_v3_grad_z{v}"], temperature)


@kind(r"byol_loss.*")
def byol(vector: Vector) -> None:
    """BYOL's loss and its gradients with respect to the predictions."""
    width = vector["pred1"].shape[1]
    method = two_branch(built(BYOL), width)
    views = [leaf(np.hstack([vector[f"pred{v}"], vector[f"target{v}"]])) for v in (1, 2)]
    loss = method.loss(batch(*views))
    loss.backward()
    loss_is(loss, vector["loss"])
    for v, view in zip((1, 2), views, strict=True):
        gradient_is(view.grad[:, :width], vector[f"grad_pred{v}"])
        assert not view.grad[:, width:].any()


@kind(r"simclr_ntxent_T[\d.]+")
def simclr(vector: Vector) -> None:
    """SimCLR's released loss, its gradient, and the paper's mean."""
    temperature = float(vector["T"])
    views = [leaf(half) for half in np.split(vector["hidden"], 2)]
    for variant, expected in (("paper", "nt_xent_mean"), ("released", "loss_float64")):
        method = built(SimCLR, temperature=temperature, variant=variant)
        method.projector = nn.Identity()
        loss = method.loss(batch(*views))
        loss_is(loss, vector[expected])
    loss.backward()
    gradient_is(torch.cat([view.grad for view in views]), vector["grad"], temperature)


def load_moco(module: nn.Module, vector: Vector, prefix: str) -> None:
    """Load the recorded weights whose names start with prefix; a linear head has no number."""
    found = {
        name.removeprefix(prefix).lstrip("."): tensor(vector[name])
        for name in vector
        if name.startswith(prefix)
    }
    assert found, prefix
    linear = "weight" in found and "0.weight" in module.state_dict()
    module.load_state_dict({f"0.{n}" if linear else n: value for n, value in found.items()})


@kind(r"moco_v[12]")
def moco(vector: Vector) -> None:
    """One step of MoCo: loss, gradients, key encoder, queue and pointer afterwards."""
    rows, (width, size) = len(vector["im_q"]), vector["queue_before"].shape
    head = "mlp" if "q_fc.0.weight" in vector else "linear"
    body = nn.Sequential(nn.Linear(12, 10), nn.ReLU())
    info = Info(rows, 1, rows, 1, feature_dim=10)
    config = build(
        MoCoV2.Config,
        {
            "temperature": float(vector["T"]),
            "momentum": float(vector["m"]),
            "queue_size": size,
            "head": head,
            "hidden_dim": 10,
            "output_dim": width,
        },
        "golden",
    )
    method = MoCoV2(body, info, config).double()
    load_moco(method.backbone[0], vector, "q_body")
    load_moco(method.projector, vector, "q_fc")
    load_moco(method.instance.key_encoder.copies[0][0], vector, "k_before_body")
    load_moco(method.instance.key_encoder.copies[1], vector, "k_before_fc")
    method.instance.queue.rows.copy_(tensor(vector["queue_before"].T))
    loss = method.loss(batch(tensor(vector["im_q"]), tensor(vector["im_k"])))
    loss.backward()
    method.after_step(0.0)
    loss_is(loss, vector["loss"])
    for name, module in (("body", method.backbone[0]), ("fc", method.projector)):
        for entry, parameter in module.named_parameters():
            key = f"grad_q_{name}.{entry}"
            gradient_is(parameter.grad, vector[key if key in vector else key.replace("0.", "")])
    for name, module in (
        ("body", method.instance.key_encoder.copies[0][0]),
        ("fc", method.instance.key_encoder.copies[1]),
    ):
        for entry, value in module.state_dict().items():
            key = f"k_after_{name}.{entry}"
            state_is(value, vector[key if key in vector else key.replace("0.", "")])
    state_is(method.instance.queue.rows, vector["queue_after"].T)
    assert int(method.instance.queue.pointer) == int(vector["ptr_after"][0])


@kind(r"formula_dnc_distill")
def distil(vector: Vector) -> None:
    """DnC's Eq. 2, the gradients of all regressors, and its two variants."""
    width, experts = vector["rb_v1"].shape[1], vector["rk_v1"].shape[1]
    info = {"num_groups": experts, "teacher_dims": (width,) * (1 + experts)}
    outputs, teachers = [], [[] for _ in range(1 + experts)]
    for v in (1, 2):
        flat = vector[f"rk_v{v}"].reshape(-1, experts * width)
        outputs.append(leaf(np.hstack([vector[f"rb_v{v}"], flat])))
        targets = [vector[f"zb_v{v}"], *np.moveaxis(vector[f"zk_v{v}"], 1, 0)]
        for own, target in zip(teachers, targets, strict=True):
            own.append(tensor(target))
    groups = tensor(vector["cluster_id"])

    def loss_of(views: list[torch.Tensor], info: dict[str, object], **values: object) -> object:
        method = built(Distil, info, **values)
        method.projector = nn.Identity()
        method.regressors = nn.ModuleList(
            Columns(i * width, (i + 1) * width) for i in range(len(info["teacher_dims"]))
        )
        own = teachers[: len(info["teacher_dims"])]
        return sum(method.loss(batch(*views, groups=groups, teachers=own)).values())

    loss = loss_of(outputs, info)
    loss.backward()
    loss_is(loss, vector["loss"])
    for v, output in zip((1, 2), outputs, strict=True):
        gradient_is(output.grad[:, :width], vector[f"grad_rb_v{v}"])
        gradient_is(output.grad[:, width:].reshape(-1, experts, width), vector[f"grad_rk_v{v}"])
    first = [outputs[0].detach()]
    loss_is(loss_of(first, info), vector["per_image_v1"].mean())
    loss_is(
        loss_of(first, info, normalise_regression=True),
        vector["per_image_v1_l2normalised_regressor"].mean(),
    )
    base = {"num_groups": 0, "teacher_dims": (width,)}
    loss_is(loss_of(first, base, teachers="base"), vector["base_only_v1"].mean())


@kind(r"formula_dnc_heads_trainmode")
def dnc_heads(vector: Vector) -> None:
    """Projector and regressor with batch statistics, and the hidden layer."""
    pool = tensor(vector["pool"])
    inner, hidden, output = pool.shape[1], *vector["proj.3.weight"].T.shape
    projector = mlp([inner, hidden, output], last_norm="affine").double()
    regressor = mlp([output, hidden, output]).double()
    for name, module in (("proj.", projector), ("reg.", regressor)):
        weights = {n.removeprefix(name): tensor(a) for n, a in vector.items() if n.startswith(name)}
        module.load_state_dict(weights, strict=False)
    state_is(projector(pool), vector["z"])
    state_is(regressor(projector(pool)), vector["regressor_out"])
    state_is(projector.hidden(pool), vector["hidden_postReLU"])


SCHEDULES = {1000: (5, 200, 600, 200), 3000: (5, 1000, 1500, 500), 4500: (10, 1000, 3000, 500)}


@kind(r"formula_dnc_budget")
def dnc_budget(vector: Vector) -> None:
    """The recipe's epochs give the paper's iterations in its three schedules."""
    images, size = int(vector["images_per_epoch"]), int(vector["batch"])
    defaults = {name: o.default for name, o in options_of(DnCConfig).items()}
    for total, (k, base, experts, distil) in SCHEDULES.items():
        shares = {"base_share": base, "experts_share": experts, "distil_share": distil, "k": k}
        epochs = float(vector[f"total_epochs_{total}"])
        student = dnc(epochs, defaults | {"schedule": str(total)})
        assert student == dnc(epochs, defaults | shares)
        first, *others = student.teachers
        assert num_steps(first.epochs, images, size) == vector[f"base_iters_{total}"]
        assert num_steps(student.epochs, images, size) == vector[f"distill_iters_{total}"]
        passes = vector[f"passes_over_own_cluster_if_dataset_is_imagenet_{total}"]
        np.testing.assert_allclose([expert.epochs for expert in others], passes)
        iterations = [
            num_steps(expert.epochs, images * share, size)
            for expert, share in zip(others, vector[f"share_{total}"], strict=True)
        ]
        np.testing.assert_allclose(iterations, vector[f"expert_iters_{total}"], atol=0.5)
