"""The linear evaluation against scikit-learn's optimum."""

from __future__ import annotations

from dataclasses import replace

import evaluation_fixtures as fixtures
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from harness.evaluation import evaluation, linear
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


def test_reading_blocks_finds_the_same_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    train = TrainSplit(*fixtures.gaussian(300, 20, 4, seed=0, noise=2.0))
    whole = list(linear.path(train, PENALTIES, 4))
    monkeypatch.setattr(linear, "RESIDENT", 100)
    monkeypatch.setattr(linear, "ROWS", 37)
    blocks = list(linear.path(train, PENALTIES, 4))
    assert len(blocks) == len(PENALTIES)
    for found, reference in zip(blocks, whole, strict=True):
        assert _gap(train, found) < 1e-6
        assert torch.equal(found.predict(train.features), reference.predict(train.features))


def test_classes_of_several_a_picture_are_regressions_of_their_own() -> None:
    features, labels = fixtures.gaussian(200, 8, 3, seed=0, noise=2.0)
    several = 2 * torch.nn.functional.one_hot(labels, 3) - 1
    several[:20, 1] = 0  # not judged
    (found,) = linear.path(TrainSplit(features, several), [1e-2], 3)
    x = linear.standardise(features, found.mean, found.scale)
    for c in range(3):
        judged = several[:, c] != 0
        reference = LogisticRegression(C=1 / (200 * 1e-2), tol=1e-9, max_iter=5000)
        reference.fit(x[judged].numpy(), several[judged, c].numpy())
        torch.testing.assert_close(found.weight[:, c], torch.from_numpy(reference.coef_[0]),
                                   rtol=2e-3, atol=2e-3)


def test_training_again_on_both_splits_is_an_option_that_leaves_old_keys() -> None:
    config = linear.Config(l2_count=3)
    once = linear.linear(fixtures.problem(noise=3.0), config, None)
    again = linear.linear(fixtures.problem(noise=3.0), replace(config, retrain=True), None)
    assert once["selected"] == again["selected"] and once["per_class"] != again["per_class"]
    known = evaluation("linear")
    assert "retrain" not in known.keyed(vars(config))
    assert known.keyed(vars(replace(config, retrain=True)))["retrain"] is True


def test_training_on_both_splits_reads_them_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fixtures.problem(noise=3.0)
    joined = TrainSplit(torch.cat([data.train.features, data.validation.features]),
                        torch.cat([data.train.labels, data.validation.labels]))
    (whole,) = linear.path(joined, [1e-2], data.num_classes)
    for resident, rows in ((linear.RESIDENT, linear.ROWS), (0, 37)):
        monkeypatch.setattr(linear, "RESIDENT", resident)
        monkeypatch.setattr(linear, "ROWS", rows)
        (found,) = linear.path((data.train, data.validation), [1e-2], data.num_classes)
        assert _gap(joined, found) < 1e-6
        assert torch.equal(found.predict(joined.features), whole.predict(joined.features))


@pytest.mark.parametrize("whole", [True, False])
def test_features_as_they_are(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """The minimum on rows that are not standardised, read at once or in blocks; old keys stay."""
    if not whole:
        monkeypatch.setattr(linear, "RESIDENT", 0)
    features, labels = fixtures.gaussian(200, 6, 3, seed=0, noise=2.0)
    train = TrainSplit(features * torch.tensor([1.0, 3, 10, 1, 0.2, 1]) + 2, labels)
    (found,) = linear.path(train, [1e-2], 3, rows="as_is")
    x = train.features.double()
    reference = LogisticRegression(C=1 / (200 * 1e-2), tol=1e-9, max_iter=9000).fit(
        x.numpy(), labels.numpy())
    theirs = torch.from_numpy(reference.predict_proba(x.numpy()))
    torch.testing.assert_close(found.scores(x).softmax(1), theirs, rtol=1e-3, atol=1e-4)
    known, config = evaluation("linear"), linear.Config()
    assert "rows" not in known.keyed(vars(config))
    assert known.keyed(vars(replace(config, rows="as_is")))["rows"] == "as_is"
