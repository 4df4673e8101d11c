"""Controls and counts: official numbers, and properties for any legal parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import controls, counts
from datasets.controls import CONTROLS
from datasets.messages import TooFewImages
from datasets.types import Pool, Selection

GOLDEN = Path(__file__).parent / "golden"
CLASSES = 7
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), 400))


def pool(labels: np.ndarray = LABELS) -> Pool:
    zeros = np.zeros_like(labels)
    return Pool(labels, zeros - 1, zeros, np.arange(len(labels)))


def histogram(selection: Selection) -> np.ndarray:
    return np.bincount(LABELS[selection.index], minlength=CLASSES)


def run(steps: dict, total: int | None, seed: int = 0) -> Selection:
    return controls.apply(pool(), steps, total, seed)


imbalances = st.floats(1, 100, allow_nan=False)
totals = st.integers(CLASSES, 700)
profiles = st.sampled_from(counts.PROFILES)
seeds = st.integers(0, 2**31)
orders = st.sampled_from(["label", "seed"])


def test_class_counts_equal_the_official_builders() -> None:
    with np.load(GOLDEN / "cifar_lt_class_counts.npz", allow_pickle=False) as golden:
        names = [name for name in golden.files if name.startswith("cifar")]
        assert len(names) == 24
        for name in names:
            data, profile, factor = name.split("_")
            classes = int(data.removeprefix("cifar"))
            got = counts.ldam_counts(classes, 50_000 // classes, profile, float(factor))
            np.testing.assert_array_equal(got, golden[name], err_msg=name)
        np.testing.assert_array_equal(counts.sdclr_counts(10), golden["sdclr_cifar10_if100"])
        np.testing.assert_array_equal(counts.sdclr_counts(100), golden["sdclr_cifar100_if100"])
    assert counts.sdclr_counts(10).sum() == 11165 and counts.sdclr_counts(100).sum() == 9754


def test_sampled_indices_equal_the_official_toy_case() -> None:
    with np.load(GOLDEN / "cifar_lt_ldam_sampling_toy.npz", allow_pickle=False) as golden:
        assert len(golden["selected"]) == 118
        got = counts.ldam_indices(golden["labels"], golden["counts"])
        np.testing.assert_array_equal(got, golden["selected"])


def test_the_pareto_profile_is_close_to_imagenet_lt() -> None:
    # order statistics of the official list's 1000 class counts at ranks 1, 11, 51, ... (OLTR)
    official = {10: 679, 50: 354, 100: 268, 300: 126, 500: 73, 800: 27, 999: 5}
    built = counts.apportion(counts.profile_weights("pareto", 1000, 256, 6.0), 115_846)
    assert built.sum() == 115_846
    for rank, images in official.items():
        assert abs(built[rank] - images) <= max(0.07 * images, 1), rank


def test_power_counts_change_only_the_skew() -> None:
    base = np.array([500, 100, 20, 5])
    assert counts.power_counts(base, 0.0, 625).tolist() == [157, 156, 156, 156]
    assert counts.power_counts(base, 1.0, 625).tolist() == base.tolist()
    assert counts.power_counts(base, 0.5, 625).sum() == 625


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.integers(0, 5000))
def test_apportioned_counts_sum_to_the_total_and_follow_the_weights(weights: list[float],
                                                                    extra: int) -> None:
    falling = np.sort(np.array(weights))[::-1]
    total = len(weights) + extra
    got = counts.apportion(falling, total)
    assert got.sum() == total and got.min() >= 1
    assert (np.diff(got) <= 0).all()


def test_apportion_refuses_fewer_images_than_classes() -> None:
    with pytest.raises(ValueError, match="set size to at least 3"):
        counts.apportion(np.ones(3), 2)


@settings(deadline=None, max_examples=60)
@given(imbalances, profiles, totals, seeds, orders)
def test_long_tail_keeps_the_total_and_draws_the_same_images(
        imbalance: float, profile: str, total: int, seed: int, order: str) -> None:
    steps = {"long_tail": {"imbalance": imbalance, "profile": profile, "order": order}}
    try:
        one = run(steps, total, seed)
    except TooFewImages as error:
        assert error.excess > 0 and len(run(steps, total - error.excess, seed)) > 0
        return
    two = run(steps, total, seed)
    assert len(one) == total == len(np.unique(one.index)) and histogram(one).min() >= 1
    assert (one.index == two.index).all() and not one.copy.any()


@settings(deadline=None, max_examples=60)
@given(imbalances, imbalances, profiles, st.integers(2, 60), st.integers(100, 20_000))
def test_a_larger_imbalance_never_has_a_smaller_head_or_a_larger_tail(
        one: float, two: float, profile: str, classes: int, total: int) -> None:
    low, high = sorted((one, two))
    less = counts.apportion(counts.profile_weights(profile, classes, low), total)
    more = counts.apportion(counts.profile_weights(profile, classes, high), total)
    assert more[0] >= less[0] - 1 and more[-1] <= less[-1] + 1  # 1: the rounding of one remainder


@pytest.mark.parametrize("profile", counts.PROFILES)
def test_weights_reach_the_imbalance_exactly(profile: str) -> None:
    for imbalance in (1.0, 10.0, 256.0):
        weights = counts.profile_weights(profile, 50, imbalance)
        assert weights[0] / weights[-1] == pytest.approx(imbalance)
        assert (np.diff(weights) <= 1e-12).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 80), totals, seeds, st.floats(1, 20))
def test_correlation_keeps_total_and_class_counts(repeats: int, total: int, seed: int,
                                                  imbalance: float) -> None:
    tail = {"long_tail": {"imbalance": imbalance}}
    plain = run(tail, total, seed)
    both = run({**tail, "correlation": {"repeats": repeats}}, total, seed)
    assert len(both) == total and (histogram(both) == histogram(plain)).all()
    distinct = histogram(Selection(np.unique(both.index), np.unique(both.index)))
    assert (distinct == -(-histogram(plain) // repeats)).all()
    pairs = np.stack([both.index, both.copy])
    assert np.unique(pairs, axis=1).shape[1] == total and both.copy.max() < repeats
    assert np.isin(both.index, plain.index).all()


@settings(deadline=None, max_examples=30)
@given(seeds, st.permutations(["diversity", "long_tail", "correlation"]))
def test_the_order_of_writing_does_not_matter(seed: int, names: list[str]) -> None:
    steps = {"diversity": {"classes": 4}, "long_tail": {"imbalance": 5.0},
             "correlation": {"repeats": 3}}
    one = run({name: steps[name] for name in names}, 300, seed)
    two = run(steps, 300, seed)
    assert (one.index == two.index).all() and (one.copy == two.copy).all()
    assert len(one) == 300 and (histogram(one) > 0).sum() == 4


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, CLASSES - 1))
def test_more_diversity_keeps_the_classes_that_were_there(seed: int, classes: int) -> None:
    few = histogram(run({"diversity": {"classes": classes}}, 100, seed)) > 0
    more = histogram(run({"diversity": {"classes": classes + 1}}, 100, seed)) > 0
    assert few.sum() == classes and more.sum() == classes + 1 and (more | ~few).all()


def test_without_a_tail_the_total_is_balanced_and_without_a_total_all_is_taken() -> None:
    assert histogram(run({}, 703)).tolist() == [101] * 3 + [100] * 4
    assert len(run({}, None)) == len(LABELS)
    assert len(run({"diversity": {"classes": 2}}, None)) == 800


def test_natural_size_keeps_proportions() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = controls.apply(pool(labels), {"size": {"profile": "natural"}}, 100, 0)
    assert np.bincount(labels[chosen.index]).tolist() == [60, 30, 10]


def test_too_few_images_says_by_how_many() -> None:
    with pytest.raises(TooFewImages, match=r"needs 500 images of class 0, has 400: reduce size "
                                           r"by 700") as caught:
        run({}, 3500)
    assert len(run({}, 3500 - caught.value.excess)) == 2800


@pytest.mark.parametrize(("steps", "message"), [
    ({"long_tail": {"imbalance": 0.5}}, "at least 1"),
    ({"long_tail": {"imbalance": float("nan")}}, "at least 1"),
    ({"long_tail": {"imbalance": 2.0, "profile": "zipf"}}, "exponential, pareto, step"),
    ({"long_tail": {"imbalance": 2.0, "profile": "pareto", "alpha": 0.0}}, "above 0"),
    ({"long_tail": {"imbalance": 2.0, "order": "size"}}, "'label' or 'seed'"),
    ({"correlation": {"repeats": 0}}, "at least 1"),
    ({"diversity": {"classes": 8}}, "between 1 and 7"),
    ({"size": {"profile": "even"}}, "'balanced' or 'natural'"),
])
def test_bad_parameters_name_the_legal_ones(steps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(steps, 300)


def test_every_control_is_registered_with_its_schema_and_takes_part_in_the_order() -> None:
    assert {"diversity", "long_tail", "correlation", "size"} <= set(CONTROLS)
    assert set(CONTROLS) == set(controls.ORDER)
    for entry in CONTROLS.values():
        assert entry.summary.endswith((".", ":")) and entry.revision >= 1
        assert not set(entry.parameters) & {"selection", "labels", "total", "seed"}
