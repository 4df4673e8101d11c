"""How a reproduced number compares with the published one. Pure functions on values.

A number is *reproduced* where the published one lies within the interval of our seeds widened by
what public implementations of one method differ among themselves, and by what was rounded off or
misread. What differs in kind (data, schedule, scale, protocol) is named, and then no such judgement
is made: *not comparable*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from .statistics import Estimate, mean_interval, paired

REPRODUCED, ABOVE, BELOW = "reproduced", "above", "below"
NOT_COMPARABLE, MISSING = "not comparable", "missing"
VERDICTS = (REPRODUCED, ABOVE, BELOW, NOT_COMPARABLE, MISSING)
# What the spread between implementations is known of: the metric, units and data of peers.yaml.
SPREAD_OF = ("top1", "linear", "imagenet")
READ_OFF = 0.5  # of a number that is printed as "~" or was read off a plot, in its unit


@dataclass(frozen=True)
class Spread:
    """Half the range that public code bases publish of one method; `why` says of what."""

    half: float
    why: str


@dataclass(frozen=True)
class Verdict:
    """`delta` is ours minus published, in the published unit; NaN where there is nothing of ours.

    `low` and `high` are the interval of the delta over seeds (NaN below two), `slack` what is
    allowed beside it, `why` the reasons: what differs, what is missing, or what the slack is.
    """

    name: str
    delta: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    slack: float = 0.0
    why: tuple[str, ...] = ()


def spreads(peers: Mapping[str, Any]) -> dict[str, Spread]:
    """Method -> the spread between code bases at the same epochs and batch size, in points.

    Only results that state both are laid side by side, and statements of a range by a method's own
    authors. The entry "" is the median of all, for methods of which less is published.
    """
    found: dict[str, Spread] = {}
    for method, entries in peers["spread"].items():
        groups: dict[tuple[Any, Any], list[float]] = {}
        for entry in entries:
            if "epochs" in entry and "batch_size" in entry:
                groups.setdefault((entry["epochs"], entry["batch_size"]), []).append(entry["top1"])
        for (epochs, batch), values in groups.items():
            half = (max(values) - min(values)) / 2
            if len(values) > 1 and half > found.get(method, Spread(0.0, "")).half:
                found[method] = Spread(half, f"{len(values)} code bases at {epochs} epochs and "
                                             f"batch {batch} differ by {2 * half:.2f}")
    for said in peers["statements"]:
        if "low" in said:
            half = (said["high"] - said["low"]) / 2
            found.setdefault(said["method"].lower(), Spread(
                half, f"{said['source']} states {said['low']} to {said['high']}"))
    if found:
        found[""] = Spread(median(s.half for s in found.values()),
                           f"the median spread of {', '.join(sorted(found))}")
    return found


def judge(published: float, values: Sequence[float], *, differs: Sequence[str] = (),
          spread: Spread | None = None, rounding: float = 0.05, missing: Sequence[str] = (),
          level: float = 0.95) -> Verdict:
    """The verdict on one cell; `values` are ours, one per seed, in the published unit.

    `differs` names what makes a comparison meaningless, `missing` why there is nothing of ours;
    `rounding` is half the last digit that is printed, or the error of reading a plot.
    """
    ours = mean_interval(values, level) if values else None
    if ours is None or ours.missing:
        return Verdict(MISSING, why=tuple(missing) or ("not run yet",))
    delta, low, high = _shifted(ours, published)
    if differs:
        return Verdict(NOT_COMPARABLE, delta, low, high, ours.n, why=tuple(differs))
    slack = rounding + (spread.half if spread else 0.0)
    why = [f"slack {slack:.2f}: {spread.why}" if spread else
           f"slack {slack:.2f}: the spread between implementations is not known here"]
    if ours.n < 2:
        why.append("one seed, so no interval of ours")
    below, above = (delta, delta) if math.isnan(low) else (low, high)
    name = ABOVE if below > slack else BELOW if above < -slack else REPRODUCED
    return Verdict(name, delta, low, high, ours.n, slack, tuple(why))


def _shifted(ours: Estimate, published: float) -> tuple[float, float, float]:
    return float(ours.mean) - published, ours.low - published, ours.high - published


def spread_for(known: Mapping[str, Spread], method: str, evaluation: str, metric: str,
               dataset: str) -> Spread | None:
    """The spread that applies to a cell; None where peers.yaml knows nothing of the kind."""
    if (metric, evaluation, dataset) != SPREAD_OF:
        return None
    return known.get(method) or known.get("")


def rounding(published: float, approximate: bool) -> float:
    """Half the last printed digit, in the unit of the number; `READ_OFF` if it is approximate.

    At least one digit after the point is taken as printed: 74 of "74.0" is read back as 74.0.
    """
    if approximate:
        return READ_OFF
    digits = len(f"{published:g}".partition(".")[2])
    return 0.5 * 10.0 ** -max(1, digits)


# -- direction of differences between rows ---------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One row of a column as its direction is read: `group` holds what must agree (the data),
    `budget` the epochs, `values` ours by seed."""

    label: str
    group: str
    budget: float
    published: float
    values: Mapping[int, float]


@dataclass(frozen=True)
class Direction:
    """`row` minus `base`: published, ours, and whether the signs agree; None where ours is open."""

    row: str
    base: str
    published: float
    ours: Estimate
    agrees: bool | None


def directions(entries: Sequence[Entry], level: float = 0.95) -> list[Direction]:
    """Differences between rows on the same data at the same budget, paired by seed.

    A row that is alone with its budget joins the nearest larger one, else the nearest smaller one.
    A difference that is published as 0 has no sign; one of ours is open where its interval holds 0,
    and with a single seed its bare sign is taken, n says so.
    """
    found = []
    for group in _groups(entries):
        for base, row in combinations(group, 2):
            published = row.published - base.published
            ours = paired(row.values, base.values, level).difference
            found.append(Direction(row.label, base.label, published, ours,
                                   _agrees(published, ours)))
    return found


def _agrees(published: float, ours: Estimate) -> bool | None:
    mean = float(ours.mean)
    is_open = ours.missing or mean == 0 or (ours.n > 1 and ours.low <= 0 <= ours.high)
    if is_open or abs(published) < 1e-9:
        return None
    return (mean > 0) == (published > 0)


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Rows to be compared with each other: same data, same budget; loners joined to a neighbour."""
    result = []
    for name in dict.fromkeys(entry.group for entry in entries):
        budgets: dict[float, list[Entry]] = {}
        for entry in entries:
            if entry.group == name:
                budgets.setdefault(entry.budget, []).append(entry)
        full = {budget: rows for budget, rows in budgets.items() if len(rows) > 1}
        if not full:
            result.append([row for budget in sorted(budgets) for row in budgets[budget]])
            continue
        for budget in sorted(set(budgets) - set(full)):
            larger = [b for b in full if b >= budget]
            nearest = min(larger) if larger else max(full)
            full[nearest] = [*full[nearest], *budgets[budget]]
        result += [full[budget] for budget in sorted(full)]
    return [group for group in result if len(group) > 1]
