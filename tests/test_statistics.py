from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import (
    Estimate,
    Mean,
    holm,
    mean_interval,
    number,
    p_text,
    paired,
    summarise,
)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_the_truth_at_its_level(n: int) -> None:
    values = np.random.default_rng(n).normal(0.7, 0.01, size=(20_000, n))
    summary = summarise(values, 0.95)
    covered = np.mean((summary.low <= 0.7) & (0.7 <= summary.high))
    assert summary.n.shape == (20_000,)
    assert abs(covered - 0.95) < 0.005  # 3 standard errors of 20,000 trials; the promise is 0.015


@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_test_is_wrong_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    seed_effect = rng.normal(0, 0.05, size=(20_000, n))
    a, b = (seed_effect + rng.normal(0, 0.01, size=(20_000, n)) for _ in range(2))
    assert abs(np.mean(summarise(a - b).p < 0.05) - 0.05) < 0.005


def test_agrees_with_scipy() -> None:
    from scipy import stats

    a, b = [0.70, 0.72, 0.69, 0.74], [0.66, 0.69, 0.68, 0.69]
    estimate = mean_interval(a, 0.9)
    low, high = stats.t.interval(0.9, 3, np.mean(a), stats.sem(a))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.sd == pytest.approx(np.std(a, ddof=1))
    result = paired(dict(enumerate(a)), dict(enumerate(b)))
    assert result.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_a_mean_is_never_printed_without_its_n() -> None:
    three, one, none = mean_interval([0.67, 0.68, 0.675]), mean_interval([0.675]), mean_interval([])
    assert str(three) == "67.5 ± 1.2 (n=3)" and f"{three:.2}" == "67.50 ± 1.24 (n=3)"
    assert str(one) == "67.5 (n=1)" and str(none) == "--"
    assert f"{three.mean:.3f}" == "0.675 (n=3)" and f"{none.mean:.3f}" == "--"
    assert "n=3" in str(three.mean) and "n=3" in repr(three.mean)
    assert f"{copy.deepcopy(three).mean:.1f}" == "0.7 (n=3)"
    with pytest.raises(ValueError, match="digits"):
        f"{three:5.1f}"


def test_uneven_intervals_print_both_ends() -> None:
    estimate = Estimate(Mean(0.5, 4), 0.42, 0.55, 4, "bootstrap", 0.95, 0.03)
    assert str(estimate) == "50.0 [42.0, 55.0] (n=4)"


def test_missing_values_lower_n_and_are_not_averaged() -> None:
    estimate = mean_interval([0.5, float("nan"), 0.7])
    assert (estimate.n, float(estimate.mean)) == (2, pytest.approx(0.6))
    nothing = mean_interval([float("nan")])
    assert nothing.missing and np.isnan(nothing.mean) and np.isnan(nothing.low)


def test_pairs_use_common_seeds_and_name_the_rest() -> None:
    result = paired({0: 0.7, 1: 0.8, 2: 0.9, 4: float("nan")}, {1: 0.7, 2: 0.75, 3: 0.1})
    assert (result.seeds, result.dropped, result.n) == ((1, 2), (0, 3), 2)
    assert float(result.difference.mean) == pytest.approx(0.125)
    assert result.difference.kind == "paired t"
    alone = paired({0: 0.7}, {0: 0.6})
    assert alone.n == 1 and np.isnan(alone.p) and np.isnan(alone.difference.low)
    assert paired({0: 0.7}, {1: 0.6}).difference.missing


def test_copies_of_one_number_prove_nothing() -> None:
    constant = paired({0: 0.3, 1: 0.4, 2: 0.5}, {0: 0.2, 1: 0.3, 2: 0.4})
    assert constant.n == 3 and np.isnan(constant.p)
    assert np.isnan(paired({0: 0.3, 1: 0.3}, {0: 0.3, 1: 0.3}).p)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.02, float("nan"), 0.5])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.5]) and np.isnan(adjusted[1])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p) - 1e-15) and np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_numbers() -> None:
    assert number(-0.04) == "0.0" and number(5.25, signed=True) == "+5.2"
    assert number(-5.0, signed=True) == "-5.0" and number(0.0, signed=True) == "0.0"
    assert (p_text(0.0123), p_text(1e-5), p_text(float("nan"))) == ("0.012", "<0.001", "--")


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([0.1, 0.2], level)
