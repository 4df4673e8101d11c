"""Paper tables as text: the listing of all, and one in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .papers import Column, PaperTable, Row, label, tables


def listing() -> dict[str, dict[str, Any]]:
    """id -> caption, paper, number of cells and how many the methods and evaluations here can fill,
    and the table itself as lines."""
    return {name: describe(table) for name, table in tables().items()}


def describe(table: PaperTable) -> dict[str, Any]:
    """One table as the listing prints it."""
    fillable = sum(cell.fill is not None for cell in table.cells)
    derived = sum(bool(cell.derived) for cell in table.cells)
    return {
        "summary": f"{table.caption} ({len(table.cells)} cells, {fillable} can be filled"
                   + (f", {derived} made of others)" if derived else ")"),
        "paper": f"{table.paper['title'].split(':')[0]}, arXiv {table.paper['arxiv']}, "
                 f"{table.number}",
        "metric": f"{table.metric} ({table.unit})", "protocol": table.protocol, "note": table.note,
        "table": render(table).splitlines(), "columns": _column_lines(table),
        "rows": _row_lines(table), "sources": dict(table.sources),
    }


def render(table: PaperTable) -> str:
    """The cells in aligned columns; "~" is approximate, "*" quoted, "?" of unstated origin."""
    head = [column.name for column in table.columns]
    body = [[_text(row, column) for column in table.columns] + [_mark(row)] for row in table.rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    right = [column.kind == "value" for column in table.columns]
    return "\n".join(_line(line, widths, right) for line in [[*head, ""], *body])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [text.rjust(width) if to_right else text.ljust(width)
              for text, width, to_right in zip(cells, widths, right, strict=False)]
    return f"{'  '.join(padded)} {cells[-1]}".rstrip()


def _text(row: Row, column: Column) -> str:
    value = row.cells[column.name]
    near = column.approximate or column.name in row.approximate
    return "-" if value is None else f"{'~' if near else ''}{value}"


def _mark(row: Row) -> str:
    return {"authors": "", "quoted": "*", "unstated": "?"}[row.measured_by]


def _column_lines(table: PaperTable) -> list[str]:
    return [f"{column.name} ({column.unit}): {column.why_not or fill_text(column.fill or {})}"
            for column in table.columns if column.kind == "value"
            and (column.why_not or column.fill)]


def _row_lines(table: PaperTable) -> list[str]:
    """What would be trained for each row, and its note."""
    lines = []
    for row in table.rows:
        what = fill_text(row.fill) if row.fill is not None else row.why_not
        made = "; ".join(f"{name} is {' minus '.join(parts)}"
                         for name, parts in row.differences.items())
        what = "; ".join(filter(None, (what, _assumed(table, row), made)))
        stand_in = f" [{fill_text(row.stand_in)}]" if row.stand_in else ""
        note = f". {row.note}" if row.note else ""
        lines.append(f"{label(table, row)}: {what}{stand_in}{note}")
    return lines


def _assumed(table: PaperTable, row: Row) -> str:
    cells = (table.by_place.get((table.rows.index(row), c.name)) for c in table.columns)
    return next((f"epochs not stated, {cell.assumed}" for cell in cells
                 if cell and cell.assumed), "")


def fill_text(fill: Mapping[str, Any]) -> str:
    """"dnc schedule=3000, uncurated (yfcc100m), 3000 epochs, linear top1 on imagenet"."""
    settings = {**fill.get("options", {}), **fill.get("views", {})}
    parts = [" ".join([fill.get("method", ""), *(f"{k}={v}" for k, v in settings.items())]).strip()]
    if pretrain := fill.get("pretrain"):
        parts.append(f"{pretrain['role']} ({pretrain['dataset']})")
    if "epochs" in fill:
        parts.append(f"{fill['epochs']} epochs")
    chosen = [f"{k}={v}" for k, v in fill.get("evaluation_options", {}).items()]
    target = f"on {fill['target']}" if "target" in fill else ""
    how = [fill.get("evaluation", ""), fill.get("metric", ""), target, *chosen]
    parts.append(" ".join(part for part in how if part))
    return ", ".join(part for part in parts if part)
