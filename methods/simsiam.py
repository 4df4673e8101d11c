"""SimSiam: "Exploring Simple Siamese Representation Learning", arXiv 2011.10566.

Released code: facebookresearch/simsiam, simsiam/builder.py.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.heads import mlp
from methods.parts.losses import cosine_regression
from methods.registry import register


@register("simsiam")
class SimSiam(Method):
    """Predict one view's projection from the other's, with the gradient stopped at the target."""

    paper = "Exploring Simple Siamese Representation Learning, arXiv 2011.10566"
    views = ("moco_v2", "moco_v2")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of SimSiam."""

        output_dim: int = option(2048, at_least=1, source="released main_simsiam.py, --dim")
        hidden_dim: int = option(512, at_least=1, help="predictor", source="--pred-dim")
        fixed_predictor: bool = option(
            False,
            added=True,
            help="the predictor's learning rate stays at its peak",
            source="released README.md and main_simsiam.py, --fix-pred-lr",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the three-layer projector and the bottleneck predictor."""
        super().__init__(backbone, info, config)
        inner, width = info.feature_dim, config.output_dim
        # The released last Linear has a frozen bias, which the BatchNorm after it removes anyway.
        self.projector = mlp(
            [inner, inner, inner, width], hidden_bias=False, last_bias=False, last_norm="plain"
        )
        self.fixed_rate = ("predictor",) if config.fixed_predictor else ()
        self.predictor = mlp([width, config.hidden_dim, width], hidden_bias=False)

    def loss(self, batch: Batch) -> Tensor:
        """Return Eq. 2 plus 1, so that 0 is the least: the mean over directions of 1 - cos."""
        z1_ND, z2_ND = (self.projector(self.backbone(view)) for view in batch.views)
        first = cosine_regression(self.predictor(z1_ND), z2_ND.detach())
        second = cosine_regression(self.predictor(z2_ND), z1_ND.detach())
        # |p - z|^2 of unit vectors is 2 - 2 cos.
        return (first + second) / 4
