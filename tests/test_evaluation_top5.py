"""Top-5 accuracy: its rule, where it is given, and that records keep it."""

from __future__ import annotations

import evaluation_fixtures as fixtures
import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from harness import artifact
from harness.evaluation import evaluation, evaluations
from harness.evaluation.measures import measure
from harness.evaluation.scores import place, report_blocks, report_scores

GIVE_IT = {"linear", "linear_sgd", "linear_images", "semi", "finetune"}
STEPS = {"linear": {"l2_count": 3}, "linear_sgd": {"epochs": 5, "batch_size": 50}}


def scored(n: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores float32 (n, C) that favour the labels int64 (n,), of all classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    labels[:classes] = torch.arange(classes)
    scores = torch.randn(n, classes, generator=generator)
    return scores.scatter_add(1, labels[:, None], torch.ones(n, 1)), labels


def top5(scores: Tensor, labels: Tensor) -> float:
    found = report_scores(scores, labels, "top1", None, {})
    assert found["top1"] <= found["top5"]
    return float(found["top5"])


def test_it_is_scikit_learns_and_numpys() -> None:
    for classes in (6, 19, 300):
        scores, labels = scored(700, classes)
        found, numpys = top5(scores, labels), np.argsort(-scores.numpy(), axis=1)[:, :5]
        assert 5 / classes < found < 1
        assert found == pytest.approx(float((numpys == labels.numpy()[:, None]).any(1).mean()))
        assert found == pytest.approx(top_k_accuracy_score(
            labels.numpy(), scores.numpy(), k=5, labels=range(classes)))


def test_of_equal_scores_the_first_class_comes_first_as_in_top1() -> None:
    equal, labels = torch.zeros(8, 8), torch.arange(8)
    assert place(equal, labels).tolist() == list(range(8)) and top5(equal, labels) == 5 / 8
    scores = torch.randint(0, 3, (500, 9), generator=torch.Generator().manual_seed(1)).float()
    labels = torch.arange(500) % 9
    order = scores.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(place(scores, labels), (order == labels[:, None]).int().argmax(1).int())
    assert torch.equal(place(scores, labels) == 0, scores.argmax(1) == labels)


def test_what_is_not_a_number_is_never_right() -> None:
    scores = torch.zeros(6, 6)
    scores[torch.arange(6), torch.arange(6)] = torch.nan
    assert place(scores, torch.arange(6)).tolist() == [6] * 6


def test_it_is_given_of_more_than_five_classes_with_one_each() -> None:
    assert "top5" not in report_scores(*scored(40, 5), "top1", None, {})
    assert "top5" in report_scores(*scored(40, 6), "mean_per_class", None, {})
    several = torch.where(torch.rand(30, 8) > 0.5, 1, -1)
    assert "top5" not in report_scores(torch.rand(30, 8), several, "map11", None, {})


def test_blocks_are_the_whole() -> None:
    scores, labels = scored(100, 7)
    counts = torch.bincount(labels).tolist()
    found = report_blocks(iter(scores.split(33)), labels, 7, counts, {"l2": 1.0})
    assert found == report_scores(scores, labels, "top1", counts, {"l2": 1.0})
    assert found["n_test"] == 100 and len(found["per_class"]) == 7 and "few" in found


def kept(name: str, metrics: dict[str, float], metric: str) -> dict[str, float]:
    """What records keep of an evaluation's metrics."""
    stage = {"params": {"evaluation": name, "metric": metric}, "revision": 1, "inputs": {}}
    found: dict[str, float] = artifact.distil("evaluate", {
        "stage": stage, "metrics": {**metrics, "n_test": 9}, "record": {}})["values"]
    return found


def test_who_declares_it_and_what_records_keep() -> None:
    assert {name for name, e in evaluations().items() if e.ranks} == GIVE_IT
    assert measure("top5").text == "top-5 accuracy" and measure("top5").printed == "percent"
    for name in sorted(GIVE_IT):
        chosen = evaluation(name)
        assert "top5" in chosen.may_return() and "top5" not in chosen.returns()
        assert "top5" not in chosen.may_return("map11")
        both = {"top1": 0.5, "balanced": 0.5}
        assert kept(name, {**both, "top5": 0.9}, "top1") == {**both, "top5": 0.9}
        assert kept(name, both, "top1") == both, "five classes, or a record of revision 1"
        with pytest.raises(KeyError, match="balanced"):
            kept(name, {"top1": 0.5}, "top1")
    assert evaluation("knn").may_return() == ("top1", "balanced")


@pytest.mark.parametrize(("name", "classes"), [(n, c) for n in STEPS for c in (5, 8)])
def test_features_are_scored_with_it(name: str, classes: int) -> None:
    chosen = evaluation(name)
    found = chosen.run(fixtures.problem(num_classes=classes, noise=3.0),
                       chosen.configure(STEPS[name]), None)
    assert ("top5" in found) == (classes > 5)
    assert found["top1"] < found.get("top5", 1.0) <= 1
