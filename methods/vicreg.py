"""VICReg: "Variance-Invariance-Covariance Regularization for Self-Supervised Learning".

arXiv 2105.04906. Released code: facebookresearch/vicreg, main_vicreg.py.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.distributed import gather
from methods.parts.heads import mlp
from methods.parts.losses import full_precision
from methods.parts.moments import off_diagonal
from methods.registry import register


@full_precision
def spread(z_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance hinge (Eq. 1, with epsilon 1e-4) and the covariance term (Eq. 3)."""
    z_ND = gather(z_ND)
    hinge = F.relu(1 - (z_ND.var(dim=0) + 1e-4).sqrt()).mean()
    centred_ND = z_ND - z_ND.mean(dim=0)
    covariance_DD = centred_ND.T @ centred_ND / (len(z_ND) - 1)
    return hinge, off_diagonal(covariance_DD).square().sum() / z_ND.shape[1]


@register("vicreg")
class VICReg(Method):
    """Bring the views together; keep each dimension's variance up and all covariances down."""

    paper = "VICReg: Variance-Invariance-Covariance Regularization, arXiv 2105.04906"
    views = (
        {"recipe": "byol_t", "rule": "torchvision"},
        {"recipe": "byol_t_prime", "rule": "torchvision"},
    )
    couples = "variance and covariance over the batch"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of VICReg."""

        invariance: float = option(25.0, at_least=0, source="released main_vicreg.py, --sim-coeff")
        variance: float = option(25.0, at_least=0, source="released main_vicreg.py, --std-coeff")
        covariance: float = option(1.0, at_least=0, source="released main_vicreg.py, --cov-coeff")
        hidden_dim: int = option(8192, at_least=1, source="released main_vicreg.py, --mlp")
        output_dim: int = option(8192, at_least=1, source="released main_vicreg.py, --mlp")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the three-layer expander."""
        super().__init__(backbone, info, config)
        dims = [info.feature_dim, config.hidden_dim, config.hidden_dim, config.output_dim]
        self.projector = mlp(dims, last_bias=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the three terms of Eq. 6; the variance is a mean over the views, as released."""
        z1_ND, z2_ND = (self.projector(self.backbone(view)).float() for view in batch.views)
        hinges, covariances = zip(spread(z1_ND), spread(z2_ND), strict=True)
        config = self.config
        return {
            "invariance": config.invariance * F.mse_loss(z1_ND, z2_ND),
            "variance": config.variance * torch.stack(hinges).mean(),
            "covariance": config.covariance * torch.stack(covariances).sum(),
        }
