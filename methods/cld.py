"""CLD: "Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination".

arXiv 2008.03813. Released code: frank-xwang/CLD-UnsupervisedLearning.

Shapes: N images of the batch, D embedding width, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.branches import BankBranch, QueueBranch
from methods.parts.grouping import group, warn_of_singletons
from methods.parts.heads import MLP, NormLinear
from methods.parts.losses import full_precision, unit
from methods.parts.stores import Bank, Queue
from methods.registry import register


@full_precision
def cross_level(g_ND: Tensor, centroids_KD: Tensor, labels_N: Tensor, temperature: float) -> Tensor:
    """Return the mean cross entropy of one view's features against the other view's groups."""
    return F.cross_entropy(g_ND @ centroids_KD.T / temperature, labels_N)


@register("cld")
class CLD(Method):
    """Tell images apart, and tell the groups of the batch apart across views."""

    paper = (
        "Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination,"
        " arXiv 2008.03813"
    )
    views: tuple[str, ...] = ("cld_a_plus", "cld_a_plus", "cld_a_plus")
    keeps = ("ema", "queue")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of CLD; the defaults are those of MoCo v2 + CLD on ImageNet."""

        instance: str = option("mocov2", choices=("mocov2", "moco", "npid"), source="scripts/")
        temperature: float = option(0.2, above=0, help="moco 0.07, npid 0.1", source="scripts/")
        group_temperature: float = option(0.4, above=0, help="CIFAR 0.2", source="scripts/")
        weight: float = option(0.25, at_least=0, help="lambda; npid 1, moco 0.8", source="scripts/")
        groups: int = option(120, at_least=1, help="CIFAR 100 to 200", source="scripts/")
        iterations: int = option(5, at_least=1, source="scripts/")
        grouping: str = option("kmeans", choices=("kmeans", "ncuts"), source="scripts/")
        eigenvectors: int = option(15, at_least=1, help="of ncuts", source="choice")
        head: str = option(
            "mlp", choices=("mlp", "linear"), help="CIFAR: linear", source="scripts/"
        )
        norm_head: bool = option(True, help="NormLinear as last layer", source="scripts/")
        hidden_dim: int = option(2048, at_least=1, source="models/ResNet.py")
        output_dim: int = option(128, at_least=1, source="scripts/")
        queue_size: int = option(65536, at_least=1, source="models/builder.py")
        momentum: float = option(0.999, at_least=0, at_most=1, help="npid 0.5", source="scripts/")
        variant: str = option(
            "released",
            choices=("released", "paper"),
            help="released, the default, since the published numbers come from it: gradient through"
            " centroids, and NPID's first view meets the moved bank; paper: both are constants",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add a trunk shared by the instance head and the group head, and the instance branch."""
        super().__init__(backbone, info, config)
        mlp, width = config.head == "mlp", config.output_dim
        inner = config.hidden_dim if mlp else info.feature_dim
        layers = [nn.Linear(info.feature_dim, inner), nn.ReLU(inplace=True)] if mlp else []
        last = NormLinear if config.norm_head else nn.Linear
        self.trunk = nn.Sequential(*layers)
        self.instance_head, self.group_head = last(inner, width), last(inner, width)
        warn_of_singletons(config.groups, info.batch_size)
        self.instance: BankBranch | QueueBranch
        if config.instance == "npid":
            self.views = self.views[:2]
            bank = Bank(info.num_images, width, config.momentum)
            self.instance = BankBranch(bank, config.temperature, config.variant == "released")
        else:
            cifar = config.instance == "moco"
            queue = Queue(config.queue_size, width, uniform=cifar)
            online = (self.backbone, self.trunk, self.instance_head)
            settings = config.temperature, config.momentum, not cifar
            self.instance = QueueBranch(online, queue, *settings)

    @property
    def projector(self) -> MLP:
        """Return the instance head with its trunk."""
        return MLP(*self.trunk, self.instance_head)

    def group_loss(self, g1_ND: Tensor, g2_ND: Tensor) -> Tensor:
        """Return the cross-level loss: each view's features against the other view's groups."""
        config, sides = self.config, []
        for g_ND in (g1_ND, g2_ND):
            labels_N, centroids_KD = group(
                g_ND, config.grouping, config.groups, config.iterations, config.eigenvectors
            )
            constant = config.variant == "paper"
            sides.append((centroids_KD.detach() if constant else centroids_KD, labels_N))
        first = cross_level(g1_ND, *sides[1], config.group_temperature)
        return (first + cross_level(g2_ND, *sides[0], config.group_temperature)) / 2

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the instance loss and lambda times the group loss."""
        hidden = [self.trunk(self.backbone(view)) for view in batch.views[:2]]
        queries = [unit(self.instance_head(h)) for h in hidden]
        g1_ND, g2_ND = (unit(self.group_head(h)) for h in hidden)
        banked = isinstance(self.instance, BankBranch)
        instance = self.instance.loss(queries, batch.index if banked else batch.views[2])
        return {"instance": instance, "group": self.config.weight * self.group_loss(g1_ND, g2_ND)}

    def after_step(self, progress: float) -> None:
        """Update the queue and the key encoder, or the bank."""
        self.instance.after_step()
