"""DnC: "Divide and Contrast: Self-supervised Learning from Uncurated Data", arXiv 2105.08054.

No torch here: this is the expression that the planner turns into stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from methods.options import option
from methods.recipe import Cluster, Pretrain, recipe


@dataclass(frozen=True)
class Config:
    """Options of DnC. The three shares divide the row's epochs; only their ratios matter."""

    base: str = option("moclr", choices=("moclr", "simclr", "byol"), source="Tables 1, 15 and 16")
    k: int = option(5, at_least=1, help="clusters; 10 for 4500 epochs", source="Table 2")
    layer: str = option("hidden", choices=("pooled", "hidden", "output"), source="Table 6")
    base_share: float = option(
        200.0,
        above=0,
        help="200/600/200 is the paper's 1000-epoch schedule; 3000 epochs: 1000/1500/500 (k=5);"
        " 4500 epochs: 1000/3000/500 (k=10)",
        source="Table 2",
    )
    experts_share: float = option(600.0, above=0, source="Table 2")
    distil_share: float = option(200.0, above=0, source="Table 2")
    partition: str = option(
        "clusters",
        choices=("clusters", "random", "all"),
        help="what an expert sees: its cluster, a random k-th, or every image for a k-th of the"
        " epochs (the images are then dealt to the experts at random for distillation, on which"
        " the paper is silent)",
        source="Table 10",
    )
    distil_from: str = option("both", choices=("both", "base", "experts"), source="Table 11")
    normalise_regression: bool = option(False, source="Table 19")


@recipe(
    "dnc",
    config=Config,
    paper="Divide and Contrast: Self-supervised Learning from Uncurated Data, arXiv 2105.08054",
)
def dnc(epochs: float, options: Mapping[str, Any]) -> Pretrain:
    """Train a base, divide the images by it, train an expert per part, distil them all."""
    k, method = options["k"], options["base"]
    shares = [options[f"{stage}_share"] for stage in ("base", "experts", "distil")]
    n1, n2, n3 = (epochs * share / sum(shares) for share in shares)

    base = Pretrain(method, n1)
    by = "features" if options["partition"] == "clusters" else "random"
    groups = Cluster(base, k, options["layer"], by)
    if options["partition"] == "all":
        experts = [Pretrain(method, n2 / k, replica=i + 1) for i in range(k)]
    else:
        experts = [Pretrain(method, n2, subset=(groups, i)) for i in range(k)]

    source = options["distil_from"]
    teachers = [] if source == "experts" else [base]
    teachers += [] if source == "base" else experts
    student = {"teachers": source, "normalise_regression": options["normalise_regression"]}
    needed = None if source == "base" else groups
    return Pretrain("distil", n3, student, teachers=tuple(teachers), groups=needed)
