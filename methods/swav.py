"""SwAV: "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments".

arXiv 2006.09882. Released code: facebookresearch/swav, main_swav.py.

Shapes: N images of the batch, V views (two global ones first), D width, K prototypes, Q queue rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.distributed import gather, mine
from methods.parts.heads import mlp
from methods.parts.losses import full_precision, similarity, unit
from methods.parts.sinkhorn import sinkhorn
from methods.registry import register


@full_precision
def swapped_prediction(scores_VNK: Tensor, codes_GNK: Tensor, temperature: float) -> Tensor:
    """Return Eq. 2: each global view's code predicted from every other view's scores."""
    log_VNK = (scores_VNK / temperature).log_softmax(dim=2)
    # entry (g, v): cross entropy of view v's prediction with view g's code
    cross_GV = -torch.einsum("gnk,vnk->gv", codes_GNK, log_VNK) / scores_VNK.shape[1]
    own = cross_GV.diagonal().sum()
    return (cross_GV.sum() - own) / cross_GV.shape[0] / (cross_GV.shape[1] - 1)


@register("swav")
class SwAV(Method):
    """Predict the balanced prototype assignment of one view from another view."""

    paper = (
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, 2006.09882"
    )
    views: tuple[str, ...] = ("swav_global", "swav_global")
    revision = 2  # small crops are 96 of 224 pixels wide
    keeps = ("queue",)
    couples = "Sinkhorn codes of the batch"
    refuses = (
        ("queue_size and queue_size < batch_size",
         "option 'queue_size' {queue_size} is smaller than the batch of {batch_size}: raise it"
         " or lower the batch size"),
    )
    queue: Tensor

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of SwAV."""

        temperature: float = option(0.1, above=0, source="released main_swav.py")
        epsilon: float = option(0.05, above=0, source="released main_swav.py")
        iterations: int = option(3, at_least=1, source="released main_swav.py")
        prototypes: int = option(3000, at_least=1, source="released main_swav.py")
        hidden_dim: int = option(2048, at_least=1, source="released main_swav.py")
        output_dim: int = option(128, at_least=1, source="released main_swav.py")
        local_views: int = option(6, at_least=0, help="small crops", source="arXiv, Table 3")
        queue_size: int = option(0, at_least=0, help="3840 for batch 256", source="scripts/")
        queue_start: float = option(
            0.075, at_least=0, below=1, help="share of the run", source="scripts/: epoch 15 of 200"
        )
        freeze_steps: int = option(313, at_least=0, help="of prototypes", source="scripts/")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the projector, the prototypes and one queue for each global view."""
        super().__init__(backbone, info, config)
        self.views = self.views + ("swav_local",) * config.local_views
        self.projector = mlp([info.feature_dim, config.hidden_dim, config.output_dim])
        self.prototypes = nn.Linear(config.output_dim, config.prototypes, bias=False)
        self.register_buffer("queue", torch.zeros(2, config.queue_size, config.output_dim))

    def loss(self, batch: Batch) -> Tensor:
        """Return the swapped prediction; views of one size pass through the network together."""
        number = len(batch.index)
        weight_KD = self.prototypes.weight
        with torch.no_grad():
            weight_KD.copy_(unit(weight_KD))
        if round(batch.progress * self.info.total_steps) < self.config.freeze_steps:
            weight_KD = weight_KD.detach()
        groups = [views for views in (batch.views[:2], batch.views[2:]) if views]
        z = torch.cat([self.projector(self.backbone(torch.cat(views))) for views in groups])
        z_VND = unit(z).unflatten(0, (-1, number))
        scores_VNK = similarity(z_VND, weight_KD)
        codes = [self._codes(g, z_VND[g].detach(), weight_KD, batch.progress) for g in (0, 1)]
        return swapped_prediction(scores_VNK, torch.stack(codes), self.config.temperature)

    @torch.no_grad()
    def _codes(self, view: int, z_ND: Tensor, weight_KD: Tensor, progress: float) -> Tensor:
        """Return the view's codes (N, K), balanced over the batch and, once full, its queue."""
        z_ND, rows_QD, config = gather(z_ND), self.queue[view], self.config
        used = config.queue_size > 0 and progress >= config.queue_start
        full = used and bool(rows_QD[-1].any())
        every = torch.cat([rows_QD, z_ND]) if full else z_ND
        codes = sinkhorn(similarity(every, weight_KD), config.epsilon, config.iterations)[
            -len(z_ND) :
        ]
        if used:
            self.queue[view] = torch.cat([z_ND.to(rows_QD), rows_QD])[: len(rows_QD)]
        return mine(codes)
