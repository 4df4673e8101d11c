"""DnC's last stage: "Divide and Contrast: Self-supervised Learning from Uncurated Data".

arXiv 2105.08054, section 3.2, Eq. 2. A student regresses the base model and the expert of each
image's cluster.

Shapes: N images of the batch, D embedding width, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.heads import mlp
from methods.parts.losses import half_squared_error
from methods.registry import register


@register("distil")
class Distil(Method):
    """Regress the projections of the base model and of the right expert."""

    paper = "Divide and Contrast: Self-supervised Learning from Uncurated Data, arXiv 2105.08054"
    views = ("byol_t", "byol_t_prime")
    needs_teachers = True

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of the distillation."""

        hidden_dim: int = option(4096, at_least=1, source="arXiv 2105.08054, section 3.2")
        output_dim: int = option(256, at_least=1, source="arXiv 2105.08054, section 3.1")
        teachers: str = option(
            "both", choices=("both", "base", "experts"), source="arXiv 2105.08054, Table 11"
        )
        normalise_regression: bool = option(
            False,
            help="unit regressor outputs cost 0.4 points",
            source="arXiv 2105.08054, Table 19",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the projector g with a last BatchNorm and a regressor without one per teacher.

        `info.teacher_dims` lists the base first, if it teaches, then the experts by group.
        """
        super().__init__(backbone, info, config)
        self.with_base = config.teachers != "experts"
        self.num_experts = len(info.teacher_dims) - self.with_base
        wanted = 0 if config.teachers == "base" else info.num_groups
        if self.num_experts != wanted:
            raise ValueError(
                f"distil with teachers='{config.teachers}' over {info.num_groups} groups needs"
                f" {wanted} experts, got {self.num_experts}: give one teacher for each group"
            )
        hidden, output = config.hidden_dim, config.output_dim
        self.projector = mlp([info.feature_dim, hidden, output], last_norm="affine")
        self.regressors = nn.ModuleList(mlp([output, hidden, dim]) for dim in info.teacher_dims)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the two terms of Eq. 2, each a mean over the images and the views."""
        parts: dict[str, list[Tensor]] = {}
        for v, view in enumerate(batch.views):
            z_ND = self.projector(self.backbone(view))
            # Every regressor sees the whole batch, so that its BatchNorm does too; an image's row
            # of the loss, and so its gradient, comes from its own expert's regressor only.
            rows_TN = [
                half_squared_error(r(z_ND), t[v], self.config.normalise_regression)
                for r, t in zip(self.regressors, batch.teachers, strict=True)
            ]
            if self.with_base:
                parts.setdefault("base", []).append(rows_TN[0].mean())
            if self.num_experts:
                assert batch.groups is not None
                experts_KN = torch.stack(rows_TN[-self.num_experts :])
                own_N = experts_KN.gather(0, batch.groups[None])[0]
                parts.setdefault("experts", []).append(own_N.mean())
        return {name: torch.stack(terms).mean() for name, terms in parts.items()}
