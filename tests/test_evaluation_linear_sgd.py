"""Linear classifiers of many settings at once against torch.optim.SGD, one after another."""

from __future__ import annotations

from dataclasses import replace

import evaluation_fixtures as fixtures
import pytest
import torch

from harness.evaluation import evaluation, linear_sgd
from harness.evaluation import heads as training
from harness.evaluation.heads import Heads, Rows, batches
from harness.evaluation.sgd_config import Settings, Sgd
from harness.evaluation.splits import Features

GRID = Sgd(lrs=(0.05, 0.5, 2.0), weight_decays=(0.0, 1e-2), epochs=3, batch_size=32)


def _together(data: Features, config: Sgd, settings: list[Settings]) -> Heads:
    heads = Heads.start(data.train.features.shape[1], data.num_classes, settings, config, "cpu")
    for _, index, factor, _ in batches(len(data.train), config, 0):
        heads.step(data.train.features[index], data.train.labels[index], factor)
    return heads


def _alone(data: Features, config: Sgd, setting: Settings) -> torch.nn.Linear:
    """The same training by autograd and torch's optimiser."""
    model = torch.nn.Linear(data.train.features.shape[1], data.num_classes)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), setting.lr, config.momentum,
                                weight_decay=setting.weight_decay, nesterov=config.nesterov)
    for _, index, factor, _ in batches(len(data.train), config, 0):
        optimizer.param_groups[0]["lr"] = setting.lr * factor
        optimizer.zero_grad()
        logits = model(data.train.features[index])
        torch.nn.functional.cross_entropy(logits, data.train.labels[index]).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_all_settings_at_once_are_each_alone(schedule: str, nesterov: bool) -> None:
    data = fixtures.problem(noise=2.0)
    config = replace(GRID, schedule=schedule, nesterov=nesterov)
    settings = config.grid()
    assert len(settings) == 6 and settings[0].lr == pytest.approx(0.05 * 32 / 256)
    heads = _together(data, config, settings)
    for index, setting in enumerate(settings):
        model = _alone(data, config, setting)
        columns = slice(index * 5, index * 5 + 5)
        torch.testing.assert_close(heads.weight[:, columns], model.weight.T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(heads.bias[columns], model.bias, rtol=1e-4, atol=1e-5)
        alone = _together(data, config, [setting])
        torch.testing.assert_close(heads.weight[:, columns], alone.weight, rtol=1e-5, atol=1e-6)
        assert torch.equal(heads.scores(index, data.test.features).argmax(1),
                           model(data.test.features).argmax(1))


def test_it_is_chosen_on_validation_and_runs_are_equal() -> None:
    config = linear_sgd.Config(lrs=(1e-6, 0.5), epochs=5, batch_size=64, weight_decays=(0.0, 1e-4))
    runs = [linear_sgd.linear_sgd(fixtures.problem(noise=2.0), config, [9, 8, 7, 6, 5])
            for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]["selected"]["lr"] == 0.5 * 64 / 256 and runs[0]["selected"]["settings"] == 4
    assert runs[0]["top1"] > 0.5 and {"many", "medium", "few", "per_class"} <= runs[0].keys()
    other = linear_sgd.linear_sgd(fixtures.problem(noise=2.0), replace(config, seed=1), None)
    assert other["top1"] > 0.5


def test_training_again_takes_both_splits_and_scaling_helps_scales() -> None:
    data = fixtures.problem(noise=2.0)
    rows = Rows((data.train, data.validation))
    index = torch.tensor([250, 3, 399, 199, 200])
    x, labels = rows.take(index)
    both = torch.cat([data.train.features, data.validation.features])
    assert len(rows) == 400 and torch.equal(x, both[index])
    assert torch.equal(labels, torch.cat([data.train.labels, data.validation.labels])[index])
    config = linear_sgd.Config(lrs=(0.5,), epochs=5, batch_size=64, retrain=True)
    plain = linear_sgd.linear_sgd(data, config, None)
    assert plain["top1"] > 0.5
    def far() -> Features:
        found = fixtures.problem(noise=2.0)
        for split in (found.train, found.validation, found.test):
            split.features.mul_(100).add_(1000)
        return found

    scaled = linear_sgd.linear_sgd(far(), replace(config, rows="standard"), None)
    assert scaled["top1"] > 0.5


def test_divergence_several_classes_and_bad_settings_are_named() -> None:
    data = fixtures.problem()
    data.train.features.mul_(1e25)
    with pytest.raises(FloatingPointError, match="every setting diverged: lower lrs"):
        linear_sgd.linear_sgd(data, linear_sgd.Config(lrs=(1e20,), epochs=2), None)
    several = replace(fixtures.problem(), train=type(data.train)(
        data.train.features, torch.ones(200, 5).long()))
    with pytest.raises(ValueError, match="one class an image.*use linear"):
        linear_sgd.linear_sgd(several, linear_sgd.Config(), None)
    for bad, message in (({"lrs": [0.0]}, "'lrs' must be > 0"), ({"epochs": 0}, "'epochs'"),
                         ({"schedule": "cosin"}, "one of cosine, step, constant")):
        with pytest.raises(ValueError, match=message):
            evaluation("linear_sgd").configure(bad)


def test_the_drop_at_a_milestone_is_an_option_that_leaves_old_keys() -> None:
    config = replace(GRID, schedule="step", milestones=(0.5, 0.75))
    assert [training.factor(config, step, 8) for step in (0, 4, 6)] == pytest.approx([1, 0.1, 0.01])
    infomin = replace(config, drop=0.2)
    assert [training.factor(infomin, step, 8) for step in (0, 4)] == pytest.approx([1, 0.2])
    known = evaluation("linear_sgd")
    whole = {name: limits.default for name, limits in known.options.items()}
    assert "drop" not in known.keyed(whole)
    assert known.keyed({**whole, "drop": 0.2})["drop"] == 0.2
