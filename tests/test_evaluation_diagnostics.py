"""Diagnostics, clusters and multilabel scores on cases with known answers."""

from __future__ import annotations

import math

import evaluation_fixtures as fixtures
import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_curve

from datasets import multilabel
from harness.evaluation import alignment, diagnostics, evaluation
from harness.evaluation.scores import average_precisions, grade, report_scores
from harness.evaluation.splits import Features, TestSplit, TrainSplit, ValidationSplit


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rank_of_known_spectra() -> None:
    line = torch.randn(50, 1, generator=generator()) @ torch.randn(1, 8, generator=generator(1))
    assert diagnostics.rankme(line) == pytest.approx(1, abs=1e-3)
    assert diagnostics.rankme(torch.eye(8).repeat(5, 1)) == pytest.approx(8, rel=1e-4)
    # singular values 3 and 1: shares 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert diagnostics.rankme(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(
        math.exp(entropy), rel=1e-5)
    assert diagnostics.rankme(torch.zeros(4, 3)) < 1.001, "no direction at all"


def test_alignment_and_uniformity_by_hand() -> None:
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    turned = square.roll(1, 0)
    assert alignment.alignment(square, square) == 0
    assert alignment.alignment(square, turned) == pytest.approx(2), "right angles: squared 2"
    assert alignment.alignment(square, -square, alpha=1) == pytest.approx(2)
    # of the 3 others two are at squared distance 2, one at 4
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert alignment.uniformity(square) == pytest.approx(expected, rel=1e-6)
    assert alignment.uniformity(torch.ones(5, 1)) == 0
    pairs = torch.nn.functional.normalize(torch.randn(1500, 4, generator=generator()))
    distances = torch.pdist(pairs.double()).square()
    assert alignment.uniformity(pairs) == pytest.approx(
        float((-2 * distances).exp().mean().log()), rel=1e-5), "more than one block"
    with pytest.raises(ValueError, match="needs 2 images"):
        alignment.uniformity(torch.ones(1, 3))


def test_neighbours_of_two_groups() -> None:
    x = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.2, 1]])
    apart, mixed = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 0, 1])
    assert diagnostics.purity(x, apart, 2) == 1
    # in each group two share a label and one is alone: 2 of 6 of the pairs
    assert diagnostics.purity(x, mixed, 2) == pytest.approx(1 / 3)
    assert diagnostics.false_negatives(x, apart, 2, 3) == 1
    assert diagnostics.false_negatives(x, apart, 2, 6) == 1
    assert diagnostics.false_negatives(x, torch.arange(6), 2, 6) == 0
    with pytest.raises(ValueError, match="choose k < 6"):
        diagnostics.purity(x, apart, 6)
    with pytest.raises(ValueError, match="choose k < 2"):
        diagnostics.false_negatives(x, apart, 2, 2)


def test_nearest_others_agree_with_all_pairs() -> None:
    x, labels = fixtures.gaussian(1300, 6, 5, 0)
    similarity = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    similarity.fill_diagonal_(-2)
    nearest = similarity.topk(7).indices
    expected = (labels[nearest] == labels[:, None]).double().mean()
    assert diagnostics.purity(x, labels, 7) == pytest.approx(float(expected), abs=1e-3)


def test_the_evaluations_return_what_they_declare_and_the_same_twice() -> None:
    for name in ("diagnostics", "clusters"):
        chosen = evaluation(name)
        data = fixtures.problem()
        first, second = (chosen.run(data, chosen.configure({}), None) for _ in range(2))
        assert first == second and set(chosen.metrics) < set(first) and first["n_test"] == 200
    near = evaluation("clusters")
    found = near.run(fixtures.problem(noise=0.01), near.configure({}), None)
    assert found["majority_top1"] == 1 and found["class_in_main_cluster"] == 1
    assert found["mutual_information_bits"] == pytest.approx(math.log2(5))
    assert found["main_cluster_of_class"] == [1.0] * 5
    with pytest.raises(ValueError, match="200 images into k=201"):
        near.run(fixtures.problem(), near.configure({"k": 201}), None)


def test_average_precision_by_the_development_kits_loop() -> None:
    scores = torch.randn(60, 4, generator=generator())
    labels = torch.randint(-1, 2, (60, 4), generator=generator(1))
    labels[:, 3] = -1
    found = average_precisions(scores, labels)
    assert torch.isnan(found[3]), "no image has it"
    for c in range(3):
        judged = (labels[:, c] != 0).numpy()
        right = (labels[:, c] == 1).numpy()[judged]
        curve = precision_recall_curve(right, scores[:, c].numpy()[judged])
        precision, recall = (line[:-1] for line in curve[:2])  # without scikit-learn's own (1, 0)
        expected = np.mean([precision[recall >= t - 1e-9].max() for t in np.linspace(0, 1, 11)])
        assert float(found[c]) == pytest.approx(expected, abs=1e-9)
    perfect = torch.tensor([[2.0], [1], [0]])
    assert float(average_precisions(perfect, torch.tensor([[1], [1], [-1]]))) == 1
    # right at ranks 2 and 3: precision 2/3 at every recall
    late = average_precisions(perfect, torch.tensor([[-1], [1], [1]]))
    assert float(late) == pytest.approx(2 / 3)


def test_each_metric_of_scores() -> None:
    scores = torch.eye(3)[[0, 0, 0, 1, 2, 0]]
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    assert grade(scores, labels, "top1") == pytest.approx(5 / 6)
    assert grade(scores, labels, "mean_per_class") == pytest.approx((1 + 1 + 0.5) / 3)
    several = torch.tensor([[1, -1], [-1, 1]])
    assert report_scores(torch.eye(2), several, "map11", None, {})["map11"] == 1


def test_images_of_several_classes_are_scored_by_linear() -> None:
    def split(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(120, 5, generator=generator(seed))
        signs = torch.where(x[:, :3] > 0, 1, -1)
        signs[::10, 1] = 0
        packed = multilabel.pack(signs.numpy())
        return x, torch.from_numpy(multilabel.unpack(packed, 3))

    parts = [split(seed) for seed in range(3)]
    data = Features(TrainSplit(*parts[0]), ValidationSplit(*parts[1]), TestSplit(*parts[2]), 3,
                    "map11")
    chosen = evaluation("linear")
    found = chosen.run(data, chosen.configure({"l2_count": 3}), None)
    assert found["map11"] > 0.95 and len(found["per_class"]) == 3
