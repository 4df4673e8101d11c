"""Evaluations of frozen features, one file each; none knows a method. No torch at import."""

from __future__ import annotations

from harness.evaluation import knn as _knn
from harness.evaluation import linear as _linear
from harness.evaluation.registry import Evaluation, evaluation, evaluations

__all__ = ["EVALUATIONS", "Evaluation", "evaluation", "evaluations"]

assert _knn and _linear  # importing them registers them
EVALUATIONS = evaluations()
