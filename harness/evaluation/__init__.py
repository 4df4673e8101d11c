"""Evaluations, one file each; none knows a method. No torch at import."""

from __future__ import annotations

from harness.evaluation import alignment as _alignment
from harness.evaluation import clustering as _clustering
from harness.evaluation import dense as _dense
from harness.evaluation import diagnostics as _diagnostics
from harness.evaluation import finetune as _finetune
from harness.evaluation import knn as _knn
from harness.evaluation import linear as _linear
from harness.evaluation import linear_sgd as _linear_sgd
from harness.evaluation import semi as _semi
from harness.evaluation.registry import Evaluation, evaluation, evaluations

__all__ = ["EVALUATIONS", "Evaluation", "evaluation", "evaluations"]

# importing them registers them
assert _alignment and _clustering and _dense and _diagnostics and _finetune and _knn and _linear
assert _semi
assert _linear_sgd
EVALUATIONS = evaluations()
