"""Published cells beside ours: a study of papers' tables with its records, cell by cell judged.

From study.json, records.parquet and paper_tables alone; no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from .evaluation.measures import measure
from .measured import Measured
from .papers import Cell, PaperTable, label, locate, tables
from .peers import peers
from .statistics import Estimate, mean_interval
from .verdicts import (
    Direction,
    Entry,
    Spread,
    Verdict,
    directions,
    judge,
    rounding,
    spread_for,
    spreads,
)

Place = tuple[int, str]  # position of the row, name of the column
# (row, condition, evaluation, metric) -> seed -> (value, key of the evaluation)
Records = Mapping[tuple[str, ...], Mapping[int, tuple[float, str]]]


@dataclass(frozen=True)
class Result:
    """One published cell: what is published, ours in the same unit, and the verdict.

    `told` is what study.json says of it: row, condition, evaluation, metric, or a reason; `keys`
    are the evaluations behind ours, by seed.
    """

    cell: Cell
    told: Mapping[str, Any]
    ours: Estimate
    verdict: Verdict
    values: Mapping[int, float]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class PaperResult:
    """A table: `note` says at what scale it is filled, `directions` are by column."""

    table: PaperTable
    scale: str
    note: str
    command: str
    results: Mapping[Place, Result]
    directions: Mapping[str, tuple[Direction, ...]]

    @property
    def agreement(self) -> tuple[int, int, int]:
        """Differences between rows whose sign is as published, that are settled, and all."""
        found = [d for each in self.directions.values() for d in each]
        settled = [d.agrees for d in found if d.agrees is not None]
        return sum(settled), len(settled), len(found)


def paper_results(measured: Measured) -> list[PaperResult]:
    """Every table of a study, in reading order; empty for a grid."""
    if not measured.study.papers:
        return []
    study, known, records = measured.study, tables(), _records(measured)
    entries = {name: entry for name, entry in study.papers.items() if name in known}
    found = {name: _cells(known[name], entry, measured, records) for name, entry in entries.items()}
    for results in found.values():  # a mean first, so that a difference may be of means
        results |= _means(results, study.level)
    for results in found.values():
        results |= _differences(results, known, found, study.level)
    return [PaperResult(known[name], study.scale, entry["note"], study.command, found[name],
                        _directions(known[name], found[name], study.level))
            for name, entry in entries.items()]


def _records(measured: Measured) -> Records:
    """The study's records as its cells ask for them."""
    frame = measured.records
    found: dict[tuple[str, ...], dict[int, tuple[float, str]]] = {}
    columns = [frame[name].tolist() for name in ("method", "condition", "evaluation", "metric",
                                                 "seed", "value", "evaluate_key")]
    for *place, seed, value, key in zip(*columns, strict=True):
        found.setdefault(tuple(place), {})[int(seed)] = (float(value), str(key))
    return found


def _cells(table: PaperTable, entry: Mapping[str, Any], measured: Measured,
           records: Records) -> dict[Place, Result]:
    """Every published number with what was measured for it; those made of others still empty."""
    told = {(cell["row"], cell["column"]): cell for cell in entry["cells"]}
    absent = {"reason": "not asked of this study"}
    return {at: one(cell, told.get(at, absent), measured, records)
            for at, cell in table.by_place.items()}


def _means(results: Mapping[Place, Result], level: float) -> dict[Place, Result]:
    """The mean of a row's other cells, for the cells that are one."""
    found = {}
    for (row, column), result in results.items():
        if result.cell.derived == "mean":
            parts = {name: r for (i, name), r in results.items() if i == row and name != column}
            found[row, column] = made(result, parts, lambda each: sum(each) / len(each), level)
    return found


def _differences(results: Mapping[Place, Result], known: Mapping[str, PaperTable],
                 all_results: Mapping[str, Mapping[Place, Result]],
                 level: float) -> dict[Place, Result]:
    """The difference of two cells, paired by seed, for the cells that are one."""
    found = {}
    for at, result in results.items():
        places = [(name, *locate(known, name)) for name in result.cell.parts]
        if places and all(table in all_results for _, table, _ in places):
            parts = {name: all_results[table][other] for name, table, other in places}
            found[at] = made(result, parts, lambda each: each[0] - each[1], level)
    return found


def made(result: Result, parts: Mapping[str, Result],
         combine: Callable[[Sequence[float]], float], level: float) -> Result:
    """A number made of others by seed, where all of them have that seed; never of a part.

    It differs from the published number in whatever any of its parts does.
    """
    seeds = sorted(set.intersection(*(set(r.values) for r in parts.values())) if parts else ())
    if not seeds:
        return replace(result, verdict=replace(result.verdict, why=_lacking(result, parts)))
    values = {seed: combine([r.values[seed] for r in parts.values()]) for seed in seeds}
    differs = tuple(dict.fromkeys(d for r in parts.values() for d in r.told.get("differs", ())))
    told = {"derived": result.told.get("derived", ""), "differs": differs}
    verdict = judge(result.cell.value, list(values.values()), differs=differs, level=level,
                    rounding=rounding(result.cell.value, result.cell.approximate))
    return Result(result.cell, told, mean_interval(list(values.values()), level), verdict, values,
                  ())


def _lacking(result: Result, parts: Mapping[str, Result]) -> tuple[str, ...]:
    """Why a number is not made: the study's own reason, or which of its parts have none."""
    if result.told.get("reason"):
        return (str(result.told["reason"]),)
    empty = [f"{name}: {'; '.join(r.verdict.why)}" for name, r in parts.items() if not r.values]
    return tuple(empty) or ("its parts have no seed in common",)


def one(cell: Cell, told: Mapping[str, Any], measured: Measured, records: Records) -> Result:
    """A published cell with what this study has measured for it."""
    place = tuple(str(told.get(k, "")) for k in ("method", "condition", "evaluation", "metric"))
    scale = measure(place[3]).scale
    found = dict(sorted(records.get(place, {}).items()))
    values = {seed: scale * value for seed, (value, _) in found.items()}
    level = measured.study.level
    verdict = judge(cell.value, list(values.values()), differs=told.get("differs", ()),
                    spread=_spread(told), rounding=rounding(cell.value, cell.approximate),
                    missing=_missing(told, place, measured), level=level)
    return Result(cell, told, mean_interval(list(values.values()) or [float("nan")], level),
                  verdict, values, tuple(key for _, key in found.values()))


def _missing(told: Mapping[str, Any], place: Sequence[str], measured: Measured) -> list[str]:
    """Why a cell has no number: it cannot have one, it failed, or it has not been run."""
    if told.get("reason"):
        return [str(told["reason"])]
    causes = [failure.cause for failure in measured.study.failures
              if (failure.method, failure.condition, failure.evaluation) == tuple(place[:3])]
    return [f"failed: {cause}" for cause in dict.fromkeys(causes)] or ["not run yet"]


@cache
def _known_spreads() -> dict[str, Spread]:
    return spreads(peers())


def _spread(told: Mapping[str, Any]) -> Spread | None:
    """What peers say of this kind of cell: linear top-1 on ImageNet of a network trained there."""
    evaluation, _, target = str(told.get("evaluation", "")).partition("@")
    base = "linear" if evaluation.startswith("linear") else evaluation
    method = str(told.get("method", "")).split("-")[0]
    return spread_for(_known_spreads(), method, base, str(told.get("metric", "")), target)


def _directions(table: PaperTable, results: Mapping[Place, Result],
                level: float) -> dict[str, tuple[Direction, ...]]:
    """By column, the differences between rows; a row that another fills as well is taken once."""
    found = {}
    for column in (c.name for c in table.columns if c.kind == "value"):
        entries: dict[tuple[Any, ...], Entry] = {}
        for (position, name), result in results.items():
            told = result.told
            if name != column or "method" not in told or told.get("reason") \
                    or result.cell.fill is None:  # stand-ins would pose as another data set
                continue
            key = (told["method"], told["condition"], told.get("group", ""))
            entries.setdefault(key, Entry(label(table, table.rows[position]), key[2],
                                          float(told.get("budget", 0.0)), result.cell.value,
                                          result.values))
        if len(entries) > 1:
            found[column] = tuple(directions(list(entries.values()), level))
    return found
