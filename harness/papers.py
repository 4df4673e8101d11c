"""The tables and figures of papers as data: published cells, where from, and what would fill them.

    paper_tables/<paper>/<table>.yaml     one table or figure each

A cell's fill is its row's with its column's over it: the row says what is trained, the column how
it is evaluated; `fills` of a row says what is different in one column. Where either says `why_not`,
the cell cannot be filled here. No torch.

Where a paper does not say how long was trained, `assumed` of a table or a row gives epochs and why
these: such a cell is run and never judged. A cell that is the difference of two others names them
in `differences` of its row: by column, [minuend, subtrahend], each COLUMN of the same row,
ROW:COLUMN of the same table, or TABLE:ROW:COLUMN.

`epoch_images` of a table are the images of one of its epochs, where the paper counts the epochs of
every data set in those of one; `setting` of a table and, over it, of a fill is what is trained with
where that is not the scale's: {backbone, image_size, training, views}.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import UserError, unknown
from .paper_checks import (
    MEASURED_BY,
    check_assumed,
    check_fill,
    check_keys,
    check_mapping,
    check_setting,
    check_source,
    check_value,
    differences_of,
    listed,
    read_mapping,
)

# Beside the packages, in a clone and in an installation alike.
FOLDER = Path(__file__).resolve().parent.parent / "paper_tables"
# What a stage cannot be made without.
NEEDED = ("method", "pretrain", "epochs", "evaluation", "target")
TABLE = ("id", "paper", "number", "page", "caption", "metric", "unit", "protocol", "note",
         "sources", "columns", "rows", "epoch_images", "setting", "assumed")
COLUMN = ("name", "kind", "unit", "fill", "why_not", "approximate", "derive")
ROW = ("cells", "source", "measured_by", "approximate", "fill", "why_not", "stand_in", "note",
       "fills", "assumed", "differences")
ROW_OPTIONAL = ("approximate", "why_not", "stand_in", "note", "fills", "assumed", "differences")


@dataclass(frozen=True)
class Column:
    """kind "key": what the row is; kind "value": a published number, in `unit`.

    derive "mean": the mean of the row's other numbers, not a run of its own.
    """

    name: str
    kind: str
    unit: str = ""
    fill: Mapping[str, Any] | None = None
    why_not: str = ""
    approximate: bool = False
    derive: str = ""


@dataclass(frozen=True)
class Row:
    """`cells` by column. `measured_by` says whether the paper's authors measured or quote it.

    `fill` is what would be trained, or None for the reason in `why_not`; `stand_in` then is what
    can be trained instead. `approximate` names columns that are read off a plot or printed as "~".
    `fills` holds, by column, what a cell's fill has beside the row's and the column's, and
    `differences` the two cells that a third is the difference of; `assumed` are epochs of ours.
    """

    cells: Mapping[str, Any]
    source: str
    measured_by: str
    approximate: tuple[str, ...] = ()
    fill: Mapping[str, Any] | None = None
    why_not: str = ""
    stand_in: Mapping[str, Any] | None = None
    note: str = ""
    fills: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    assumed: Mapping[str, Any] | None = None
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One published number with its source; either `fill` is complete or `why_not` says why.

    `stand_in` is a complete fill of what can be run in place of a cell whose data is private.
    `assumed` says which epochs of the fill are ours, and why. `derived` is "mean" or "difference"
    where the number follows from others; `parts` are the two of a difference, TABLE:ROW:COLUMN.
    """

    table: str
    key: tuple[Any, ...]
    column: str
    value: float
    unit: str
    approximate: bool
    source: str
    measured_by: str
    fill: Mapping[str, Any] | None
    why_not: str
    note: str
    stand_in: Mapping[str, Any] | None = None
    assumed: str = ""
    derived: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of a paper; `paper` has title, arxiv and version."""

    id: str
    paper: Mapping[str, str]
    number: str
    page: int | None
    caption: str
    metric: str
    unit: str
    protocol: str
    note: str
    sources: Mapping[str, str]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    epoch_images: int | None = None
    setting: Mapping[str, Any] = field(default_factory=dict)
    assumed: Mapping[str, Any] | None = None

    def key(self, row: Row) -> tuple[Any, ...]:
        """What tells a row from the others: its key cells."""
        return tuple(row.cells[c.name] for c in self.columns if c.kind == "key")

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every published number, row by row; what a paper leaves empty is no cell."""
        return tuple(_cell(self, row, column) for row in self.rows for column in self.columns
                     if column.kind == "value" and row.cells[column.name] is not None)

    @cached_property
    def by_place(self) -> dict[tuple[int, str], Cell]:
        """The same by the row's position and the column."""
        positions = {self.key(row): i for i, row in enumerate(self.rows)}
        return {(positions[cell.key], cell.column): cell for cell in self.cells}


def tables(folder: Path | str = FOLDER) -> dict[str, PaperTable]:
    """Every table by id ("dnc/table3"), in reading order.

    Raises UserError, a ValueError of one line, for an absent folder and for the first file that is
    not as it should be, naming file, row and what is wrong.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*/*.yaml"), key=_reading_order)
    files = [path for path in files if path.name != "claims.yaml"]
    if not files:
        raise UserError(f"no paper tables in {folder}: they come with the repository; run in a "
                        "clone, installed by `pip install -e .`")
    found: dict[str, PaperTable] = {}
    for path in files:
        table = _table(read_mapping(path), f"{path.parent.name}/{path.name}")
        if table.id in found:
            raise UserError(f"{path.parent.name}/{path.name}: id '{table.id}' is taken by another "
                            "file; ids are unique")
        if table.id != f"{path.parent.name}/{path.stem}":
            raise UserError(f"{path.parent.name}/{path.name}: id '{table.id}' is not its place; "
                            f"write {path.parent.name}/{path.stem}")
        found[table.id] = table
    for table in found.values():
        _check_differences(table, found)
    return found


def cell(table: PaperTable, row: int | str, column: str) -> Cell:
    """One cell. `row` is its position from 0, or key cells joined by commas ("YFCC100M,DnC,4500")
    as many as tell it from the others. Raises UserError for none, several, or an empty cell."""
    columns = {c.name: c for c in table.columns if c.kind == "value"}
    if column not in columns:
        raise unknown("column", column, columns, table.id)
    found = _row(table, row)
    if found.cells[column] is None:
        raise UserError(f"{table.id}: {label(table, found)}: {column} is empty in the paper")
    return _cell(table, found, columns[column])


def locate(known: Mapping[str, PaperTable], name: str) -> tuple[str, tuple[int, str]]:
    """The table of TABLE:ROW:COLUMN, the row's position and the column. Raises UserError where
    there is no such number."""
    own, _, rest = name.partition(":")
    if own not in known:
        raise unknown("table", own, known)
    row, _, column = rest.rpartition(":")
    found = cell(known[own], row, column)
    return own, (next(i for i, r in enumerate(known[own].rows)
                      if known[own].key(r) == found.key), column)


def label(table: PaperTable, row: Row) -> str:
    """The key cells of a row joined by commas, as `cell` takes them."""
    return ",".join("-" if k is None else str(k) for k in table.key(row))


def _row(table: PaperTable, row: int | str) -> Row:
    if isinstance(row, int):
        if not 0 <= row < len(table.rows):
            raise UserError(f"{table.id} has rows 0 to {len(table.rows) - 1}, not {row}")
        return table.rows[row]
    wanted = set(row.split(","))
    found = ([r for r in table.rows if label(table, r) == row]
             or [r for r in table.rows if wanted <= set(label(table, r).split(","))])
    if not found:
        raise unknown("row", row, [label(table, r) for r in table.rows], table.id)
    if len(found) > 1:
        raise UserError(f"{table.id}: '{row}' is {len(found)} rows; name one of "
                        + "; ".join(label(table, r) for r in found))
    return found[0]


def _cell(table: PaperTable, row: Row, column: Column) -> Cell:
    assumed = row.assumed or table.assumed
    parts = tuple(_full(table, row, text) for text in row.differences.get(column.name, ()))
    fill, why_not = _fill(row, column, assumed)
    if parts:
        fill, why_not = None, f"the difference {' minus '.join(parts)}"
    stand_in = _stand_in(row, column, assumed)
    ours = assumed if not _stated(row, column) and (fill or stand_in) else None
    return Cell(table.id, table.key(row), column.name, row.cells[column.name],
                column.unit or table.unit, column.approximate or column.name in row.approximate,
                row.source, row.measured_by, fill, why_not, row.note,
                None if parts else stand_in,
                f"{ours['epochs']:g} assumed: {ours['why']}" if ours else "",
                "difference" if parts else column.derive, parts)


def _full(table: PaperTable, row: Row, text: str) -> str:
    """COLUMN, ROW:COLUMN or TABLE:ROW:COLUMN as the last of them."""
    parts = text.split(":")
    if len(parts) > 2:
        return text
    return ":".join([table.id, label(table, row), text] if len(parts) == 1 else [table.id, text])


def _stated(row: Row, column: Column) -> bool:
    """Whether the paper says how long was trained."""
    fills = (row.fill, row.stand_in, column.fill, row.fills.get(column.name))
    return any("epochs" in fill for fill in fills if fill)


def _fill(row: Row, column: Column,
          assumed: Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, str]:
    """The row's fill with the column's over it, or None and the reason."""
    own = row.fills.get(column.name, {})
    elsewhere = "" if "evaluation" in own else column.why_not
    reasons = [text for text in (row.why_not, elsewhere) if text]
    if reasons:
        return None, "; ".join(reasons)
    fill = {**_epochs(assumed), **(row.fill or {}), **(column.fill or {}), **own}
    lacking = [name for name in NEEDED if name not in fill]
    if lacking:
        return None, f"not published for this cell: {', '.join(lacking)}"
    return fill, ""


def _epochs(assumed: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"epochs": assumed["epochs"]} if assumed else {}


def _stand_in(row: Row, column: Column,
              assumed: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What can be run in place of the cell; None where nothing can."""
    if row.stand_in is None or column.why_not:
        return None
    fill = {**_epochs(assumed), **row.stand_in, **(column.fill or {}),
            **row.fills.get(column.name, {})}
    return fill if all(name in fill for name in NEEDED) else None


def _reading_order(path: Path) -> tuple[str, str, int]:
    """dnc before fnc, table2 before table10."""
    stem = path.stem.rstrip("0123456789")
    return path.parent.name, stem, int(path.stem[len(stem):] or 0)


def _table(data: Mapping[str, Any], file: str) -> PaperTable:
    check_keys(data, TABLE, file, optional=("note", "epoch_images", "setting", "assumed"))
    check_setting(data.get("setting", {}), f"{file}: setting")
    check_assumed(data.get("assumed"), file)
    check_keys(data["paper"], ("title", "arxiv", "version"), f"{file}: paper")
    check_mapping(data["sources"], f"{file}: sources")
    columns = tuple(_column(c, f"{file}: column {i}")
                    for i, c in enumerate(listed(data["columns"], f"{file}: columns"), 1))
    names = [c.name for c in columns]
    if len(set(names)) < len(names):
        raise UserError(f"{file}: two columns have one name; rename one")
    rows = tuple(_parse_row(r, columns, data["sources"], f"{file}: row {i}")
                 for i, r in enumerate(listed(data["rows"], f"{file}: rows"), 1))
    table = PaperTable(**{"note": "", **data, "columns": columns, "rows": rows})
    seen: dict[tuple[Any, ...], int] = {}
    for i, row in enumerate(rows, 1):
        if seen.setdefault(table.key(row), i) != i:
            raise UserError(f"{file}: row {i} has the key cells of row {seen[table.key(row)]}")
    return table


def _column(data: Mapping[str, Any], where: str) -> Column:
    check_keys(data, COLUMN, where, optional=("unit", "fill", "why_not", "approximate", "derive"))
    if data.get("derive", "mean") != "mean":
        raise UserError(f"{where}: derive is '{data['derive']}'; write mean")
    if data["kind"] not in ("key", "value"):
        raise UserError(f"{where}: kind is '{data['kind']}'; write key or value")
    if data["kind"] == "value" and not data.get("unit"):
        raise UserError(f"{where}: '{data['name']}' has no unit; name it")
    check_fill(data.get("fill"), where)
    return Column(**data)


def _parse_row(data: Mapping[str, Any], columns: tuple[Column, ...], sources: Collection[str],
               where: str) -> Row:
    check_keys(data, ROW, where, optional=ROW_OPTIONAL)
    cells = listed(data["cells"], f"{where}: cells")
    if len(cells) != len(columns):
        raise UserError(f"{where} has {len(cells)} cells for {len(columns)} columns")
    named = {column.name: value for column, value in zip(columns, cells, strict=True)}
    for column in columns:
        check_value(named[column.name], column.kind, column.name, where)
    check_source(data["source"], sources, where)
    if data["measured_by"] not in MEASURED_BY:
        raise UserError(f"{where}: measured_by is '{data['measured_by']}'; write one of "
                        f"{', '.join(MEASURED_BY)}")
    check_assumed(data.get("assumed"), where)
    differences = differences_of(data.get("differences", {}), named, where)
    reason = data.get("why_not") or (data["fill"] is None and differences)
    if (data["fill"] is None) != bool(reason):
        raise UserError(f"{where}: state either fill or, with fill: null, why_not")
    check_fill(data["fill"], where)
    check_fill(data.get("stand_in"), where)
    for name, fill in data.get("fills", {}).items():
        if name not in named:
            raise unknown("column", name, named, f"{where}: fills")
        check_fill(fill, where)
    approximate = tuple(data.get("approximate", ()))
    if unheard := [name for name in approximate if name not in named]:
        raise unknown("column", unheard[0], named, f"{where}: approximate")
    return Row(**{**data, "cells": named, "approximate": approximate, "differences": differences})


def _check_differences(table: PaperTable, known: Mapping[str, PaperTable]) -> None:
    """Both cells of every difference are numbers of their own; UserError names the row else."""
    for row in (row for row in table.rows if row.differences):
        for name in row.differences:
            for part in cell(table, label(table, row), name).parts:
                where = f"{table.id}.yaml: {label(table, row)}: differences: {name}: {part}"
                try:
                    own, (position, column) = locate(known, part)
                except UserError as error:
                    raise UserError(f"{where}: {error}") from None
                if column in known[own].rows[position].differences:
                    raise UserError(f"{where} is a difference itself; name what it is made of")
