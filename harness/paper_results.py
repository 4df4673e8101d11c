"""Published cells beside ours: a study of papers' tables with its records, cell by cell judged.

From study.json, records.parquet and paper_tables alone; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .evaluation.measures import measure
from .measured import Measured
from .papers import Cell, PaperTable, label, peers, tables
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
    known, records = tables(), _records(measured)
    return [_result(known[name], entry, measured, records)
            for name, entry in measured.study.papers.items() if name in known]


def _records(measured: Measured) -> dict[tuple[str, ...], dict[int, tuple[float, str]]]:
    """(row, condition, evaluation, metric) -> seed -> (value, key of the evaluation)."""
    frame = measured.records
    found: dict[tuple[str, ...], dict[int, tuple[float, str]]] = {}
    columns = [frame[name].tolist() for name in ("method", "condition", "evaluation", "metric",
                                                 "seed", "value", "evaluate_key")]
    for *place, seed, value, key in zip(*columns, strict=True):
        found.setdefault(tuple(place), {})[int(seed)] = (float(value), str(key))
    return found


def _result(table: PaperTable, entry: Mapping[str, Any], measured: Measured,
            records: Mapping[tuple[str, ...], Mapping[int, tuple[float, str]]]) -> PaperResult:
    told = {(cell["row"], cell["column"]): cell for cell in entry["cells"]}
    positions = {table.key(row): i for i, row in enumerate(table.rows)}
    results = {}
    for cell in table.cells:
        place = positions[cell.key], cell.column
        results[place] = one(cell, told.get(place, {"reason": "not asked of this study"}), measured,
                             records)
    for column in (c.name for c in table.columns if c.derive):
        results |= _means(column, results, measured.study.level)
    return PaperResult(table, measured.study.scale, entry["note"], measured.study.command, results,
                       _directions(table, results, measured.study.level))


def _means(column: str, results: Mapping[Place, Result], level: float) -> dict[Place, Result]:
    """The mean of a row's other cells by seed, where all of them have that seed; never of a part.

    It differs from the published mean in whatever any of its parts does.
    """
    found = {}
    for place, result in results.items():
        parts = [r for (row, name), r in results.items() if row == place[0] and name != column]
        seeds = set.intersection(*(set(r.values) for r in parts)) if parts else set()
        if place[1] != column or not seeds:
            continue
        values = {s: sum(r.values[s] for r in parts) / len(parts) for s in sorted(seeds)}
        differs = tuple(dict.fromkeys(d for r in parts for d in r.told.get("differs", ())))
        verdict = judge(result.cell.value, list(values.values()), differs=differs, level=level,
                        rounding=rounding(result.cell.value, result.cell.approximate))
        found[place] = Result(result.cell, {"differs": differs}, mean_interval(
            list(values.values()), level), verdict, values, ())
    return found


def one(cell: Cell, told: Mapping[str, Any], measured: Measured,
        records: Mapping[tuple[str, ...], Mapping[int, tuple[float, str]]]) -> Result:
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
