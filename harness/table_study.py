"""A study of papers' tables: `table=dnc/table3`, `table=dnc` or `table=all` as explicit requests.

The cells of all tables are asked of one study, so that a run that several of them need is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from methods.registry import MethodSpec

from .errors import UserError, unknown
from .fills import PAPER, Filling, Scale, at
from .papers import PaperTable, locate, tables
from .study import Condition, Request, Row

ALL = "all"


@dataclass(frozen=True)
class Wanted:
    """What the tables ask for: a configuration with their grid in it, rows, data and requests.

    `papers` is what study.json says of them: by table a note and its cells.
    """

    config: dict[str, Any]
    rows: tuple[Row, ...]
    conditions: tuple[Condition, ...]
    requests: Callable[[Sequence[int]], tuple[Request, ...]]
    papers: dict[str, Any]


def choices() -> list[str]:
    """What `table=NAME` takes: every table, every paper, all."""
    found = list(tables())
    return [ALL, *dict.fromkeys(name.split("/")[0] for name in found), *found]


def select(name: str) -> dict[str, PaperTable]:
    """The tables that a name stands for. Raises UserError with the nearest name."""
    found = tables()
    chosen = {key: table for key, table in found.items()
              if name in (ALL, key, key.split("/")[0])}
    if not chosen:
        raise unknown("table", name, choices())
    return chosen


def study_name(name: str) -> str:
    """"dnc/table3" as the name of a study's folder: dnc-table3, dnc-tables, all-tables."""
    return name.replace("/", "-") if "/" in name else f"{name}-tables"


def wanted(config: Mapping[str, Any], specs: Mapping[str, MethodSpec],
           backbone: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Wanted:
    """What the tables named by `config["table"]` need at the configuration's scale."""
    name = str(config["table"])
    chosen = select(name)
    scale = at(config, specs, backbone)
    cells = settled({key: scale.fillings(table) for key, table in chosen.items()})
    fillings = [cell for found in cells.values() for cell in found if cell.row]
    if not fillings:
        reasons = dict.fromkeys(cell.reason for found in cells.values() for cell in found)
        raise UserError(f"nothing of table '{name}' can be filled here: {'; '.join(reasons)}")
    papers = {key: {"note": scale.note(table), "cells": [_told(cell) for cell in cells[key]]}
              for key, table in chosen.items()}
    full = _configuration(config, chosen, scale, fillings)
    return Wanted(full, tuple(scale.rows.values()), tuple(scale.conditions.values()),
                  lambda seeds: _requests(fillings, seeds), papers)


def settled(cells: Mapping[str, Sequence[Filling]]) -> dict[str, list[Filling]]:
    """The fillings with those cells told that are made of others: of which, or why not.

    A mean is of the row's other columns, a difference of two cells, perhaps of other tables.
    """
    known = tables()
    by_place = {(name, cell.place): cell for name, found in cells.items() for cell in found}
    return {name: [_derived(known, cell, by_place) for cell in found]
            for name, found in cells.items()}


def _derived(known: Mapping[str, PaperTable], asked: Filling,
             by_place: Mapping[tuple[str, tuple[int, str]], Filling]) -> Filling:
    published = known[asked.table].by_place[asked.place]
    if not published.derived:
        return asked
    parts = {name: by_place.get(locate(known, name)) for name in published.parts} or {
        column: cell for (table, (row, column)), cell in by_place.items()
        if (table, row) == (asked.table, asked.place[0]) and column != asked.place[1]}
    if absent := sorted({name.split(":")[0] for name, cell in parts.items() if cell is None}):
        paper = asked.table.split("/")[0]
        return replace(asked, reason=f"the difference of cells of {', '.join(absent)}, which this "
                                     f"study does not ask for; table={paper} does")
    empty = [cell.reason for cell in parts.values() if cell and not cell.row]
    if empty:
        return replace(asked, reason=f"made of {len(parts)} cells, of which {len(empty)} cannot be "
                                     f"filled: {'; '.join(dict.fromkeys(empty))}")
    derived = published.why_not if published.parts else f"the mean of {len(parts)} columns"
    return replace(asked, reason="", derived=derived)


def _requests(fillings: Sequence[Filling], seeds: Sequence[int]) -> tuple[Request, ...]:
    """Each (row, condition) once, with every evaluation that any cell asks of it."""
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for cell in fillings:
        asked.setdefault((cell.row, cell.condition), {})[cell.evaluation] = None
    return tuple(Request(row, condition, seed, tuple(names))
                 for (row, condition), names in asked.items() for seed in seeds)


def _configuration(config: Mapping[str, Any], chosen: Mapping[str, PaperTable], scale: Scale,
                   fillings: Sequence[Filling]) -> dict[str, Any]:
    """The configuration with the tables in the place of a grid."""
    name, first = str(config["table"]), next(iter(chosen.values()))
    alone = len(chosen) == 1
    short = first.paper["title"].split(":")[0]
    names = list(dict.fromkeys(cell.evaluation for cell in fillings))
    grid = {
        **config["grid"], "name": study_name(name), "methods": [], "variants": {}, "axis": None,
        "title": f"{short}, {first.number}" if alone else f"{len(chosen)} published tables",
        "caption": f"{first.caption}." if alone else
        f"The tables and figures of {', '.join(dict.fromkeys(k.split('/')[0] for k in chosen))}.",
        "figure": "gap", "evaluations": names,
        "conditions": list(dict.fromkeys(cell.condition for cell in fillings)),
        "headline": {"evaluation": fillings[0].evaluation, "metric": fillings[0].metric}}
    # at the scale `paper` every data set is named by its cells; the configured one is in no table
    data = {**config["data"], "label": "the papers' own data sets", "note": None} \
        if config["scale"]["name"] == PAPER else config["data"]
    return {**config, "grid": grid, "data": data,
            "protocols": {**(config.get("protocols") or {}), **scale.protocols},
            "targets": {**(config.get("targets") or {}), **scale.targets}}


def _told(cell: Filling) -> dict[str, Any]:
    """A cell as study.json holds it; what is empty is left out."""
    told = {"row": cell.place[0], "column": cell.place[1], "method": cell.row,
            "condition": cell.condition, "evaluation": cell.evaluation, "metric": cell.metric,
            "differs": list(cell.differs), "reason": cell.reason, "budget": cell.budget,
            "group": cell.group, "derived": cell.derived}
    return {key: value for key, value in told.items() if value or key == "row"}
