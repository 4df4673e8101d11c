"""Alignment and uniformity on the sphere: Wang and Isola, arXiv 2005.10242."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.recipes import RECIPES
from harness.evaluation.measures import Measure, declare
from harness.evaluation.registry import register
from harness.evaluation.subject import Subject
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

METRICS = declare(
    Measure("alignment", "alignment of two views", "", 0.0, float("inf"), "lower"),
    Measure("uniformity", "uniformity", "", float("-inf"), 0.0, "lower"))
BATCH = 256
BLOCK = 1024  # rows whose distances are held together


@dataclass(frozen=True)
class Config:
    """Options of alignment and uniformity."""

    view: str = option("simclr", choices=tuple(RECIPES), help="how both views are made")
    images: int = option(2048, at_least=2, help="at most so many training images, drawn by seed")
    alpha: float = option(2.0, above=0, help="power of the distance", source="arXiv 2005.10242")
    t: float = option(2.0, above=0, help="of the Gaussian kernel", source="arXiv 2005.10242")


@register("alignment", config=Config, revision=1, takes="encoder", metrics=METRICS, several=True)
def views_apart(subject: Subject, config: Config,
                class_counts: Sequence[int] | None) -> dict[str, Any]:
    """How near two views of an image are, and how evenly all views spread over the sphere."""
    first, second = embedded_views(subject, config)
    spread = (uniformity(first, config.t) + uniformity(second, config.t)) / 2
    return {"alignment": alignment(first, second, config.alpha), "uniformity": spread,
            "n_test": len(first), "selected": {}}


def alignment(first: Tensor, second: Tensor, alpha: float = 2.0) -> float:
    """Mean of |x - y|^alpha over pairs of unit rows (n, d): their eq. 4; 0 for equal views."""
    return float((first - second).double().norm(dim=1).pow(alpha).mean())


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """log of the mean of exp(-t |x - y|^2) over all pairs of unit rows (n, d): their eq. 5.

    0 when all rows are one point. Raises ValueError for fewer than 2 rows.
    """
    n = len(x)
    if n < 2:
        raise ValueError("uniformity needs 2 images: give more training images")
    x, total = x.double(), 0.0
    for start in range(0, n, BLOCK):
        block = x[start:start + BLOCK]
        distance = (2 - 2 * block @ x.T).clamp_min(0)
        rows = torch.arange(len(block))
        distance[rows, rows + start] = torch.inf  # not a pair
        total += float((-t * distance).exp().sum())
    # rounding may leave a hair above the mean of ones
    return min(0.0, float(torch.tensor(total / (n * (n - 1)), dtype=torch.float64).log()))


def embedded_views(subject: Subject, config: Config) -> tuple[Tensor, Tensor]:
    """Unit embeddings (n, d) of two views of each image, float32 on the CPU."""
    # imported here: they import torch
    from datasets import views
    from harness.training.precision import autocast
    from harness.training.seeds import derive

    images = subject.splits().train.features
    generator = torch.Generator().manual_seed(derive(subject.seed, "alignment"))
    rows = torch.randperm(len(images), generator=generator)[:config.images]
    network = subject.network(subject.layer).eval()
    found: list[list[Tensor]] = [[], []]
    for part in rows.split(BATCH):
        pixels = images[part].to(subject.device)
        for side in found:
            x = views.apply(pixels, RECIPES[config.view], generator, subject.size)
            with torch.no_grad(), autocast(subject.precision, subject.device):
                embedded = network(x)
            side.append(torch.nn.functional.normalize(embedded.float()).cpu())
    if not all(torch.isfinite(part).all() for side in found for part in side):
        raise ValueError("the embeddings are not finite: the encoder has diverged; lower its lr or "
                         "use precision=fp32")
    return torch.cat(found[0]), torch.cat(found[1])
