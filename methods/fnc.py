"""FNC: "Boosting Contrastive Self-Supervised Learning with False Negative Cancellation".

arXiv 2011.11765. Released code: google-research/fnc, objective.py and model.py. It has attraction
with the maximum over views; elimination, the mean and support-only scores follow the paper.

Shapes: B images, V views, A of them anchors, D width, M keys; row v B + i is view v of image i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info
from methods.options import option
from methods.parts.cancellation import cancelled_nce
from methods.parts.distributed import gather
from methods.parts.ema import Momentum
from methods.parts.losses import unit
from methods.parts.selection import candidate_scores, top_k_mask
from methods.registry import register
from methods.simclr import SimCLR


@register("fnc")
class FNC(SimCLR):
    """Find the negatives that look like the anchor's image, and attract them or leave them out."""

    paper = (
        "Boosting Contrastive Self-Supervised Learning with False Negative Cancellation,"
        " arXiv 2011.11765"
    )
    keeps = ("ema", "memory")
    couples = "negatives of the batch and its place in the memory"
    refuses = (
        (
            "score_views == 'support' and not support_size",
            "score_views='support' needs support_size >= 1",
        ),
        (
            "memory_multiplier and memory_multiplier < 2 + support_size * multi_crop",
            "memory_multiplier {memory_multiplier} < {2 + support_size * multi_crop} views:"
            " too few",
        ),
        (
            "top_k > batch_size * (memory_multiplier or 2 + support_size * multi_crop)",
            "top_k {top_k} exceeds the {batch_size * (memory_multiplier or"
            " 2 + support_size * multi_crop)} candidates; lower it",
        ),
    )
    memory: Tensor

    @dataclass(frozen=True)
    class Config(SimCLR.Config):
        """Options of FNC.

        `variant`: released is the sum over directions as in SimCLR, with A - 1 + |F| positives of
        A views; paper the mean over anchors with 1 + |F| (Eq. 3), and scores by the support views
        only, where there are any. They give the same with two views and the scores of `all`.
        """

        head_layers: int = option(3, choices=(2, 3), source="released model_util.py")
        mode: str = option("attraction", choices=("attraction", "elimination"), source="Eq. 3, 2")
        support_size: int = option(8, at_least=0, help="views beyond two", source="run.py")
        multi_crop: bool = option(True, help="support views are anchors too", source="objective.py")
        score_views: str = option("all", choices=("all", "support"), source="released; the paper")
        aggregate: str = option("max", choices=("max", "mean"), source="released; Figure 5")
        top_k: int = option(10, at_least=0, help="0: threshold only", source="released run.py")
        threshold: float = option(0.7, help="-1: top-k only; 2: none", source="run.py")
        memory_multiplier: int = option(
            16, at_least=0, help="keys per image; 0: no momentum encoder", source="run.py"
        )
        momentum: float = option(0.999, at_least=0, at_most=1, source="released run.py")
        hidden_norm: bool = option(True, help="unit embeddings", source="objective.py")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the momentum encoder and its memory, which starts as zeros (as released)."""
        super().__init__(backbone, info, config)
        self.views = ("simclr",) * (2 + config.support_size)
        self.anchors = len(self.views) if config.multi_crop else 2
        multiplier = config.memory_multiplier
        rows = (multiplier or self.anchors) * info.batch_size
        if multiplier:
            self.target = Momentum(self.backbone, self.projector)
            self.register_buffer("memory", torch.zeros(rows, config.output_dim))

    def _embed(self, views: list[Tensor]) -> Tensor:
        """Return the online embeddings (V B, D); all views are one batch for BatchNorm."""
        return self._norm(self.projector(self.backbone(torch.cat(views))))

    def _norm(self, x: Tensor) -> Tensor:
        return unit(x) if self.config.hidden_norm else x

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss over all anchors; the mask of false negatives carries no gradient."""
        config, number = self.config, len(batch.index)
        z = self._embed(batch.views[: self.anchors])
        if config.memory_multiplier:
            seen = self._norm(self.target(torch.cat(batch.views)))
            new = gather(seen[: len(z)].to(self.memory), self.anchors)
            keys = self.memory = torch.cat([new, self.memory])[: len(self.memory)]
        else:
            with torch.no_grad():
                rest = [self._embed(more)] if (more := batch.views[self.anchors :]) else []
            seen, keys = torch.cat([z.detach(), *rest]), gather(z, self.anchors)
        paper, eliminate = config.variant == "paper", config.mode == "elimination"
        support = config.score_views == "support" or (paper and config.support_size > 0)
        seen_VBD = seen.unflatten(0, (-1, number))[2 if support else 0 :]
        scores = candidate_scores(seen_VBD, keys.detach(), config.aggregate, self.anchors)
        false = top_k_mask(scores, config.top_k or len(keys), config.threshold)
        z_ABD = z.unflatten(0, (-1, number))
        loss_AB = cancelled_nce(z_ABD, keys, false, config.temperature, eliminate, paper)
        return loss_AB.mean() * (1 if paper else 2)

    def after_step(self, progress: float) -> None:
        """Move the momentum encoder towards the online one."""
        if self.config.memory_multiplier:
            self.target.update(self.config.momentum)
