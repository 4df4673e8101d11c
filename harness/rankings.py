"""Methods against each other over all conditions: average ranks, interquartile means.

Ranks: Friedman's test and Nemenyi's critical difference, as Demsar, "Statistical Comparisons of
Classifiers over Multiple Data Sets" (JMLR 2006). A block is one condition with one seed, in which
all methods are ranked; so what is found holds for these conditions, of which seeds are replicates,
and not for data sets in general.

Interquartile mean, stratified bootstrap and probability of improvement as Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021). Their package
rliable 1.2 needs `arch`, which fails to import beside pandas 3; the two measures are written out
here and tested against its values.

A block with a missing cell is left out and named: nothing is averaged over what is missing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import UserError
from .evaluation.measures import measure
from .measured import Cube, Measured, Method, describe
from .statistics import MISSING, Estimate, Floats, p_text

# What Friedman's test and a rank that means anything need.
FEWEST_METHODS, FEWEST_BLOCKS = 3, 2
REPEATS = 2000
# Of the percentile interval, simulated for seeds of 2 conditions (tests/test_rankings.py). Printed
# wherever an interquartile mean is; the tables of results have t intervals.
COVERAGE = ("the bootstrap interval of an interquartile mean covers less than its level at small "
            "n: of 95 %, 85 % at n=3, 90 % at n=5, 93 % at n=10 (simulated)")


@dataclass(frozen=True)
class Ranked:
    """One method: its average rank (1 is best) and its interquartile mean over all cells."""

    method: Method
    rank: float
    iqm: Estimate


@dataclass(frozen=True)
class Ranking:
    """Methods by average rank, best first; `blocks` are "condition, seed", `left_out` says what is
    missing. `critical` is Nemenyi's difference; `groups` are spans (first, last) of methods whose
    ranks lie within it; `improvement` (methods, methods) is the probability that the row's value
    is above the column's on a condition, averaged over conditions."""

    evaluation: str
    metric: str
    rows: tuple[Ranked, ...]
    blocks: tuple[str, ...]
    left_out: tuple[str, ...]
    statistic: float
    p: float
    critical: float
    groups: tuple[tuple[int, int], ...]
    improvement: Floats
    level: float

    @property
    def title(self) -> str:
        """What is ranked."""
        return describe(self.evaluation, self.metric)


def ranking(measured: Measured, evaluation: str = "", metric: str = "") -> Ranking:
    """Average ranks of the compared methods (reference rows stand apart); default: the headline.

    Raises UserError where fewer than three methods or two whole blocks are left, or where neither
    more nor less of the metric is better.
    """
    name = (evaluation or measured.study.headline[0], metric or measured.study.headline[1])
    cube = measured.cubes.get(name)
    if cube is None or not measure(name[1]).better:
        raise UserError(f"{describe(*name)} gives no ranks: it was not measured, or neither more "
                        "nor less of it is better")
    places, gone = _competing(measured, cube)
    values = cube.values[places]
    whole = np.asarray(~np.isnan(values).any(axis=0))  # conditions, seeds
    if len(places) < FEWEST_METHODS or whole.sum() < FEWEST_BLOCKS:
        raise UserError(f"ranks need {FEWEST_METHODS} methods and {FEWEST_BLOCKS} blocks that all "
                        f"of them have; {describe(*name)} has {len(places)} and {whole.sum()}")
    better = values[:, whole] * (-1 if measure(name[1]).better == "lower" else 1)
    ranks = average_ranks(better)
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    critical = nemenyi(len(places), int(whole.sum()), measured.study.level)
    statistic, p = friedman(better)
    scores = values[:, :, whole.all(axis=0)].transpose(0, 2, 1)  # methods, seeds, conditions
    rows = tuple(Ranked(measured.study.methods[places[i]], float(ranks[i]),
                        _iqm(scores[i], name[1], measured.study.level)) for i in order)
    return Ranking(*name, rows, _names(measured, whole), (*gone, *_holes(measured, values, places)),
                   statistic, p, critical,
                   _told_apart(ranks[order].tolist(), critical, p, measured.study.level),
                   _improvement(scores[order], measure(name[1]).better), measured.study.level)


def rankings(measured: Measured) -> list[Ranking]:
    """One for every evaluation at the headline metric that enough is measured of."""
    found = []
    for evaluation, metric in measured.cubes:
        if metric == measured.study.headline[1]:
            try:
                found.append(ranking(measured, evaluation, metric))
            except UserError:
                continue
    return found


def _competing(measured: Measured, cube: Cube) -> tuple[list[int], list[str]]:
    """Places of the methods that are compared; one without any value is left out, by name."""
    places, gone = [], []
    for i, method in enumerate(measured.study.methods):
        if not method.reference:
            missing = bool(np.isnan(cube.values[i]).all())
            gone += [f"{method.label}: nothing measured"] if missing else []
            places += [] if missing else [i]
    return places, gone


def _names(measured: Measured, whole: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{measured.study.conditions[c].label}, seed {measured.seeds[s]}"
                 for c, s in np.argwhere(whole).tolist())


def _holes(measured: Measured, values: Floats, places: Sequence[int]) -> list[str]:
    """Blocks that some, but not all, methods have, with who is missing."""
    found = []
    for c, condition in enumerate(measured.study.conditions):
        for s, seed in enumerate(measured.seeds):
            gone = np.isnan(values[:, c, s])
            if gone.any() and not gone.all():
                labels = [measured.study.methods[places[i]].label
                          for i in np.flatnonzero(gone).tolist()]
                found.append(f"{condition.label}, seed {seed}: without {', '.join(labels)}")
    return found


# -- ranks ----------------------------------------------------------------------------------------


def average_ranks(values: Floats) -> Floats:
    """(methods, blocks), larger is better -> (methods,): mean rank, 1 best, ties share theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, axis=0).mean(axis=1), dtype=np.float64)


def friedman(values: Floats) -> tuple[float, float]:
    """Friedman's chi-square and p of (methods, blocks); NaN where all methods tie everywhere."""
    from scipy.stats import friedmanchisquare

    if bool((values == values[:1]).all()):
        return math.nan, math.nan
    found = friedmanchisquare(*values)
    return float(found.statistic), float(found.pvalue)


def nemenyi(methods: int, blocks: int, level: float = 0.95) -> float:
    """The difference of two average ranks beyond which they differ, at that level for all pairs:
    q sqrt(k (k + 1) / 6 N), q the studentised range for infinite degrees over the root of 2."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def groups(ranks: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    """Spans (first, last) of sorted ranks that lie within `critical`, none inside another."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(i for i, other in enumerate(ranks) if other - rank <= critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)


def _told_apart(ranks: Sequence[float], critical: float, p: float,
                level: float) -> tuple[tuple[int, int], ...]:
    """`groups`; all are one where Friedman's test finds no difference at all (Demsar, 3.2.2)."""
    return groups(ranks, critical) if p < 1 - level else ((0, len(ranks) - 1),)


# -- interquartile means --------------------------------------------------------------------------


def iqm(scores: Floats) -> Floats:
    """Interquartile mean of (..., runs, tasks) over runs and tasks together: a quarter of the
    values, rounded down, is cut off at either end."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut:flat.shape[-1] - cut].mean(axis=-1))


def probability_of_improvement(x: Floats, y: Floats) -> float:
    """P(X > Y), ties half, for (runs, tasks) each, averaged over tasks: Mann-Whitney's U over the
    number of pairs."""
    pairs = x[:, None] - y[None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def bootstrap(scores: Floats, statistic: Callable[[Floats], Floats], level: float = 0.95,
              repeats: int = REPEATS, random: int = 0) -> tuple[float, float]:
    """Percentile interval of a statistic of (runs, tasks); runs are drawn anew within each task."""
    rng = np.random.default_rng(random)
    drawn = rng.integers(0, len(scores), size=(repeats, *scores.shape))
    values = statistic(np.take_along_axis(scores[None], drawn, axis=1))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _iqm(scores: Floats, metric: str, level: float) -> Estimate:
    """The interquartile mean of one method, of the seeds that have every cell; n counts those."""
    n, kind = len(scores), measure(metric)
    if n == 0:
        missing = Estimate(math.nan, math.nan, math.nan, 0, "stratified bootstrap", level, math.nan)
        return replace(missing, scale=kind.scale, digits=kind.digits)
    low, high = bootstrap(scores, iqm, level) if n > 1 else (math.nan, math.nan)
    sd = float(np.std(scores.mean(axis=1), ddof=1)) if n > 1 else math.nan
    return Estimate(float(iqm(scores)), low, high, n, "stratified bootstrap", level, sd,
                    kind.scale, kind.digits)


def _improvement(scores: Floats, better: str) -> Floats:
    """(methods, seeds, conditions) -> (methods, methods); NaN without a seed that has all cells."""
    found = np.full((len(scores), len(scores)), np.nan)
    sign = -1 if better == "lower" else 1
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j and scores.shape[1]:
                found[i, j] = probability_of_improvement(sign * scores[i], sign * scores[j])
    return found


# -- files ----------------------------------------------------------------------------------------


def sentence(ranked: Ranking) -> str:
    """What a reader needs beside the ranks: blocks, test, critical difference, what is left out."""
    left = f" Left out: {'; '.join(ranked.left_out)}." if ranked.left_out else ""
    return (f"Average rank over {len(ranked.blocks)} blocks (a condition with a seed), 1 is best; "
            f"Friedman p {p_text(ranked.p)}; ranks closer than {ranked.critical:.2f} (Nemenyi, "
            f"{ranked.level:.0%} for all pairs) are not told apart. It holds for these conditions, "
            f"not for data sets in general.{left}")


def as_csv(ranked: Ranking) -> str:
    """One row for each method: rank, interquartile mean with interval and n, and the probability of
    improvement over each other method."""
    labels = [row.method.id for row in ranked.rows]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "label", "rank", "blocks", "critical_difference", "friedman_p",
                     "iqm", "iqm_low", "iqm_high", "n", "interval", "level", "interval_note",
                     *(f"p_above_{label}" for label in labels)])
    for row, chances in zip(ranked.rows, ranked.improvement.tolist(), strict=True):
        mean = row.iqm
        numbers = (mean.scale * float(mean.mean), mean.scale * mean.low, mean.scale * mean.high)
        writer.writerow([row.method.id, row.method.label, row.rank, len(ranked.blocks),
                         _plain(ranked.critical), _plain(ranked.p), *map(_plain, numbers), mean.n,
                         mean.kind, mean.level, COVERAGE, *map(_plain, chances)])
    return out.getvalue()


def markdown(ranked: Ranking) -> str:
    """Ranks and interquartile means as a table, the explanation below."""
    lines = [f"Ranks of {ranked.title}", "", "| method | rank | interquartile mean |",
             "| --- | --- | --- |"]
    lines += [f"| {row.method.label} | {row.rank:.2f} | {row.iqm if row.iqm.n else MISSING} |"
              for row in ranked.rows]
    told = COVERAGE[0].upper() + COVERAGE[1:]
    return "\n".join([*lines, "", f"{sentence(ranked)} {told}."]) + "\n"


def _plain(value: float) -> float | str:
    return "" if math.isnan(value) else value
