"""The tables and figures of papers as data: published cells, where from, and what would fill them.

    paper_tables/<paper>/<table>.yaml     one table or figure each
    paper_tables/peers.yaml               what public implementations publish, and their spread

A cell's fill is its row's with its column's over it: the row says what is trained, the column how
it is evaluated; `fills` of a row says what is different in one column. Where either says `why_not`,
the cell cannot be filled here. No torch.

`epoch_images` of a table are the images of one of its epochs, where the paper counts the epochs of
every data set in those of one; `setting` of a table and, over it, of a fill is what is trained with
where that is not the scale's: {backbone, image_size, training, views}.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, unknown

# Beside the packages, in a clone and in an installation alike.
FOLDER = Path(__file__).resolve().parent.parent / "paper_tables"
MEASURED_BY = ("authors", "quoted", "unstated")
ROLES = ("role", "dataset")
FILL = ("method", "options", "views", "pretrain", "epochs", "evaluation", "target", "metric",
        "evaluation_options", "training", "setting")
SETTING = ("backbone", "image_size", "training", "views")
# A learning rate per 256 images as published, beside that of the recipe at hand.
RATES = ("base_lr", "recipe_lr")
# What a stage cannot be made without.
NEEDED = ("method", "pretrain", "epochs", "evaluation", "target")
TABLE = ("id", "paper", "number", "page", "caption", "metric", "unit", "protocol", "note",
         "sources", "columns", "rows", "epoch_images", "setting")
COLUMN = ("name", "kind", "unit", "fill", "why_not", "approximate", "derive")
PEERS = ("about", "commits", "caveats", "spread_note", "spread", "statements", "results")
ROW = ("cells", "source", "measured_by", "approximate", "fill", "why_not", "stand_in", "note",
       "fills")


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
    `fills` holds, by column, what a cell's fill has beside the row's and the column's.
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


@dataclass(frozen=True)
class Cell:
    """One published number with its source; either `fill` is complete or `why_not` says why.

    `stand_in` is a complete fill of what can be run in place of a cell whose data is private.
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

    def key(self, row: Row) -> tuple[Any, ...]:
        """What tells a row from the others: its key cells."""
        return tuple(row.cells[c.name] for c in self.columns if c.kind == "key")

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every published number, row by row; what a paper leaves empty is no cell."""
        return tuple(_cell(self, row, column) for row in self.rows for column in self.columns
                     if column.kind == "value" and row.cells[column.name] is not None)


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
        table = _table(_read(path), f"{path.parent.name}/{path.name}")
        if table.id in found:
            raise UserError(f"{path.parent.name}/{path.name}: id '{table.id}' is taken by another "
                            "file; ids are unique")
        if table.id != f"{path.parent.name}/{path.stem}":
            raise UserError(f"{path.parent.name}/{path.name}: id '{table.id}' is not its place; "
                            f"write {path.parent.name}/{path.stem}")
        found[table.id] = table
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


def label(table: PaperTable, row: Row) -> str:
    """The key cells of a row joined by commas, as `cell` takes them."""
    return ",".join("-" if k is None else str(k) for k in table.key(row))


def peers(folder: Path | str = FOLDER) -> dict[str, Any]:
    """What public implementations publish: commits, caveats, spread by method, statements, results.

    Percent. Raises UserError for an absent file or a result without source, protocol or numbers.
    """
    path = Path(folder) / "peers.yaml"
    if not path.is_file():
        raise UserError(f"{path} is absent: it comes with the repository; run in a clone")
    found = _read(path)
    _keys(found, PEERS, "peers.yaml")
    for i, result in enumerate(found["results"], 1):
        if not result.get("source") or not result.get("protocol"):
            raise UserError(f"peers.yaml: result {i} has no source or no protocol; state both")
        bad = [k for k, v in result["metrics"].items() if not _is_number(v)]
        if bad or not result["metrics"]:
            raise UserError(f"peers.yaml: result {i}: {', '.join(bad) or 'metrics'} is no number")
    return found


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
    fill, why_not = _fill(row, column)
    return Cell(table.id, table.key(row), column.name, row.cells[column.name],
                column.unit or table.unit, column.approximate or column.name in row.approximate,
                row.source, row.measured_by, fill, why_not, row.note, _stand_in(row, column))


def _fill(row: Row, column: Column) -> tuple[Mapping[str, Any] | None, str]:
    """The row's fill with the column's over it, or None and the reason."""
    own = row.fills.get(column.name, {})
    elsewhere = "" if "evaluation" in own else column.why_not
    reasons = [text for text in (row.why_not, elsewhere) if text]
    if reasons:
        return None, "; ".join(reasons)
    fill = {**(row.fill or {}), **(column.fill or {}), **own}
    lacking = [name for name in NEEDED if name not in fill]
    if lacking:
        return None, f"not published for this cell: {', '.join(lacking)}"
    return fill, ""


def _stand_in(row: Row, column: Column) -> Mapping[str, Any] | None:
    """What can be run in place of the cell; None where nothing can."""
    if row.stand_in is None or column.why_not:
        return None
    fill = {**row.stand_in, **(column.fill or {}), **row.fills.get(column.name, {})}
    return fill if all(name in fill for name in NEEDED) else None


def _read(path: Path) -> dict[str, Any]:
    """A YAML mapping; read by libyaml, where it is there, in a tenth of the time."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError as error:
        raise UserError(f"{path.name}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: a mapping is expected, this is {type(found).__name__}")
    return found


def _reading_order(path: Path) -> tuple[str, str, int]:
    """dnc before fnc, table2 before table10."""
    stem = path.stem.rstrip("0123456789")
    return path.parent.name, stem, int(path.stem[len(stem):] or 0)


def _table(data: Mapping[str, Any], file: str) -> PaperTable:
    _keys(data, TABLE, file, optional=("note", "epoch_images", "setting"))
    _check_setting(data.get("setting", {}), f"{file}: setting")
    _keys(data["paper"], ("title", "arxiv", "version"), f"{file}: paper")
    _mapping(data["sources"], f"{file}: sources")
    columns = tuple(_column(c, f"{file}: column {i}")
                    for i, c in enumerate(_list(data["columns"], f"{file}: columns"), 1))
    names = [c.name for c in columns]
    if len(set(names)) < len(names):
        raise UserError(f"{file}: two columns have one name; rename one")
    rows = tuple(_parse_row(r, columns, data["sources"], f"{file}: row {i}")
                 for i, r in enumerate(_list(data["rows"], f"{file}: rows"), 1))
    table = PaperTable(**{"note": "", **data, "columns": columns, "rows": rows})
    seen: dict[tuple[Any, ...], int] = {}
    for i, row in enumerate(rows, 1):
        if seen.setdefault(table.key(row), i) != i:
            raise UserError(f"{file}: row {i} has the key cells of row {seen[table.key(row)]}")
    return table


def _column(data: Mapping[str, Any], where: str) -> Column:
    _keys(data, COLUMN, where, optional=("unit", "fill", "why_not", "approximate", "derive"))
    if data.get("derive", "mean") != "mean":
        raise UserError(f"{where}: derive is '{data['derive']}'; write mean")
    if data["kind"] not in ("key", "value"):
        raise UserError(f"{where}: kind is '{data['kind']}'; write key or value")
    if data["kind"] == "value" and not data.get("unit"):
        raise UserError(f"{where}: '{data['name']}' has no unit; name it")
    _check_fill(data.get("fill"), where)
    return Column(**data)


def _parse_row(data: Mapping[str, Any], columns: tuple[Column, ...], sources: Collection[str],
               where: str) -> Row:
    _keys(data, ROW, where, optional=("approximate", "why_not", "stand_in", "note", "fills"))
    cells = _list(data["cells"], f"{where}: cells")
    if len(cells) != len(columns):
        raise UserError(f"{where} has {len(cells)} cells for {len(columns)} columns")
    named = {column.name: value for column, value in zip(columns, cells, strict=True)}
    for column in columns:
        _check_value(named[column.name], column, where)
    _check_source(data["source"], sources, where)
    if data["measured_by"] not in MEASURED_BY:
        raise UserError(f"{where}: measured_by is '{data['measured_by']}'; write one of "
                        f"{', '.join(MEASURED_BY)}")
    if (data["fill"] is None) != bool(data.get("why_not")):
        raise UserError(f"{where}: state either fill or, with fill: null, why_not")
    _check_fill(data["fill"], where)
    _check_fill(data.get("stand_in"), where)
    for name, fill in data.get("fills", {}).items():
        if name not in named:
            raise unknown("column", name, named, f"{where}: fills")
        _check_fill(fill, where)
    approximate = tuple(data.get("approximate", ()))
    if unheard := [name for name in approximate if name not in named]:
        raise unknown("column", unheard[0], named, f"{where}: approximate")
    return Row(**{**data, "cells": named, "approximate": approximate})


def _check_value(value: Any, column: Column, where: str) -> None:
    if column.kind == "value" and value is not None and not _is_number(value):
        raise UserError(f"{where}: {column.name} is '{value}', not a number; write one or "
                        "null")
    if isinstance(value, (list, dict)):
        raise UserError(f"{where}: {column.name} is a {type(value).__name__}; write one value")


def _check_source(source: Any, sources: Collection[str], where: str) -> None:
    """Each part, up to a semicolon, begins with the name of one of the table's sources."""
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{where} has no source; name where the numbers were seen")
    for part in source.split(";"):
        name = part.strip().replace(":", " ").split(" ")[0]
        if name not in sources:
            raise unknown("source", name, sources, where)


def _check_fill(fill: Any, where: str) -> None:
    if fill is None:
        return
    _keys(fill, FILL, f"{where}: fill", optional=FILL)
    for name in ("options", "views", "evaluation_options"):
        _mapping(fill.get(name, {}), f"{where}: fill: {name}")
    if "pretrain" in fill:
        _keys(fill["pretrain"], ROLES, f"{where}: fill: pretrain")
    for name, values in fill.get("training", {}).items():
        _keys(values, RATES, f"{where}: fill: training: {name}")
    _check_setting(fill.get("setting", {}), f"{where}: fill: setting")
    if "epochs" in fill and not _is_number(fill["epochs"]):
        raise UserError(f"{where}: fill: epochs is '{fill['epochs']}', not a number")


def _check_setting(setting: Any, where: str) -> None:
    _keys(setting, SETTING, where, optional=SETTING)
    for name in ("backbone", "training", "views"):
        _mapping(setting.get(name, {}), f"{where}: {name}")


def _keys(data: Any, allowed: Collection[str], where: str, optional: Collection[str] = ()) -> None:
    """Raise UserError unless `data` is a mapping with all of `allowed` but perhaps `optional`."""
    _mapping(data, where)
    for name in data:
        if name not in allowed:
            raise unknown("key", str(name), allowed, where)
    if lacking := [name for name in allowed if name not in data and name not in optional]:
        raise UserError(f"{where} lacks {', '.join(lacking)}")


def _mapping(data: Any, where: str) -> None:
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: a mapping is expected, this is {type(data).__name__}")


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list) or not data:
        raise UserError(f"{where}: a list with something in it is expected")
    return data


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))
