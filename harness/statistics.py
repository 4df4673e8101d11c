"""Means over seeds that never travel without their n, and differences paired by seed.

Everything is a t statistic on one value per seed. A missing value is NaN in arrays; it lowers n and
is never averaged. Accuracies are fractions in [0, 1] and are printed in percent.
Student, "The probable error of a mean" (1908); Holm, "A simple sequentially rejective multiple test
procedure" (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# scipy.stats costs 1.7 s to import, scipy.special 0.4 s; these functions are all we need.
from scipy.special import nctdtr, stdtr, stdtrit

Floats = npt.NDArray[np.float64]
MISSING = "--"
# Differences of stored accuracies that agree to 1e-12 differ by rounding only.
SAME = 1e-12
# The chance of finding an effect that is there, for which further seeds are counted.
POWER = 0.8
MOST_SEEDS = 200


class Mean(float):
    """A mean that prints its n wherever it is formatted; arithmetic gives plain floats."""

    n: int

    def __new__(cls, value: float, n: int) -> Mean:
        """`value` as a float that knows it is the mean of `n` values."""
        self = super().__new__(cls, value)
        self.n = n
        return self

    def __reduce__(self) -> tuple[type[Mean], tuple[float, int]]:
        """Copies need the n too."""
        return Mean, (float(self), self.n)

    def __format__(self, spec: str) -> str:
        return f"{format(float(self), spec)} (n={self.n})" if self.n else MISSING

    def __str__(self) -> str:
        return format(self, "")

    __repr__ = __str__


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its interval; `low` and `high` are NaN where there is no interval.

    `kind` names the interval ("t" or "paired t"), `level` its coverage, `sd` the sample standard
    deviation (n - 1 in the denominator). n = 0 is a missing value. scale, digits: how values are
    printed: times 100 with one digit for shares.
    """

    mean: float
    low: float
    high: float
    n: int
    kind: str
    level: float
    sd: float
    scale: float = 100.0
    digits: int = 1

    def __post_init__(self) -> None:
        """Give `mean` its n, so that no formatting can lose it."""
        object.__setattr__(self, "mean", Mean(self.mean, self.n))

    @property
    def missing(self) -> bool:
        """Whether no value was measured."""
        return self.n == 0

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN below two values."""
        return (self.high - self.low) / 2

    def text(self, digits: int | None = None, scale: float | None = None,
             signed: bool = False) -> str:
        """"67.5 ± 0.8 (n=3)", "67.5 (n=1)" or "--"; an uneven interval prints both its ends."""
        if self.missing:
            return MISSING
        digits = self.digits if digits is None else digits
        scale = self.scale if scale is None else scale
        mean = number(self.mean * scale, digits, signed)
        if np.isnan(self.half):
            return f"{mean} (n={self.n})"
        if abs(self.high + self.low - 2 * float(self.mean)) < 1e-9:
            return f"{mean} ± {self.half * scale:.{digits}f} (n={self.n})"
        low, high = (number(end * scale, digits, signed) for end in (self.low, self.high))
        return f"{mean} [{low}, {high}] (n={self.n})"

    def __str__(self) -> str:
        return self.text()

    def __format__(self, spec: str) -> str:
        """`f"{estimate}"` is `text()`; a precision such as ".2" sets the digits."""
        if spec and not (spec.startswith(".") and spec[1:].isdigit()):
            raise ValueError(f"format an estimate with '.<digits>', not '{spec}'")
        return self.text(int(spec[1:])) if spec else self.text()


@dataclass(frozen=True)
class Paired:
    """The difference a - b over the seeds that both have; `dropped` are the seeds of only one."""

    difference: Estimate
    p: float
    seeds: tuple[int, ...]
    dropped: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.difference.n


@dataclass(frozen=True)
class Summary:
    """`Estimate` for a whole array of cells at once; every field has the shape of the cells."""

    mean: Floats
    low: Floats
    high: Floats
    n: npt.NDArray[np.int64]
    sd: Floats
    p: Floats
    kind: str
    level: float

    def at(self, *where: int) -> Estimate:
        """The estimate of one cell."""
        return self.estimates()[int(np.ravel_multi_index(where, self.n.shape))]

    def estimates(self) -> list[Estimate]:
        """The estimates of all cells, in row-major order."""
        # lists first: taking single numbers out of an array costs ten times as much
        arrays = [a.ravel().tolist() for a in (self.mean, self.low, self.high, self.n, self.sd)]
        return [Estimate(mean, low, high, n, self.kind, self.level, sd)
                for mean, low, high, n, sd in zip(*arrays, strict=True)]


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """A plain number; never "-0.0"."""
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"


def p_text(p: float) -> str:
    """"0.012", "<0.001", or "--" where no test was possible."""
    return MISSING if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def summarise(values: Floats, level: float = 0.95, kind: str = "t") -> Summary:
    """t intervals over the last axis.

    `values` is float (..., seeds) with NaN for missing; the result has shape (...). `p` is the
    two-sided p-value of mean = 0. It is NaN below two values, and also where all values agree:
    copies of one number carry no spread to test against, however many they are, and a row that is
    the same in two conditions by construction does not enlarge the family of tests.
    """
    if not 0 < level < 1:
        raise ValueError(f"interval level {level} is not between 0 and 1; use for example 0.95")
    present = ~np.isnan(values)
    n = present.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0.0).sum(axis=-1) / n
        squares = np.where(present, (values - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        sd = np.where(n > 1, np.sqrt(squares / (n - 1)), np.nan)
        error = sd / np.sqrt(n)
        half = stdtrit(np.maximum(n - 1, 1), 0.5 + level / 2) * error
        p = 2 * stdtr(np.maximum(n - 1, 1), -np.abs(mean / error))
    same = sd <= SAME
    p = np.where(same, np.nan, p)
    return Summary(mean, mean - half, mean + half, n, sd, p, kind, level)


def mean_interval(values: Sequence[float] | Floats, level: float = 0.95) -> Estimate:
    """Mean and t interval of one value per seed; NaN values count as missing."""
    return summarise(np.asarray(values, dtype=np.float64).reshape(1, -1), level).at(0)


def paired(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Paired:
    """The mean difference a - b over common seeds with its t interval and two-sided p-value.

    `a` and `b` map seed to value; a NaN value counts as missing. Seeds of one side only are
    dropped and named.
    """
    have = [{seed for seed, value in side.items() if not np.isnan(value)} for side in (a, b)]
    seeds = sorted(have[0] & have[1])
    differences = np.array([[a[seed] - b[seed] for seed in seeds]], dtype=np.float64)
    summary = summarise(differences, level, "paired t")
    dropped = tuple(sorted(have[0] ^ have[1]))
    return Paired(summary.at(0), float(summary.p[0]), tuple(seeds), dropped)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's step-down adjustment (n,) -> (n,); NaN (no test was possible) stays NaN, uncounted."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p[index])))
        adjusted[index] = largest
    return adjusted


def seeds_for(effect: float, alpha: float, power: float = POWER,
              most: int = MOST_SEEDS) -> int | None:
    """The least number of pairs with which a paired t-test would find a standardised effect.

    `effect` is |mean| / sd of the differences, `alpha` the two-sided level; from the noncentral t
    distribution (Cohen, "Statistical power analysis", 1988). None: more than `most`.
    """
    low, high = 2, most + 1
    while low < high:  # power grows with n
        n = (low + high) // 2
        low, high = (low, n) if power_of(effect, n, alpha) >= power else (n + 1, high)
    return low if low <= most else None


def power_of(effect: float, n: int, alpha: float) -> float:
    """How often a two-sided paired t-test of `n` pairs finds `effect`, with its sign right."""
    # past 20 standard deviations two pairs settle it, and the series of nctdtr loses its digits
    effect = min(abs(effect), 20.0)
    critical = stdtrit(n - 1, 1 - alpha / 2)
    return float(1 - nctdtr(n - 1, effect * n ** 0.5, critical))
