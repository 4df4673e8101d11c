"""SimCLR: "A Simple Framework for Contrastive Learning of Visual Representations".

arXiv 2002.05709. The 3-layer head is that of SimCLR v2, "Big Self-Supervised Models are Strong
Semi-Supervised Learners", arXiv 2006.10029. Released code: google-research/simclr,
objective.py and model_util.py.

Shapes: N images of the batch, D embedding width; `2N` both views, the first view's rows first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.heads import mlp
from methods.parts.losses import nt_xent
from methods.registry import register


@register("simclr")
class SimCLR(Method):
    """Two views of an image attract, all others in the batch repel."""

    paper = (
        "A Simple Framework for Contrastive Learning of Visual Representations, arXiv 2002.05709"
    )
    views: tuple[str, ...] = ("simclr", "simclr")
    couples = "negatives of the batch"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of SimCLR."""

        temperature: float = option(
            0.1, above=0, help="0.5 on CIFAR-10", source="released run.py and README.md"
        )
        head_layers: int = option(
            2, choices=(2, 3), help="2 is v1, 3 is v2", source="arXiv 2002.05709, section 4.2"
        )
        hidden_dim: int = option(2048, at_least=1, source="the width of ResNet-50's features")
        output_dim: int = option(128, at_least=1, source="arXiv 2002.05709, section 2.1")
        variant: str = option(
            "released",
            choices=("released", "paper"),
            help="released: sum of the two directions, twice the paper's mean over 2N anchors;"
            " the default, since the published learning rates were used with it",
            source="released objective.py",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the projection head: no biases, BatchNorm on every layer, the last without offset."""
        super().__init__(backbone, info, config)
        hidden = [config.hidden_dim] * (config.head_layers - 1)
        self.projector = mlp(
            [info.feature_dim, *hidden, config.output_dim],
            hidden_bias=False,
            last_bias=False,
            last_norm="scale",
        )

    def temperature(self, progress: float) -> float:
        """Return the temperature at this point of the run; a constant here."""
        return float(self.config.temperature)

    def contrast(self, a_ND: Tensor, b_ND: Tensor, progress: float) -> Tensor:
        """Return the variant's loss of two sets of embeddings of the same images."""
        mean = nt_xent(a_ND, b_ND, self.temperature(progress))
        return 2 * mean if self.config.variant == "released" else mean

    def loss(self, batch: Batch) -> Tensor:
        """Return NT-Xent (Eq. 1). Both views pass through the network, and its BN, as one batch."""
        z_2ND = self.projector(self.backbone(torch.cat(batch.views)))
        first_ND, second_ND = z_2ND.chunk(2)
        return self.contrast(first_ND, second_ND, batch.progress)
