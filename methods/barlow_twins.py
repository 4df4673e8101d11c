"""Barlow Twins: "Barlow Twins: Self-Supervised Learning via Redundancy Reduction".

arXiv 2103.03230. Released code: facebookresearch/barlowtwins, main.py.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.distributed import total, world
from methods.parts.heads import mlp
from methods.parts.losses import full_precision
from methods.parts.moments import off_diagonal
from methods.registry import register


@full_precision
def redundancy(z1_ND: Tensor, z2_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sums of Eq. 1: of (1 - C_ii)^2 and of C_ij^2, C the cross-correlation."""
    correlation_DD = total(z1_ND.T @ z2_ND) / (len(z1_ND) * world())
    on = (correlation_DD.diagonal() - 1).square().sum()
    return on, off_diagonal(correlation_DD).square().sum()


@register("barlow_twins")
class BarlowTwins(Method):
    """Make the cross-correlation of the two views' embeddings the identity."""

    paper = "Barlow Twins: Self-Supervised Learning via Redundancy Reduction, arXiv 2103.03230"
    views = (
        {"recipe": "byol_t", "rule": "torchvision"},
        {"recipe": "byol_t_prime", "rule": "torchvision"},
    )
    couples = "the cross-correlation over the batch"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of Barlow Twins."""

        trade_off: float = option(0.0051, at_least=0, help="lambda", source="released main.py")
        hidden_dim: int = option(8192, at_least=1, source="released main.py, --projector")
        output_dim: int = option(8192, at_least=1, source="released main.py, --projector")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the three-layer projector and the BatchNorm that standardises its output."""
        super().__init__(backbone, info, config)
        hidden = config.hidden_dim
        self.projector = mlp(
            [info.feature_dim, hidden, hidden, config.output_dim],
            hidden_bias=False,
            last_bias=False,
        )
        self.standardise = nn.BatchNorm1d(config.output_dim, affine=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the invariance and the redundancy term of Eq. 1."""
        z1_ND, z2_ND = (
            self.standardise(self.projector(self.backbone(view))) for view in batch.views
        )
        on, off = redundancy(z1_ND, z2_ND)
        return {"invariance": on, "redundancy": self.config.trade_off * off}
