"""Reference rows: what an accuracy is worth without self-supervision, and with labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, Info, Method
from methods.options import option
from methods.registry import register


@register("random_init")
class RandomInit(Method):
    """The backbone as it is initialised: what the architecture alone is worth."""

    paper = "reference: untrained network"
    trainable = False


@register("checkpoint")
class Checkpoint(Method):
    """The backbone with the weights of a file: a network that somebody else has trained."""

    paper = "reference: weights from a file"
    trainable = False

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Which file: filled in from `checkpoint: FILE` of a grid's variant."""

        sha256: str = option("", help="content of the file, from grid.variants.NAME.checkpoint")


@register("raw_pixels")
class RawPixels(Method):
    """The normalised pixels at 32 x 32 themselves: what the evaluation alone is worth."""

    paper = "reference: no network"
    trainable = False

    def __init__(self, backbone: nn.Module, info: Info, config: Method.Config) -> None:
        """Keep no backbone: there is nothing to save."""
        super().__init__(nn.Identity(), info, config)
        self._pixels = nn.Sequential(nn.AdaptiveAvgPool2d(32), nn.Flatten())

    @property
    def encoder(self) -> nn.Module:
        """Return the map (B, 3, H, W) -> (B, 3072)."""
        return self._pixels


@register("supervised")
class Supervised(Method):
    """Cross entropy on the labels with a linear head: what the labels are worth."""

    paper = "reference: supervised learning"
    views = ("supervised",)
    needs_labels = True
    layers = ("pooled", "output")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of the supervised reference."""

        label_smoothing: float = option(0.0, at_least=0, below=1, help="share given to all classes")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the classifier."""
        super().__init__(backbone, info, config)
        self.projector = nn.Linear(info.feature_dim, info.num_classes)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy of the images' labels."""
        assert batch.labels is not None
        logits_NC = self.projector(self.backbone(batch.views[0])).float()
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits_NC, batch.labels, label_smoothing=smoothing)
