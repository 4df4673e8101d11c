"""CLD: "Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination".

arXiv 2008.03813. Released code: frank-xwang/CLD-UnsupervisedLearning.

Shapes: N images of the batch, D embedding width, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.distributed import deal
from methods.parts.grouping import cross_level_loss
from methods.parts.heads import MLP, Jigsaw, forked
from methods.parts.instance import VIEWS, instance_branch, instance_loss
from methods.parts.losses import unit
from methods.registry import register


@register("cld")
class CLD(Method):
    """Tell images apart, and tell the groups of the batch apart across views."""

    paper = (
        "Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination,"
        " arXiv 2008.03813"
    )
    views: tuple[str, ...] = ("cld_a_plus", "cld_a_plus", "cld_a_plus")
    keeps = ("ema", "queue")
    couples = "the groups of the batch"
    dealt = ("key_splits", "group_splits")
    refuses = (
        ("queue_size < batch_size and instance != 'npid' and instance != 'byol'",
         "option 'queue_size' {queue_size} is smaller than the batch of {batch_size}: raise it"
         " or lower the batch size"),
        ("grouping == 'ncuts' and eigenvectors > batch_size // group_splits",
         "option 'eigenvectors' {eigenvectors} exceeds the batch of {batch_size // group_splits}:"
         " lower it"),
        ("key_splits > 1 and key_splits > batch_size // 2"
         " or group_splits > 1 and group_splits > batch_size // 2",
         "'key_splits', 'group_splits': too many parts for {batch_size} images: lower them"),
    )
    warns = (
        ("groups > batch_size // group_splits",
         "{groups} groups exceed the batch of {batch_size // group_splits}: each image is its own"
         " group, and the group loss is InfoNCE between the views, as in the released ImageNet"
         " scripts, there with {groups - batch_size // group_splits} constant logits of 0; lower"
         " 'groups' to group images"),
    )

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of CLD; defaults: MoCo v2 + CLD on ImageNet. InfoMin + CLD has T .15 and .8."""

        instance: str = option(
            "mocov2", choices=("mocov2", "moco", "npid", "infomin", "byol"), source="scripts/"
        )
        temperature: float = option(0.2, above=0, help="moco 0.07, npid 0.1", source="scripts/")
        group_temperature: float = option(0.4, above=0, help="CIFAR 0.2", source="scripts/")
        weight: float = option(0.25, at_least=0, help="lambda; npid 1, moco 0.8", source="scripts/")
        groups: int = option(120, at_least=1, help="CIFAR 100 to 200", source="scripts/")
        iterations: int = option(5, at_least=1, source="scripts/")
        grouping: str = option("kmeans", choices=("kmeans", "ncuts"), source="scripts/")
        eigenvectors: int = option(15, at_least=1, help="of ncuts", source="choice")
        head: str = option("mlp", choices=("mlp", "linear"), help="CIFAR linear", source="scripts/")
        norm_head: bool = option(True, help="NormLinear as last layer", source="scripts/")
        hidden_dim: int = option(2048, at_least=1, source="models/ResNet.py")
        output_dim: int = option(128, at_least=1, source="scripts/")
        queue_size: int = option(65536, at_least=1, source="models/builder.py")
        momentum: float = option(0.999, at_least=0, at_most=1, help="npid 0.5", source="scripts/")
        key_splits: int = option(1, at_least=1, added=True, help="shuffling BN; released: 8 GPUs")
        group_splits: int = option(1, at_least=1, added=True, help="grouped apart; 8 GPUs")
        variant: str = option(
            "released",
            choices=("released", "paper"),
            help="released, the default, since the published numbers come from it: gradient through"
            " centroids, empty groups are candidates, NPID's first view meets the moved bank and"
            " InfoMin's second query its own key; paper: none of these",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add a trunk shared by the instance head and the group head, and the instance branch."""
        super().__init__(backbone, info, config)
        for name in self.dealt:
            deal(name, getattr(config, name), info.batch_size)
        deep, byol = config.head == "mlp", config.instance == "byol"
        widths = info.feature_dim, config.hidden_dim if deep else None, config.output_dim
        self.trunk, self.instance_head, self.group_head = forked(*widths, config.norm_head, byol)
        self.views = VIEWS.get(config.instance, self.views)
        if config.instance == "infomin":
            self.jigsaw = Jigsaw(info.feature_dim, config.hidden_dim, config.output_dim)
        online = self.backbone, self.trunk, self.instance_head
        self.instance = instance_branch(config, online, info)

    @property
    def projector(self) -> MLP:
        """Return the instance head with its trunk."""
        return MLP(*self.trunk, self.instance_head)

    def group_loss(self, g1_ND: Tensor, g2_ND: Tensor) -> Tensor:
        """Return the cross-level loss: each view's features against the other view's groups."""
        return cross_level_loss(g1_ND, g2_ND, self.config, self.config.variant == "released")

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the instance loss and lambda times the group loss."""
        hidden = [self.trunk(self.backbone(view)) for view in batch.views[:2]]
        raw = [self.instance_head(h) for h in hidden]
        g1_ND, g2_ND = (unit(self.group_head(h)) for h in hidden)
        instance = instance_loss(
            self.instance, raw, batch, lambda patches: self.jigsaw(self.backbone, patches)
        )
        return {"instance": instance, "group": self.config.weight * self.group_loss(g1_ND, g2_ND)}

    def after_step(self, progress: float) -> None:
        """Update the queue and the key encoder, or the bank, or the target."""
        self.instance.after_step(progress)
