"""MoCo v2: "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297.

Released code: facebookresearch/moco, moco/builder.py.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.branches import QueueBranch
from methods.parts.distributed import deal
from methods.parts.heads import mlp
from methods.parts.losses import unit
from methods.parts.stores import Queue
from methods.registry import register


@register("mocov2")
class MoCoV2(Method):
    """Contrast a query with its momentum key and with a queue of older keys."""

    paper = "Improved Baselines with Momentum Contrastive Learning, arXiv 2003.04297"
    views: tuple[str, ...] = ("moco_v2", "moco_v2")
    keeps = ("ema", "queue")
    dealt = ("key_splits",)
    couples = "the parts of shuffling BN, with key_splits"
    average_first = True
    refuses = (
        ("queue_size < batch_size",
         "option 'queue_size' {queue_size} is smaller than the batch of {batch_size}: raise it"
         " or lower the batch size"),
        (
            "key_splits > batch_size // 2",
            "option 'key_splits' {key_splits} leaves parts of fewer than 2 images of a batch of"
            " {batch_size}: lower it",
        ),
    )

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of MoCo v2."""

        temperature: float = option(0.2, above=0, source="released README.md, --moco-t 0.2")
        momentum: float = option(0.999, at_least=0, at_most=1, source="released main_moco.py")
        queue_size: int = option(65536, at_least=1, source="released main_moco.py")
        head: str = option("mlp", choices=("mlp", "linear"), source="released README.md, --mlp")
        key_splits: int = option(
            1,
            at_least=1,
            help="shuffling BN on one device; 8 imitates the released 8 GPUs",
            source="arXiv 1911.05722, section 3.3",
        )
        hidden_dim: int = option(2048, at_least=1, source="released builder.py: the feature width")
        output_dim: int = option(128, at_least=1, source="released main_moco.py")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the head, and the branch with the key encoder and the queue."""
        super().__init__(backbone, info, config)
        deal("key_splits", config.key_splits, info.batch_size)
        hidden = [config.hidden_dim] if config.head == "mlp" else []
        self.projector = mlp([info.feature_dim, *hidden, config.output_dim], norm=False)
        queue = Queue(config.queue_size, config.output_dim)
        settings = config.temperature, config.momentum, self.average_first, config.key_splits
        self.instance = QueueBranch((self.backbone, self.projector), queue, *settings)

    def loss(self, batch: Batch) -> Tensor:
        """Return InfoNCE of the first view against the second's key and the queue (Eq. 1)."""
        query, key = batch.views
        q_ND = unit(self.projector(self.backbone(query)))
        return self.instance.loss([q_ND], key)

    def after_step(self, progress: float) -> None:
        """Enqueue the keys."""
        self.instance.after_step()
