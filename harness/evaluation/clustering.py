"""How classes fall into clusters of the features: DnC (arXiv 2105.08054), Table 6 and Fig. 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation import clusters
from harness.evaluation.measures import Measure, declare
from harness.evaluation.registry import register
from harness.evaluation.splits import Features
from harness.lazy import torch
from methods.options import option

METRICS = declare(
    Measure("majority_top1", "majority-vote accuracy"),
    Measure("mutual_information_bits", "mutual information with the classes", "bits", 0.0,
            float("inf")),
    Measure("class_in_main_cluster", "share of a class in its main cluster", better=""))


@dataclass(frozen=True)
class Config:
    """Options of the clusters' evaluation."""

    k: int = option(0, at_least=0, help="clusters; 0: as many as classes",
                    source="1000 on ImageNet in DnC, Table 6")
    split: str = option("train", choices=("train", "validation"), help="what is clustered")
    seed: int = option(0, at_least=0, help="of the starts of k-means")


@register("clusters", config=Config, revision=1, metrics=METRICS)
def clustering(data: Features, config: Config,
               class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Spherical k-means of the features, scored by the classes: majority vote, information, share.

    Raises ValueError for fewer images than clusters.
    """
    split = data.train if config.split == "train" else data.validation
    found = clusters.spherical_kmeans(split.features.cpu().numpy(), config.k or data.num_classes,
                                      config.seed)
    labels, assignment = split.labels.cpu(), torch.from_numpy(found.assignment)
    table = torch.zeros(data.num_classes, int(assignment.max()) + 1, dtype=torch.float64)
    table.index_put_((labels, assignment), torch.ones(len(labels), dtype=torch.float64),
                     accumulate=True)
    shares = table.amax(1) / table.sum(1).clamp_min(1)
    return {**clusters.agreement(labels.numpy(), found.assignment), "n_test": len(labels),
            "main_cluster_of_class": shares.tolist(), "objective": found.objective,
            "selected": {}}
