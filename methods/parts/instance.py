"""The instance branches that CLD can be put on: how each is built, and what it is given.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from methods.base import Batch, Info
from methods.parts.branches import BankBranch, JigsawBranch, QueueBranch, TargetBranch
from methods.parts.heads import mlp
from methods.parts.losses import unit
from methods.parts.stores import Bank, Queue

Branch = BankBranch | QueueBranch | TargetBranch

# The views of each branch where they are not those of MoCo v2. BYOL's are BYOL's own (choice: CLD
# over BYOL was announced, never released).
VIEWS = {
    "npid": ("cld_a",) * 2,
    "byol": ("byol_t", "byol_t_prime"),
    "infomin": ("cld_d", "cld_d", "cld_d", "infomin_jigsaw"),
}


def instance_branch(config: Any, online: Sequence[nn.Module], info: Info) -> Branch:
    """Return the branch `config.instance` around the online modules, images to projections.

    Of a MoCo, InfoMin's queue starts with unit rows and its key encoder moves after the step; so
    does that of CLD's CIFAR code ("moco"), whose queue starts with uniform rows.
    """
    width, released = config.output_dim, config.variant == "released"
    if config.instance == "npid":
        bank = Bank(info.num_images, width, config.momentum)
        return BankBranch(bank, config.temperature, released)
    if config.instance == "byol":
        predictor = mlp([width, config.hidden_dim, width], last_bias=False)
        return TargetBranch(online, predictor, config.momentum)
    queue = Queue(config.queue_size, width, uniform=config.instance == "moco")
    first = config.instance == "mocov2"
    settings = config.temperature, config.momentum, first, config.key_splits
    if config.instance == "infomin":
        return JigsawBranch(online, queue, *settings, rewrite=released)
    return QueueBranch(online, queue, *settings)


def instance_loss(
    branch: Branch, raw: Sequence[Tensor], batch: Batch, jigsaw: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the branch's loss of two views' raw projections (N, D).

    The third view of a MoCo is its key's; InfoMin's fourth becomes a query by `jigsaw`.
    """
    if isinstance(branch, TargetBranch):
        return branch.loss(raw, batch.views)
    queries = [unit(z_ND) for z_ND in raw]
    if isinstance(branch, BankBranch):
        return branch.loss(queries, batch.index)
    queries += [unit(jigsaw(patches)) for patches in batch.views[3:]]
    return branch.loss(queries, batch.views[2])
