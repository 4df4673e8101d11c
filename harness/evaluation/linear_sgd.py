"""Linear classification by SGD, every setting of the grid trained in one pass over the data.

The protocol of DnC (arXiv 2105.08054, appendix F), BYOL, FNC, MoCo and CLD, in two forms:
`linear_sgd` on cached features of plain views, `linear_images` on crops and flips as the papers do,
with one forward of the frozen backbone for all settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.evaluation.metrics import accuracy
from harness.evaluation.registry import register
from harness.evaluation.scores import report_blocks
from harness.evaluation.sgd_config import OnImages, Settings, Sgd
from harness.evaluation.splits import Features, Labelled, ValidationSplit, best
from harness.evaluation.subject import Subject
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from harness.evaluation.heads import Heads


@dataclass(frozen=True)
class Config(Sgd):
    """Options of SGD on cached features."""

    seed: int = option(0, at_least=0, help="of the order of the images")
    rows: str = option("as_is", choices=("as_is", "standard"),
                       help="features as they are, or standardised by the training split")


@register("linear_sgd", config=Config, revision=2, ranks=True)
def linear_sgd(data: Features, config: Config,
               class_counts: Sequence[int] | None) -> dict[str, Any]:
    """SGD on cached features of plain views; learning rate and weight decay chosen on validation.

    Raises FloatingPointError where every setting diverges.
    """
    scale = _scaling(data.train.features) if config.rows == "standard" else None

    def fit(settings: list[Settings], *parts: Labelled) -> Heads:
        from harness.evaluation.heads import Heads, Rows, batches

        rows = Rows(parts)
        heads = Heads.start(data.train.features.shape[1], data.num_classes, settings, config,
                            data.train.features.device)
        for _, index, factor, _ in batches(len(rows), config, config.seed):
            x, labels = rows.take(index)
            heads.step(_scaled(x, scale), labels, factor)
        return heads

    def scores(heads: Heads, index: int, features: Tensor) -> Iterator[Tensor]:
        return (heads.scores(index, _scaled(block, scale)) for block in _blocks(features))

    return _choose(data, config, class_counts, fit, scores)


@register("linear_images", config=OnImages, revision=2, takes="encoder", ranks=True)
def linear_images(subject: Subject, config: OnImages,
                  class_counts: Sequence[int] | None) -> dict[str, Any]:
    """SGD on crops and flips of images, backbone frozen; settings are chosen on validation."""
    from harness.evaluation.frozen import Frozen  # imports torch

    data = subject.splits()
    frozen = Frozen(subject, config, data.num_classes)
    return _choose(data, config, class_counts, frozen.fit, frozen.scores)


def _choose(data: Features, config: Sgd, class_counts: Sequence[int] | None, fit: Any,
            scores: Any) -> dict[str, Any]:
    """Fit every setting at once, take the best on validation, measure it on the test split.

    fit(settings, *splits) -> Heads; scores(heads, index, features) -> blocks of scores (b, C).
    """
    if data.train.labels.ndim > 1:
        raise ValueError("SGD fits one class an image, and these have several: use linear")
    settings = config.grid()
    heads = fit(settings, data.train)

    def score(index: int, split: ValidationSplit) -> float:
        if not heads.finite(index):
            return -1.0
        found = [block.argmax(1) for block in scores(heads, index, split.features)]
        return accuracy(torch.cat(found), split.labels)

    chosen, value = best(range(len(settings)), score, data.validation)
    if value < 0:
        raise FloatingPointError("linear classification: every setting diverged: lower lrs")
    if config.retrain:
        heads, index = fit([settings[chosen]], data.train, data.validation), 0
    else:
        index = chosen
    selected = {**asdict(settings[chosen]), "validation_top1": value, "settings": len(settings)}
    return report_blocks(scores(heads, index, data.test.features), data.test.read_labels(),
                         data.num_classes, class_counts, selected)


def _blocks(features: Tensor) -> Iterator[Tensor]:
    """The rows in parts, so that memory does not grow with their number."""
    from harness.evaluation.heads import BLOCK

    yield from features.split(BLOCK)


def _scaling(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d,) of the columns, float32, summed in float64 block by block."""
    total = torch.zeros(2, features.shape[1], dtype=torch.float64, device=features.device)
    for block in _blocks(features):
        total += torch.stack([block.double().sum(0), block.double().square().sum(0)])
    mean, square = total / len(features)
    deviation = (square - mean.square()).clamp_min(0).sqrt()
    deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
    return mean.float(), deviation.float()


def _scaled(x: Tensor, scale: tuple[Tensor, Tensor] | None) -> Tensor:
    return x.float() if scale is None else (x.float() - scale[0]) / scale[1]
