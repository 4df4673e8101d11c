"""DnC: "Divide and Contrast: Self-supervised Learning from Uncurated Data", arXiv 2105.08054.

No torch here: this is the expression that the planner turns into stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from methods.options import option
from methods.recipe import Cluster, Pretrain, recipe

# schedule -> clusters, and the epochs of base, experts and distillation. Source: Table 2.
SCHEDULES = {
    "1000": (5, (200.0, 600.0, 200.0)),
    "3000": (5, (1000.0, 1500.0, 500.0)),
    "4500": (10, (1000.0, 3000.0, 500.0)),
}


@dataclass(frozen=True)
class Config:
    """Options of DnC. The three shares divide the row's epochs; only their ratios matter."""

    base: str = option("moclr", choices=("moclr", "simclr", "byol"), source="Tables 1, 15 and 16")
    schedule: str = option(
        "custom",
        choices=("custom", "1000", "3000", "4500"),
        help="the paper's shares and clusters for so many epochs; custom: those given here",
        source="Table 2",
    )
    k: int = option(
        0, at_least=0, help="clusters; 0: the schedule's, 5, or 10 for 4500", source="Table 2"
    )
    layer: str = option("hidden", choices=("pooled", "hidden", "output"), source="Table 6")
    base_share: float = option(
        200.0,
        above=0,
        help="of a custom schedule, whose default is the paper's for 1000 epochs, 200/600/200",
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
    teacher_view: str = option(
        "same",
        choices=("same", "centre"),
        help="centre: the teachers embed the plain image once; costs 0.2 points, saves their pass",
        source="Table 11",
    )


@recipe(
    "dnc",
    config=Config,
    paper="Divide and Contrast: Self-supervised Learning from Uncurated Data, arXiv 2105.08054",
)
def dnc(epochs: float, options: Mapping[str, Any]) -> Pretrain:
    """Train a base, divide the images by it, train an expert per part, distil them all."""
    own = tuple(options[f"{stage}_share"] for stage in ("base", "experts", "distil"))
    default_k, shares = SCHEDULES.get(options["schedule"], (5, own))
    k, method = options["k"] or default_k, options["base"]
    n1, n2, n3 = (epochs * share / sum(shares) for share in shares)

    base = Pretrain(method, n1)
    by = "features" if options["partition"] == "clusters" else "random"
    groups = Cluster(base, k, options["layer"], by)
    if options["partition"] == "all":
        experts = [Pretrain(method, n2 / k, replica=i + 1) for i in range(k)]
    else:
        experts = [Pretrain(method, n2, subset=(groups, i), replica=i + 1) for i in range(k)]

    source = options["distil_from"]
    teachers = [] if source == "experts" else [base]
    teachers += [] if source == "base" else experts
    student = {"teachers": source, "normalise_regression": options["normalise_regression"]}
    needed = None if source == "base" else groups
    seen = options["teacher_view"]
    return Pretrain(
        "distil", n3, student, None, tuple(teachers), needed, replica=k + 1, teacher_view=seen
    )
