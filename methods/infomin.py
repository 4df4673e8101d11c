"""InfoMin: "What Makes for Good Views for Contrastive Learning?", arXiv 2005.10243.

Released code: HobbitLong/PyContrast, --method InfoMin. MoCo with strong augmentation and a jigsaw.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info
from methods.moco_v2 import MoCoV2
from methods.options import option
from methods.parts.heads import Jigsaw
from methods.parts.losses import unit
from methods.registry import register


@register("infomin")
class InfoMin(MoCoV2):
    """MoCo whose key is also met by a query made of nine shuffled patches of the image."""

    paper = "What Makes for Good Views for Contrastive Learning?, arXiv 2005.10243"
    views: tuple[str, ...] = ("cld_d", "cld_d", "infomin_jigsaw")
    average_first = False

    @dataclass(frozen=True)
    class Config(MoCoV2.Config):
        """Options of InfoMin."""

        temperature: float = option(0.15, above=0, source="released base_options.py")
        jigsaw: bool = option(True, help="False: augmentation only", source="base_options.py")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the jigsaw's own head."""
        super().__init__(backbone, info, config)
        if config.jigsaw:
            self.jigsaw = Jigsaw(info.feature_dim, config.hidden_dim, config.output_dim)
        else:
            self.views = self.views[:2]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean InfoNCE of the query and of the jigsaw query (beta = 0.5)."""
        query, key, *patches = batch.views
        queries = [unit(self.projector(self.backbone(query)))]
        queries += [unit(self.jigsaw(self.backbone, view)) for view in patches]
        return self.instance.loss(queries, key)
