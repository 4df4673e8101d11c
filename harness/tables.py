"""Tables as values: methods by conditions, and the difference from the base condition.

Every cell holds its estimate, its seeds and the keys of its records; what is missing carries a
footnote with the cause and the command that fills it. `harness.table_formats` writes them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.evaluation.measures import Measure, measure
from harness.measured import Condition, Cube, Measured, Method, Study, describe
from harness.statistics import Estimate, Floats, holm, summarise

MARKS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Cell:
    """One entry: the estimate and everything needed to trace it.

    `keys` are the evaluation keys of the records, `rows` their places in `Measured.records`
    (both sides of a difference). `p` is Holm-corrected within the table: against 0 in a table of
    differences, against the runner-up for the best entry of a column, NaN elsewhere.
    """

    estimate: Estimate
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    rows: tuple[int, ...]
    keys: tuple[str, ...]
    marks: tuple[str, ...] = ()
    p: float = float("nan")
    best: bool = False


@dataclass(frozen=True)
class Footnote:
    """Why something is missing, and the command that fills it."""

    mark: str
    text: str
    rerun: str


@dataclass(frozen=True)
class Table:
    """`kind` is "accuracy" or "difference"; `cells` has every (method id, column id)."""

    name: str
    kind: str
    evaluation: str
    metric: str
    title: str
    legend: str
    columns: tuple[Condition, ...]
    rows: tuple[Method, ...]
    cells: dict[tuple[str, str], Cell]
    footnotes: tuple[Footnote, ...]
    command: str
    base: str
    corner: str

    @property
    def methods(self) -> tuple[Method, ...]:
        """The rows that are compared."""
        return tuple(row for row in self.rows if not row.reference)

    @property
    def references(self) -> tuple[Method, ...]:
        """The rows that stand apart: random_init, raw_pixels, supervised and the like."""
        return tuple(row for row in self.rows if row.reference)

    def cell(self, row: Method, column: Condition) -> Cell:
        """The entry of a row and a column."""
        return self.cells[row.id, column.id]


@dataclass
class Footnotes:
    """Collects the reasons for missing values; equal causes share one mark."""

    measured: Measured
    evaluation: str
    reasons: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def marks(self, method: Method, condition: Condition, have: Sequence[int]) -> tuple[str, ...]:
        """The marks of the planned seeds that `have` lacks."""
        planned = self.measured.planned.get((method.id, condition.id, self.evaluation), [])
        if len(planned) == len(have):  # nearly all of them: skip the sets
            return ()
        lacking: dict[str, list[int]] = {}
        for seed in sorted(set(planned) - set(have)):
            cause, rerun = self._reason(method, condition, seed)
            lacking.setdefault(cause, []).append(seed)
            reruns = self.reasons.setdefault(cause, ([], []))[1]
            reruns += [rerun] * (rerun not in reruns)
        for cause, seeds in lacking.items():
            place = f"{method.label}, {condition.label}, {plural('seed', seeds)}"
            places = self.reasons[cause][0]
            places += [place] * (place not in places)
        order = list(self.reasons)
        return tuple(mark(order.index(cause)) for cause in lacking)

    def _reason(self, method: Method, condition: Condition, seed: int) -> tuple[str, str]:
        failure = self.measured.failures.get((method.id, condition.id, seed, self.evaluation))
        if failure:
            return f"failed: {failure.cause}", failure.rerun
        return "not run yet", self.measured.study.command

    def lines(self) -> tuple[Footnote, ...]:
        """Every footnote, in order of appearance."""
        return tuple(
            Footnote(mark(i), f"{'; '.join(places)}: {cause}.", merged(reruns))
            for i, (cause, (places, reruns)) in enumerate(self.reasons.items())
        )


def merged(commands: Sequence[str]) -> str:
    """One command for several that differ in `grid.methods=[...]` and `grid.seeds=[...]` only.

    It may name cells that are done; those are not run again. Others are joined by "; ".
    """
    lists: dict[str, dict[str, None]] = {}

    def collect(match: re.Match[str]) -> str:
        found = lists.setdefault(match[1], {})
        found.update(dict.fromkeys(filter(None, match[2].split(","))))
        return f"{match[1]}=[]"

    pattern = re.compile(r"(?<!\S)(grid\.(?:methods|seeds))=\[([^\]\s]*)\]")
    bare = {pattern.sub(collect, command) for command in commands}
    if len(bare) != 1:
        return "; ".join(commands)
    return re.sub(r"(grid\.(?:methods|seeds))=\[\]",
                  lambda match: f"{match[1]}=[{','.join(lists[match[1]])}]", bare.pop())


def mark(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    head = mark(index // 26 - 1) if index >= 26 else ""
    return head + MARKS[index % 26]


def plural(noun: str, items: Iterable[object]) -> str:
    """"seed 1" or "seeds 1, 2"."""
    listed = [str(item) for item in items]
    return f"{noun}{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def build_tables(measured: Measured) -> list[Table]:
    """Every table of a study, the headline and its differences first."""
    tables = []
    for cube in measured.cubes.values():
        tables.append(accuracy_table(measured, cube))
        if len(measured.study.conditions) > 1:
            tables.append(difference_table(measured, cube))
    return tables


def accuracy_table(measured: Measured, cube: Cube) -> Table:
    """Methods by conditions; the best of a column is marked where it is significantly best."""
    study, notes = measured.study, Footnotes(measured, cube.evaluation)
    summary = summarise(cube.values, study.level)
    kind = measure(cube.metric)
    best = best_of(study, cube, kind)
    entries = iter(zip(summary.estimates(), _flat(cube.rows), _flat(cube.values), strict=True))
    cells = {}
    for m, method in enumerate(study.methods):
        for c, condition in enumerate(study.conditions):
            estimate, rows, values = next(entries)
            seeds = tuple(s for s, r in zip(measured.seeds, rows, strict=True) if r >= 0)
            rows = [r for r in rows if r >= 0]
            cells[method.id, condition.id] = Cell(
                printed(estimate, kind), seeds, tuple(v for v in values if v == v), tuple(rows),
                tuple(measured.keys[r] for r in rows), notes.marks(method, condition, seeds),
                *best.get((m, c), (float("nan"), False)),
            )
    legend = (f"In {kind.printed}, mean ± half-width of the {study.level:.0%} t interval over n "
              "seeds. ")
    if kind.better:
        lowest = " (lowest)" if kind.better == "lower" else ""
        legend += (f"Bold: best{lowest} of its column, where the paired difference to the "
                   f"runner-up is significant (Holm-corrected, p < {1 - study.level:.2g}).")
    else:
        legend += "Neither more nor less of it is better, so none is marked as best."
    return Table(
        f"{cube.evaluation}-{cube.metric}", "accuracy", cube.evaluation, cube.metric,
        capital(describe(cube.evaluation, cube.metric)), legend, study.conditions, study.methods,
        cells, notes.lines(), study.command, study.base.id, study.axis_label,
    )


def difference_table(measured: Measured, cube: Cube) -> Table:
    """Base condition minus every other, paired by seed: the gap, or what a level costs."""
    study, notes = measured.study, Footnotes(measured, cube.evaluation)
    base, others = _base_and_others(study)
    kind, differences = measure(cube.metric), paired_differences(study, cube.values)
    summary = summarise(differences, study.level, "paired t")
    p = holm(summary.p.ravel()).reshape(summary.p.shape)
    entries = iter(zip(summary.estimates(), _flat(differences), p.ravel().tolist(), strict=True))
    cells = {}
    for m, method in enumerate(study.methods):
        first = cube.rows[m, base].tolist()
        for c in others:
            second, condition = cube.rows[m, c].tolist(), study.conditions[c]
            estimate, values, corrected = next(entries)
            both = [s for s, value in enumerate(values) if value == value]
            rows = [side[s] for side in (first, second) for s in both]
            sides = ((study.base, first), (condition, second))
            marks = [mark for side, found in sides for mark in notes.marks(
                method, side, [s for s, r in zip(measured.seeds, found, strict=True) if r >= 0])]
            cells[method.id, condition.id] = Cell(
                printed(estimate, kind), tuple(measured.seeds[s] for s in both),
                tuple(values[s] for s in both), tuple(rows),
                tuple(measured.keys[r] for r in rows), tuple(dict.fromkeys(marks)), corrected,
            )
    what, minus = ("gap", "-") if study.figure == "gap" else ("loss", "to")
    columns = tuple(
        replace(study.conditions[c], label=f"{study.base.label} {minus} "
                                           f"{study.conditions[c].label}") for c in others
    )
    legend = (f"In {kind.noun}, mean difference ± half-width of the {study.level:.0%} t interval "
              "over n pairs of equal seed; p of the paired t-test against 0, Holm-corrected within "
              "the table.")
    return Table(
        f"{what}-{cube.evaluation}-{cube.metric}", "difference", cube.evaluation, cube.metric,
        f"{capital(what)} in {describe(cube.evaluation, cube.metric)}", legend, columns,
        study.methods, cells, notes.lines(), study.command, study.base.id, study.axis_label,
    )


def paired_differences(study: Study, values: Floats) -> Floats:
    """(methods, conditions, seeds) -> base minus others, (methods, conditions - 1, seeds)."""
    base, others = _base_and_others(study)
    return values[:, [base]] - values[:, others]


def _base_and_others(study: Study) -> tuple[int, list[int]]:
    base = study.conditions.index(study.base)
    return base, [c for c in range(len(study.conditions)) if c != base]


def printed(estimate: Estimate, kind: Measure) -> Estimate:
    """The estimate as its measure is printed: shares in percent, others as they are."""
    return replace(estimate, scale=kind.scale, digits=kind.digits)


def best_of(study: Study, cube: Cube, kind: Measure) -> dict[tuple[int, int], tuple[float, bool]]:
    """`significantly_best` in the direction of the measure; nothing where it has none."""
    if not kind.better:
        return {}
    values = -cube.values if kind.better == "lower" else cube.values
    return significantly_best(study, values, summarise(values, study.level).mean)


def significantly_best(study: Study, values: Floats,
                       mean: Floats) -> dict[tuple[int, int], tuple[float, bool]]:
    """(method, condition) of each column's best -> (Holm-corrected p, whether it is significant).

    `values` is (methods, conditions, seeds), `mean` (methods, conditions). Only the difference to
    the runner-up is tested: it is the smallest, so picking the best of many first does not inflate
    the error (checked by simulation). Reference rows do not compete.
    """
    compete = [m for m, method in enumerate(study.methods) if not method.reference]
    best = {}
    for c in range(mean.shape[1]):
        ranked = sorted((m for m in compete if not np.isnan(mean[m, c])), key=lambda m: -mean[m, c])
        if len(ranked) > 1:
            best[ranked[0], c] = values[ranked[0], c] - values[ranked[1], c]
    if not best:
        return {}
    summary = summarise(np.stack(list(best.values())), study.level, "paired t")
    corrected = holm(summary.p)
    # the sign can turn when the two share only some of their seeds
    wins = (corrected < 1 - study.level) & (summary.mean > 0)
    return {place: (float(corrected[i]), bool(wins[i])) for i, place in enumerate(best)}


def _flat(array: npt.NDArray[Any]) -> list[list[Any]]:
    """(a, b, seeds) -> a * b lists of seeds; plain lists, since single elements are read."""
    return array.reshape(-1, array.shape[-1]).tolist()


def capital(text: str) -> str:
    """First letter upper case, except for names such as kNN."""
    return text if text[:2] == "kN" else text[:1].upper() + text[1:]
