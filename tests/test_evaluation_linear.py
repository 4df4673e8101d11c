"""The linear evaluation against scikit-learn's optimum."""

from __future__ import annotations

import evaluation_fixtures as fixtures
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from harness.evaluation import linear
from harness.evaluation.splits import TrainSplit

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)


def _gap(train: TrainSplit, classifier: linear.Classifier) -> float:
    """Our loss minus scikit-learn's on the same standardised features, in float64."""
    x = linear.standardise(train.features.double(), classifier.mean.double(),
                           classifier.scale.double())
    ours = torch.cat([classifier.weight, classifier.bias[None]]).double()
    reference = LogisticRegression(C=1 / (len(x) * classifier.l2), tol=1e-9, max_iter=5000)
    reference.fit(x.numpy(), train.labels.numpy())
    theirs = torch.cat([torch.from_numpy(reference.coef_.T),
                        torch.from_numpy(reference.intercept_)[None]])
    return float(linear.objective(x, train.labels, classifier.l2, ours)
                 - linear.objective(x, train.labels, classifier.l2, theirs))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 90)])
def test_loss_is_scikit_learns_minimum(n: int, d: int, dtype: str) -> None:
    train = TrainSplit(*fixtures.gaussian(n, d, 4, seed=0, noise=2.0))
    gaps = [_gap(train, c) for c in linear.path(train, PENALTIES, 4, dtype=dtype)]
    assert len(gaps) == len(PENALTIES)
    assert max(gaps) < 1e-6


def test_a_constant_feature_and_another_scale_change_nothing() -> None:
    features, labels = fixtures.gaussian(200, 6, 3, seed=0, noise=2.0)
    padded = torch.cat([features * 1000 + 5, torch.full((200, 1), 7.0)], 1)
    (plain,) = linear.path(TrainSplit(features, labels), [1e-2], 3)
    (other,) = linear.path(TrainSplit(padded, labels), [1e-2], 3)
    torch.testing.assert_close(other.weight[:6], plain.weight, rtol=1e-3, atol=1e-4)
    assert torch.equal(other.predict(padded), plain.predict(features))


def test_l2_is_chosen_on_validation_and_runs_are_equal() -> None:
    runs = [linear.linear(fixtures.problem(noise=3.0), linear.Config(l2_count=5), None)
            for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]["selected"]["l2"] in linear.penalties(linear.Config(l2_count=5))
    assert runs[0]["top1"] > 0.3
    balanced = linear.linear(fixtures.problem(), linear.Config(select="balanced"), None)
    assert "validation_balanced" in balanced["selected"]


def test_penalties_are_log_spaced_strongest_first() -> None:
    config = linear.Config(l2_min=1e-6, l2_max=1e5, l2_count=45)
    values = linear.penalties(config)
    assert len(values) == 45
    assert values[0] == pytest.approx(1e5) and values[-1] == pytest.approx(1e-6)
    assert values[22] == pytest.approx(10**-0.5)
    with pytest.raises(ValueError, match="l2_min=1.0 is above l2_max=0.1"):
        linear.penalties(linear.Config(l2_min=1.0, l2_max=0.1))
